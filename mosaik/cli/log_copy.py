"""``mosaik log copy``: a closed store in another place, on any backend, and the proof that it is the same."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import click

from mosaik.cli.counting import counting
from mosaik.cli.stored import counted, data_dir_option, json_option, require_durable, unfinished
from mosaik.primitives.errors import ConfigError
from mosaik.storage.closed import opened_closed
from mosaik.storage.contract import StorageEnvironment
from mosaik.storage.registry import open_storage
from mosaik.storage.transfer import LogHead, copy_log, read_head, require_equal, require_new

__all__ = ["copy"]


@click.command()
@click.argument("source")
@click.argument("target")
@data_dir_option
@json_option
def copy(source: str, target: str, data_dir: Path | None, as_json: bool) -> None:
    """Copy the closed store at SOURCE to TARGET, which must not hold logs.

    The two may be on different backends. Afterwards both are read and compared, entry by entry. The copy
    is the same replica in another place: let only one of the two run, and remove the other.
    """
    with opened_closed(source, data_dir=data_dir) as old:
        heads = _heads(old)
        total = sum(head.count for head in heads)
        url = _fill(old, heads, target, data_dir, total)
        # Opened anew: what is compared is what the next opening finds.
        with (
            unfinished(url),
            closing(open_storage(target, peer=_owner(heads), data_dir=data_dir)) as new,
            counting("comparing", total) as count,
        ):
            for head in heads:
                require_equal(old, new, head.identity, count)
        from_ = old.describe().url
    if as_json:
        groups = {head.identity.group.hex(): head.count for head in heads}
        click.echo(json.dumps({"from": from_, "to": url, "entries": groups}, indent=2))
        return
    click.echo(
        f"{from_} -> {url}: {total:,} entries in {counted(len(heads), 'log')}, read back and equal"
    )
    click.echo("Both are the same replica now. Run only one of them, and remove the other.")


def _heads(environment: StorageEnvironment) -> list[LogHead]:
    """The heads of all logs: what cannot be copied is found before anything is made."""
    heads = [read_head(each, environment.log(each)) for each in environment.logs()]
    if not heads:
        raise ConfigError(
            f"{environment.describe().url} holds no logs, so there is nothing to copy"
        )
    return heads


def _owner(heads: list[LogHead]) -> bytes:
    return heads[0].identity.peer


def _fill(
    old: StorageEnvironment,
    heads: list[LogHead],
    target: str,
    data_dir: Path | None,
    total: int,
) -> str:
    """Copies the logs; the destination's URL."""
    with closing(open_storage(target, peer=_owner(heads), data_dir=data_dir)) as new:
        url = new.describe().url
        if new.key == old.key:
            raise ConfigError(f"{url} is the store that is to be copied; name another place")
        require_durable(new)
        require_new(new)
        with unfinished(url), counting("copying", total) as count:
            for head in heads:
                copy_log(old, new, head.identity, count)
    return url
