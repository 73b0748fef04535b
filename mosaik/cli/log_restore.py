"""``mosaik log restore``: a store made of a backup, as a replica that nobody has heard of."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import click

from mosaik.cli.counting import counting
from mosaik.cli.stored import confirm, data_dir_option, json_option, require_durable, unfinished
from mosaik.primitives.digest import short
from mosaik.storage.backup import Contents, check_backup
from mosaik.storage.contract import StorageEnvironment
from mosaik.storage.rebirth import restore_log
from mosaik.storage.registry import open_storage
from mosaik.storage.transfer import LogHead, require_new
from mosaik.transport.identity import Identity

__all__ = ["restore"]

_LOST = (
    "A new history has this node for its only voter. Do this only when a majority of the voters is lost",
    "for good: what they acknowledged and this backup does not hold is lost with them. Members that are",
    "left belong to the old history; reset their logs, and they join the new one.",
)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("url")
@data_dir_option
@click.option(
    "--new-history",
    is_flag=True,
    help="Found the group anew with this node as its only voter; for when a majority is lost.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def restore(
    file: Path, url: str, data_dir: Path | None, new_history: bool, yes: bool, as_json: bool
) -> None:
    """Make a store at URL of the backup in FILE.

    The store belongs to the node whose key lies in --data-dir, else to the one that the backup is of. To
    its group it is a new replica: it has voted for nobody, and counts only after a leader has let it in.
    """
    with counting("checking the backup", None) as count:
        contents = check_backup(file, count)
    if new_history and not yes:
        confirm(_LOST, "new")
    peer = _peer(data_dir) if data_dir is not None else contents.head.peer
    with closing(open_storage(url, peer=peer, data_dir=data_dir)) as environment:
        made = _fill(environment, file, contents, peer, new_history=new_history)
        where = environment.describe().url
    with (
        unfinished(where),
        closing(open_storage(url, peer=peer, data_dir=data_dir)) as environment,
    ):
        _verify(environment, made)
    if as_json:
        click.echo(json.dumps(_summary(where, peer, made), indent=2))
        return
    click.echo(f"{where}: restored for node {short(peer)}")
    for head in made:
        store = head.hard_state.store.hex()
        click.echo(f"group {short(head.identity.group)}: {head.count:,} entries, store id {store}")
        if not head.hard_state.history:
            click.echo("  its group was never founded, so it held nothing that was acknowledged")


def _peer(data_dir: Path) -> bytes:
    identity = Identity.in_directory(data_dir)
    identity.close()
    return bytes(identity.peer)


def _fill(
    environment: StorageEnvironment,
    file: Path,
    contents: Contents,
    peer: bytes,
    *,
    new_history: bool,
) -> list[LogHead]:
    require_durable(environment)
    require_new(environment)
    total = sum(head.count for head in contents.logs)
    with unfinished(environment.describe().url), counting("restoring", total) as count:
        return [
            restore_log(environment, file, head, peer, new_history=new_history, report=count)
            for head in contents.logs
        ]


def _verify(environment: StorageEnvironment, made: list[LogHead]) -> None:
    """Reads what was made, as the next opening finds it."""
    with counting("reading it back", sum(head.count for head in made)) as count:
        for head in made:
            log = environment.log(head.identity)
            reached = log.anchor.index

            def report(index: int) -> None:
                nonlocal reached
                count(index - reached)
                reached = index

            environment.verify(log, report)


def _summary(url: str, peer: bytes, made: list[LogHead]) -> dict[str, object]:
    logs = [
        {
            "group": head.identity.group.hex(),
            "entries": head.count,
            "store": head.hard_state.store.hex(),
            "history": head.hard_state.history.hex(),
        }
        for head in made
    ]
    return {"url": url, "peer": peer.hex(), "logs": logs}
