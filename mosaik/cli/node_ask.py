"""``mosaik node inspect`` and ``backup``: what a running node tells its operator."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from mosaik.cli.counting import Count, counting
from mosaik.cli.node import load_config
from mosaik.cli.node_wire import Kind, NodeReport, Request, frames_of
from mosaik.cli.stored import human_size, json_option
from mosaik.cli.table import field_lines, printable, table_lines
from mosaik.groups.inspection import GroupReport
from mosaik.primitives.errors import ConfigError, DialError
from mosaik.storage.backup_file import backup_path, write_backup

__all__ = ["backup", "inspect"]

F = TypeVar("F", bound=Callable[..., Any])


def _place(command: F) -> F:
    """Adds the options that say which node is meant."""
    config = click.option(
        "--config", "path", type=click.Path(), help="The node's file of settings [./mosaik.toml]."
    )
    data_dir = click.option(
        "--data-dir", type=click.Path(path_type=Path), help="The node's data directory."
    )
    return config(data_dir(command))


def _data_dir(path: str | None, data_dir: Path | None) -> Path:
    if data_dir is None:
        configured = load_config(path, {}).network.data_dir
        if configured is None:
            raise ConfigError("say where the node lives: --data-dir, or [network] data_dir")
        data_dir = Path(configured)
    return data_dir.absolute()


@click.command()
@_place
@json_option
def inspect(path: str | None, data_dir: Path | None, as_json: bool) -> None:
    """Show where a running node and its group stand: who leads, who counts, the log and its store."""
    report = asyncio.run(_report(_data_dir(path, data_dir)))
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(report), indent=2))
    else:
        click.echo("\n".join(_lines(report)))


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@_place
@json_option
def backup(file: Path, path: str | None, data_dir: Path | None, as_json: bool) -> None:
    """Write all that a running node's group has committed into FILE, which must not be there.

    The node goes on meanwhile. In a directory the file gets a name of its own. It is readable by you
    alone, and whoever reads it reads every command; `mosaik log restore` makes a store of it.
    """
    place = _data_dir(path, data_dir)
    with counting("backing up", None, "bytes") as count:
        target, size = asyncio.run(_write(place, file.absolute(), count))
    if as_json:
        click.echo(json.dumps({"file": str(target), "bytes": size}, indent=2))
    else:
        click.echo(f"{target}: {human_size(size)}")


async def _report(data_dir: Path) -> NodeReport:
    async with frames_of(data_dir, Request("inspect")) as frames:
        (body,) = [body async for kind, body in frames if kind is Kind.VALUE] or [b""]
    return _decoded(body, NodeReport, data_dir)


async def _write(data_dir: Path, file: Path, count: Count) -> tuple[Path, int]:
    async with frames_of(data_dir, Request("backup")) as frames:
        _, body = await anext(frames, (Kind.END, b""))
        peer = bytes.fromhex(_decoded(body, str, data_dir))
        target = backup_path(file, peer)
        return target, await write_backup(target, _pieces(frames), count)


async def _pieces(frames: AsyncIterator[tuple[Kind, bytes]]) -> AsyncIterator[bytes]:
    async for _, body in frames:
        yield body


T = TypeVar("T")


def _decoded(body: bytes, of: type[T], data_dir: Path) -> T:
    try:
        return msgspec.json.decode(body, type=of)
    except msgspec.MsgspecError as error:
        raise DialError(
            f"the node in {data_dir} answers what this mosaik does not understand: {error}; "
            f"is it of another version?"
        ) from error


def _lines(report: NodeReport) -> list[str]:
    group = report.group
    lines = [
        f"node {report.peer[:10]}",
        *field_lines(
            [
                ("process", report.pid),
                ("version", report.version),
                ("addresses", ", ".join(report.addresses)),
            ]
        ),
        "",
        f"group {group.group[:10]}",
        *field_lines(_group_fields(group)),
        "",
    ]
    rows = [("MEMBER", "STORE", "ROLE", "BONDED", "LEADS")]
    for each in group.members:
        me = " (this)" if each.peer == report.peer else ""
        bonded, leads = ("yes" if it else "no" for it in (each.bonded, each.leads))
        store = f"{each.store[:10]}.{each.life}"
        rows.append((f"{each.peer[:10]}{me}", store, each.role, bonded, leads))
    return [*lines, *table_lines(rows)]


def _group_fields(group: GroupReport) -> list[tuple[str, object]]:
    fields: list[tuple[str, object]] = [
        ("state", "online" if group.online else "offline"),
        ("role", group.role),
        ("leader", group.leader[:10] if group.leader else "unknown"),
        ("term", group.term),
        ("last", group.last),
        ("committed", group.committed),
        ("applied", group.applied),
        ("history", group.history[:10] or "none yet"),
        ("parts", ", ".join(f"{name}={printable(value)}" for name, value in group.parts.items())),
    ]
    if group.quarantined:
        fields.append(("quarantine", "yes: it takes no part in anything"))
    if group.lost:
        fields.append(("lost", "yes: a majority forgot; it refuses writes"))
    if (log := group.log) is not None:
        fields += [
            ("store", log.url),
            ("engine", log.engine),
            ("sync", log.sync),
            ("survives", ", ".join(log.capabilities) or "nothing"),
            ("pruned", log.pruned or "none"),
        ]
        if log.suspect:
            first, last = log.suspect
            fields.append(("suspect", f"{first} to {last}: damaged beyond the watermark"))
    return fields
