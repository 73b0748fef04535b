"""``mosaik log dump``: the entries of a closed store, one a line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from mosaik.cli.payload import decoded, shown
from mosaik.cli.stored import chosen, data_dir_option, group_option, json_option
from mosaik.primitives.digest import short
from mosaik.primitives.entry import Entry
from mosaik.storage.closed import engine_of, opened_closed
from mosaik.storage.findings import Finding, read_past_damage
from mosaik.storage.log import Look

__all__ = ["dump"]


@click.command()
@click.argument("url")
@data_dir_option
@group_option
@click.option("--from", "first", type=click.IntRange(1), help="The first index.")
@click.option("--to", "last", type=click.IntRange(1), help="The last index.")
@click.option(
    "--limit",
    default=200,
    show_default=True,
    type=click.IntRange(1),
    help="Characters of a payload that are shown; JSON holds all of it.",
)
@json_option
def dump(
    url: str,
    data_dir: Path | None,
    group: str | None,
    first: int | None,
    last: int | None,
    limit: int,
    as_json: bool,
) -> None:
    """Print the entries of the closed store at URL, one a line.

    Payloads are shown as what their MessagePack means, else in hex. With --json each line is an object.
    Whoever reads the output reads every command. Ends with status 1 where an entry is damaged.
    """
    good = True
    with opened_closed(url, data_dir=data_dir) as environment:
        engine = engine_of(environment)
        found = engine.survey()
        for each in chosen([name for name, _ in found], group):
            for piece in _pieces(engine.look(each), first, last):
                good &= not isinstance(piece, Finding)
                if as_json:
                    line = json.dumps({"group": each.hex(), **_fields(piece)})
                else:
                    line = _line(each, piece, limit, many=len(found) > 1)
                sys.stdout.write(f"{line}\n")  # `click.echo` flushes each line, a third of the time
    sys.stdout.flush()
    if not good:
        click.get_current_context().exit(1)


def _pieces(look: Look, first: int | None, last: int | None) -> Iterator[Entry[Any] | Finding]:
    """Entry by entry; what cannot be read says so in its place."""
    log = look.log
    start = max(first or 1, log.anchor.index + 1)
    end = log.tail.index if last is None else min(last, log.tail.index)
    for found in read_past_damage(log, start, end):
        if isinstance(found, Finding):
            yield found
        else:
            yield from found
    missing = max(start, log.tail.index + 1)
    acknowledged = look.mark.index if last is None else min(last, look.mark.index)
    if look.trouble is not None:
        yield Finding(0, 0, f"the end of the log cannot be read: {look.trouble.reason}")
    elif missing <= acknowledged:
        yield Finding(missing, acknowledged, "acknowledged, and missing or damaged")


def _fields(piece: Entry[Any] | Finding) -> dict[str, Any]:
    if isinstance(piece, Finding):
        return {"index": piece.first, "last": piece.last, "damage": piece.reason}
    fields: dict[str, Any] = {
        "index": piece.index,
        "term": piece.term,
        "kind": piece.kind.name.lower(),
        "time_ms": piece.time_ms,
        "checksum": f"{piece.checksum:08x}",
        "size": len(piece.payload),
    }
    try:
        if (header := piece.session) is not None:
            fields["session"] = {**header._asdict(), "op": header.op.name.lower()}
        return {**fields, "payload": decoded(piece.payload)}
    except ValueError:
        return {**fields, "hex": piece.payload.hex()}


def _line(group: bytes, piece: Entry[Any] | Finding, limit: int, *, many: bool) -> str:
    name = f"{short(group)}  " if many else ""
    if isinstance(piece, Finding):
        return f"{name}{piece}"
    try:
        time = datetime.fromtimestamp(piece.time_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
        when = f"{time[:-3]}Z"
    except (OverflowError, ValueError, OSError):
        when = f"{piece.time_ms} ms"
    kind = piece.kind.name.lower()
    text = shown(piece, limit)
    return f"{name}{piece.index:>8}  term {piece.term:<4} {when}  {kind:<8} {text}".rstrip()
