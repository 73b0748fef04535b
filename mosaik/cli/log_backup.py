"""``mosaik log backup``: a closed store's logs in one file."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import click

import mosaik
from mosaik.cli.counting import Count, counting
from mosaik.cli.stored import counted, data_dir_option, human_size, json_option
from mosaik.primitives.errors import ConfigError
from mosaik.storage.backup import BackupHead, stream_backup
from mosaik.storage.backup_file import backup_path, write_backup
from mosaik.storage.closed import opened_closed
from mosaik.storage.contract import Storage, StorageEnvironment
from mosaik.storage.transfer import LogHead, read_head

__all__ = ["backup"]

T = TypeVar("T")


@click.command()
@click.argument("url")
@click.argument("file", type=click.Path(path_type=Path))
@data_dir_option
@json_option
def backup(url: str, file: Path, data_dir: Path | None, as_json: bool) -> None:
    """Write all logs of the closed store at URL into FILE, which must not be there.

    In a directory the file gets a name of its own. It is readable by you alone, and whoever reads it
    reads every command. A running node makes one with `mosaik node backup`.
    """
    with opened_closed(url, data_dir=data_dir) as environment:
        logs = [(read_head(each, log := environment.log(each)), log) for each in environment.logs()]
        if not logs:
            raise ConfigError(f"{environment.describe().url} holds no logs")
        total = sum(head.count for head, _ in logs)
        path = backup_path(file.absolute(), logs[0][0].identity.peer)
        with counting("backing up", total) as count:
            size = asyncio.run(_write(environment, logs, path, count))
    if as_json:
        click.echo(json.dumps({"file": str(path), "bytes": size, "entries": total}, indent=2))
    else:
        click.echo(f"{path}: {total:,} entries in {counted(len(logs), 'log')}, {human_size(size)}")


async def _write(
    environment: StorageEnvironment,
    logs: list[tuple[LogHead, Storage[Any]]],
    path: Path,
    count: Count,
) -> int:
    head = BackupHead(
        made_ms=time.time_ns() // 1_000_000,
        version=mosaik.__version__,
        url=environment.describe().url,
        peer=logs[0][0].identity.peer,
        hot=False,
    )

    async def call(work: Callable[[], T]) -> T:
        # Nobody waits for this loop, so what blocks may be done on it.
        done = work()
        run: object = done
        if isinstance(run, list):  # of entries
            count(len(cast("list[object]", run)))
        return done

    return await write_backup(path, stream_backup(head, logs, call))
