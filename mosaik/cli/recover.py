"""``mosaik recover``: going on when a majority of a group's voters is lost for good."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import click
import msgspec

from mosaik.cli.stored import chosen, confirm, group_option, json_option
from mosaik.cli.table import table_lines
from mosaik.primitives.errors import ConfigError
from mosaik.storage.recovery import (
    RecoveryPlan,
    apply_plan,
    make_plan,
    plan_from_bytes,
    plan_to_bytes,
)

__all__ = ["recover"]


@click.group()
def recover() -> None:
    """Go on when a majority of a group's voters is lost for good.

    Stop every node that is left. Make a plan of all their stores, read it, and apply it to each of them.
    """


@recover.command()
@click.argument("urls", nargs=-1, required=True)
@group_option
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("recovery.json"),
    show_default=True,
    help="Where the plan is written; never over a file.",
)
@json_option
def plan(urls: tuple[str, ...], group: str | None, output: Path, as_json: bool) -> None:
    """Look at the stores at URLS, which are all that is left, and say how to go on. Changes nothing.

    The log with the newest end goes on; the plan says whether anything acknowledged may be missing in it.
    """
    made = make_plan(urls, partial(chosen, wanted=group))
    try:
        with output.open("xb") as file:
            file.write(plan_to_bytes(made))
    except FileExistsError as error:
        raise ConfigError(f"{output} is there already; name another file with -o") from error
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(made), indent=2))
        return
    for line in _lines(made):
        click.echo(line)
    click.echo(f"written to {output}; apply it to each store: mosaik recover apply {output} URL")


def _lines(made: RecoveryPlan) -> Iterator[str]:
    yield f"group {made.group[:10]}, history {made.history[:10]}"
    rows: list[tuple[object, ...]] = [
        ("node", "last entry", "voter", "what becomes of it", "store")
    ]
    for each in made.survivors:
        if each.url == made.chosen:
            fate = "goes on"
        else:
            fate = f"emptied ({each.trouble})" if each.trouble else "emptied"
        end = f"{each.last} (term {each.last_term})"
        rows.append((each.peer[:10], end, "yes" if each.voter else "no", fate, each.url))
    yield from table_lines(rows)
    if made.lost:
        yield f"lost voters: {', '.join(made.lost)}"
    yield (
        "Nothing that was acknowledged is lost: every majority had a voter that is left."
        if made.complete
        else "COMMANDS MAY BE LOST: what only the lost voters held and had acknowledged is gone."
    )


@recover.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("url")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def apply(file: Path, url: str, yes: bool, as_json: bool) -> None:
    """Do what the plan in FILE says to the store at URL, whose node is stopped.

    The chosen store's log begins a new history with that node as its only voter; any other store is emptied,
    and its node joins anew. It may be interrupted, and done again.
    """
    made = plan_from_bytes(file.read_bytes())
    goes_on = url == made.chosen
    if not yes:
        confirm(list(_consequences(made, goes_on)), "recover")
    done = apply_plan(made, url)
    if as_json:
        click.echo(json.dumps({"url": url, "goes_on": goes_on, "done_before": not done}, indent=2))
        return
    if not done:
        click.echo(f"{url}: that was done before")
    elif goes_on:
        click.echo(f"{url}: begins a new history with this node as its only voter; start it first")
    else:
        click.echo(f"{url}: emptied; start its node once the chosen one leads, and it joins anew")


def _consequences(made: RecoveryPlan, goes_on: bool) -> Iterator[str]:
    if goes_on:
        yield "This log becomes the beginning of a new history. The lost voters can never come back into it."
        if not made.complete:
            yield "What only they held and had acknowledged is lost for good."
    else:
        yield f"This log is given up; the group goes on with the one at {made.chosen}."
