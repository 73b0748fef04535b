"""``mosaik log inspect``: whose logs a closed store holds, and how far they reach."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from mosaik.cli.stored import data_dir_option, human_size, json_option
from mosaik.cli.table import field_lines, printable
from mosaik.primitives.durable import Anchor
from mosaik.primitives.errors import CorruptEntry
from mosaik.storage.closed import engine_of, opened_closed
from mosaik.storage.contract import LogIdentity
from mosaik.storage.environment import EngineEnvironment
from mosaik.storage.log import Look
from mosaik.storage.registry import storage_size
from mosaik.storage.url import StorageURL

__all__ = ["LogReport", "Position", "StoreReport", "inspect", "report_on"]


class Position(msgspec.Struct, frozen=True):
    """A place in a log; the checksum stands for all that comes before it, too."""

    term: int
    index: int
    checksum: str

    @classmethod
    def of(cls, anchor: Anchor) -> Position:
        return cls(anchor.term, anchor.index, f"{anchor.checksum:08x}")

    def __str__(self) -> str:
        if not self.index:
            return "none"
        return f"{self.index} (term {self.term}, checksum {self.checksum})"


class LogReport(msgspec.Struct, frozen=True, kw_only=True):
    """One log, as it lies there.

    Attributes:
        group, peer, key: whose it is, in hex; empty where that cannot be read.
        parts: what the group's id is made of besides the key.
        store, life: which replica of the node it is.
        history: the history that it belongs to; empty before there is one.
        term: the newest that the replica knows.
        vote: whom it voted for in that term, as ``peer/store.life``.
        pruned: the last entry that was removed from the front.
        last: the last good entry.
        watermark: the last that is certain to have been acknowledged.
        entries: how many there are between the two.
        suspect: first and last index of a tail that is damaged beyond the watermark.
        quarantine: it takes no part: its copy was not finished, or it was rolled back.
        damage: what is wrong with it, as far as that shows without reading all of it.
    """

    group: str
    peer: str = ""
    key: str = ""
    parts: Mapping[str, str] = {}
    store: str = ""
    life: int = 0
    history: str = ""
    term: int = 0
    vote: str | None = None
    pruned: Position | None = None
    last: Position | None = None
    watermark: Position | None = None
    entries: int = 0
    suspect: tuple[int, int] | None = None
    quarantine: bool = False
    damage: str = ""


class StoreReport(msgspec.Struct, frozen=True, kw_only=True):
    """A store.

    Attributes:
        url: where it is.
        bytes: what its files take on the disk.
        peer, store: the node it belongs to, and its id.
        engine, sync, capabilities, settings: what the backend says of itself.
        boot: under which start of the machine it was written, where it does not sync; else empty.
        logs: what it holds.
        damage: why it could not be opened; empty when it could.
    """

    url: str
    bytes: int
    peer: str = ""
    store: str = ""
    engine: str = ""
    sync: str = ""
    capabilities: tuple[str, ...] = ()
    settings: Mapping[str, str] = {}
    boot: str = ""
    logs: tuple[LogReport, ...] = ()
    damage: str = ""

    @property
    def good(self) -> bool:
        """Whether no damage shows."""
        return not self.damage and not any(log.damage or log.suspect for log in self.logs)


@click.command()
@click.argument("url")
@data_dir_option
@json_option
def inspect(url: str, data_dir: Path | None, as_json: bool) -> None:
    """Show whose logs the closed store at URL holds.

    Reads the ends of the logs, and changes nothing. Ends with status 1 where damage shows; `mosaik log
    verify` reads everything.
    """
    report = report_on(url, data_dir)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(report), indent=2))
    else:
        click.echo("\n".join(_store_lines(report)))
    if not report.good:
        click.get_current_context().exit(1)


def report_on(url: str, data_dir: Path | None) -> StoreReport:
    """What a closed store holds, as far as it can be read.

    Raises:
        StorageUnavailable, StorageLocked, StorageFormatTooNew, ConfigError: it cannot be opened.
    """
    size = storage_size(url, data_dir=data_dir)
    try:
        with opened_closed(url, data_dir=data_dir) as environment:
            return _report(engine_of(environment), size)
    except CorruptEntry as error:
        return StoreReport(url=str(StorageURL.parse(url)), bytes=size, damage=error.reason)


def _report(environment: EngineEnvironment, size: int) -> StoreReport:
    described, record, header = environment.describe(), environment.record, environment.header
    return StoreReport(
        url=described.url,
        bytes=size,
        peer=record.peer.hex(),
        store=record.store.hex(),
        engine=described.engine,
        sync=described.sync,
        capabilities=tuple(sorted(described.capabilities)),
        settings=described.settings,
        boot=header.boot.hex() if header is not None and any(header.boot) else "",
        logs=tuple(_log_report(environment, group, found) for group, found in environment.survey()),
    )


def _log_report(
    environment: EngineEnvironment, group: bytes, identity: LogIdentity | CorruptEntry
) -> LogReport:
    if isinstance(identity, CorruptEntry):
        return LogReport(group=group.hex(), damage=identity.reason)
    look = environment.look(group)
    log, hard = look.log, look.log.hard_state
    return LogReport(
        group=group.hex(),
        peer=identity.peer.hex(),
        key=identity.key.hex(),
        parts=identity.parts,
        store=hard.store.hex(),
        life=hard.life,
        history=hard.history.hex(),
        term=hard.term,
        vote=str(hard.voted_for) if hard.voted_for is not None else None,
        pruned=Position.of(log.anchor),
        last=Position.of(log.tail),
        watermark=Position.of(look.mark),
        entries=log.tail.index - log.anchor.index,
        suspect=(log.suspect.start, log.suspect.end) if log.suspect else None,
        quarantine=hard.quarantine,
        damage=_damage(look),
    )


def _damage(look: Look) -> str:
    if look.trouble is not None:
        return f"its end cannot be read: {look.trouble.reason}"
    good, acknowledged = look.log.tail.index, look.mark.index
    if good < acknowledged:
        return f"it ends at {good}, and {acknowledged} entries were acknowledged"
    return ""


def _store_lines(report: StoreReport) -> list[str]:
    # A server's store has no files here.
    fields: list[tuple[str, Any]] = [("size", human_size(report.bytes))] if report.bytes else []
    if report.damage:
        fields.append(("damage", report.damage))
    else:
        fields = [
            ("node", report.peer[:10]),
            ("store id", report.store),
            *fields,
            ("engine", report.engine),
            ("sync", report.sync),
            ("survives", ", ".join(report.capabilities) or "nothing"),
            ("settings", ", ".join(f"{name}={value}" for name, value in report.settings.items())),
        ]
        if report.boot:
            fields.append(("boot", report.boot))
        fields.append(("logs", len(report.logs)))
    lines = [report.url, *field_lines(fields)]
    for log in report.logs:
        lines += ["", f"group {log.group[:10]}", *field_lines(_log_fields(log))]
    return lines


def _log_fields(log: LogReport) -> list[tuple[str, Any]]:
    if not log.peer:
        return [("damage", log.damage)]
    fields: list[tuple[str, Any]] = [
        ("entries", _range(log)),
        ("pruned", log.pruned),
        ("last", log.last),
        ("watermark", log.watermark),
        ("term", log.term),
        ("vote", log.vote or "none in this term"),
        ("replica", f"{log.peer[:10]}/{log.store}.{log.life}"),
        ("history", log.history[:10] or "none yet"),
        ("parts", ", ".join(f"{name}={printable(value)}" for name, value in log.parts.items())),
    ]
    if log.quarantine:
        fields.append(("quarantine", "yes: it takes no part in anything"))
    if log.suspect:
        first, last = log.suspect
        fields.append(("suspect", f"{first} to {last}: damaged beyond the watermark"))
    if log.damage:
        fields.append(("damage", log.damage))
    return fields


def _range(log: LogReport) -> str:
    if not log.entries or log.pruned is None or log.last is None:
        return "none"
    return f"{log.entries:,} ({log.pruned.index + 1} to {log.last.index})"
