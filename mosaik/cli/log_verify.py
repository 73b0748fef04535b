"""``mosaik log verify``: every bad entry of a closed store, by name."""

from __future__ import annotations

import json
from pathlib import Path

import click
import msgspec

from mosaik.cli.counting import counting
from mosaik.cli.stored import data_dir_option, json_option
from mosaik.primitives.digest import short
from mosaik.primitives.errors import CorruptEntry
from mosaik.storage.closed import engine_of, opened_closed
from mosaik.storage.environment import EngineEnvironment
from mosaik.storage.findings import Finding, find_damage_in_look
from mosaik.storage.url import StorageURL

__all__ = ["LogFindings", "StoreFindings", "find_all", "verify"]


class LogFindings(msgspec.Struct, frozen=True):
    """One log: its group's id in hex, how many entries were read, and what is wrong."""

    group: str
    entries: int
    findings: tuple[Finding, ...]


class StoreFindings(msgspec.Struct, frozen=True):
    """A store: its logs, and what is wrong with the store itself; empty when nothing is."""

    url: str
    good: bool
    logs: tuple[LogFindings, ...] = ()
    damage: str = ""


@click.command()
@click.argument("url")
@data_dir_option
@json_option
def verify(url: str, data_dir: Path | None, as_json: bool) -> None:
    """Read every entry of every log in the closed store at URL.

    Names every bad entry and then ends with status 1. Changes nothing.
    """
    found = find_all(url, data_dir)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found), indent=2))
    else:
        click.echo("\n".join(_lines(found)))
    if not found.good:
        click.get_current_context().exit(1)


def find_all(url: str, data_dir: Path | None) -> StoreFindings:
    """All that is wrong with a closed store.

    Raises:
        StorageUnavailable, StorageLocked, StorageFormatTooNew, ConfigError: it cannot be opened.
    """
    shown = str(StorageURL.parse(url))  # without a password
    try:
        with opened_closed(url, data_dir=data_dir) as environment:
            engine = engine_of(environment)
            logs = [
                LogFindings(group.hex(), 0, (Finding(0, 0, found.reason),))
                if isinstance(found, CorruptEntry)
                else _verified(engine, group)
                for group, found in engine.survey()
            ]
    except CorruptEntry as error:
        return StoreFindings(shown, False, damage=str(error))
    return StoreFindings(shown, not any(log.findings for log in logs), tuple(logs))


def _verified(environment: EngineEnvironment, group: bytes) -> LogFindings:
    look = environment.look(group)
    start = look.log.anchor.index
    total = max(look.log.tail.index, look.mark.index) - start
    with counting(f"verifying {short(group)}", total) as count:
        reached = start

        def report(index: int) -> None:
            nonlocal reached
            count(index - reached)
            reached = index

        findings = tuple(find_damage_in_look(look, report))
    return LogFindings(group.hex(), reached - start, findings)


def _lines(found: StoreFindings) -> list[str]:
    if found.damage:
        return [f"{found.url}: {found.damage}"]
    lines: list[str] = []
    for log in found.logs:
        name = f"group {log.group[:10]}"
        lines += [f"{name}: {finding}" for finding in log.findings]
        if not log.findings:
            lines.append(f"{name}: {log.entries:,} entries, all of them good")
    return lines or [f"{found.url}: the store holds no logs"]
