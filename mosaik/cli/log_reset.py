"""``mosaik log reset``: a closed store's logs are given up, so that the node begins anew in their groups."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mosaik.cli.log_inspect import LogReport, report_on
from mosaik.cli.stored import chosen, confirm, data_dir_option, group_option, json_option
from mosaik.primitives.errors import CorruptEntry
from mosaik.storage.closed import engine_of, opened_closed

__all__ = ["reset"]


@click.command()
@click.argument("url")
@data_dir_option
@group_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def reset(url: str, data_dir: Path | None, group: str | None, yes: bool, as_json: bool) -> None:
    """Give up the logs in the closed store at URL, damaged or not, or only the one of --group.

    The node joins their groups as a new replica, and gets from the others what they hold. What only this
    store holds is lost for good: `mosaik log backup` keeps it, where it can still be read.
    """
    report = report_on(url, data_dir)
    if report.damage:
        raise CorruptEntry(
            0,
            f"{report.damage}; its logs cannot be told apart, so remove the whole store, with the files "
            f"beside it, and let this node join as a new replica",
            url=report.url,
        )
    held = {bytes.fromhex(log.group): log for log in report.logs}
    groups = chosen(list(held), group)
    if groups and not yes:
        lost = [_lost(held[each]) for each in groups]
        confirm([*lost, "What no other member of the group holds is lost for good."], "reset")
    stores: dict[str, str] = {}
    with opened_closed(url, data_dir=data_dir) as environment:
        for each in groups:
            stores[each.hex()] = engine_of(environment).empty(each).store.hex()
    if as_json:
        click.echo(json.dumps({"url": report.url, "stores": stores}, indent=2))
        return
    for name, store in stores.items():
        click.echo(f"group {name[:10]}: empty, with the new store id {store}")
    if not stores:
        click.echo(f"{report.url}: the store holds no logs")


def _lost(log: LogReport) -> str:
    name = f"group {log.group[:10]}"
    if not log.peer:
        return f"{name}: a log that cannot be read"
    pruned, last = log.pruned.index if log.pruned else 0, log.last.index if log.last else 0
    entries = f"{log.entries:,} entries ({pruned + 1} to {last})" if log.entries else "no entries"
    return f"{name}: {entries}, and what it promised in term {log.term}"
