"""``mosaik storage check``: what a backend keeps of what it promises."""

from __future__ import annotations

import json
import logging
import textwrap
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click
import msgspec

from mosaik.cli.counting import counting
from mosaik.primitives.errors import ConfigError
from mosaik.primitives.nearest import did_you_mean
from mosaik.storage.url import StorageURL

if TYPE_CHECKING:
    from mosaik.testing.storage import Card, Rule

__all__ = ["check", "template_of"]

_WIDTH: Final = 96


@click.command()
@click.argument("url")
@click.option("--json", "as_json", is_flag=True, help="Print the whole card as JSON.")
@click.option("--only", multiple=True, metavar="ID", help="Try this rule, or rules such as LOG.")
@click.option("--seed", default=0, show_default=True, help="Of whatever is drawn at random.")
@click.option("--verbose", is_flag=True, help="List the rules that were kept, too.")
def check(url: str, as_json: bool, only: Sequence[str], seed: int, verbose: bool) -> None:
    """Try every rule of the storage contract on a backend, and print its report card.

    URL says how a store of the backend is named: a scheme alone, such as sqlite, or a template such as
    'sqlite://{place}/raft.db?sync=os'. Each rule makes stores of its own: {place} becomes the path of an
    empty directory, {name} a name that nothing else has, as in 'postgresql://host/db?store={name}'.
    Existing stores are never touched. What is made outside of {place} stays there, under names that begin
    with kit: give a server a database for it. Ends with status 1 if the card does not pass.
    """
    from mosaik.testing.storage import Subject
    from mosaik.testing.storage import check as fill_in

    subject, chosen = Subject(template_of(url)), _chosen(only)
    with counting("trying", len(chosen), "rules") as count, _quiet():
        card = fill_in(subject, seed=seed, only=chosen, progress=lambda: count(1))
    if as_json:
        shown = msgspec.to_builtins(card) | {"verdicts": card.verdicts, "passed": card.passed}
        click.echo(json.dumps(shown, indent=2, default=str))
    else:
        for line in _lines(card, verbose):
            click.echo(line)
    if not card.passed:
        raise click.exceptions.Exit(1)


def template_of(url: str) -> str:
    """The template by which the kit names its stores.

    Raises:
        ConfigError: it names one store, which the rules would damage.
    """
    if "{place}" in url or "{name}" in url:
        return url
    parsed = StorageURL.parse(url)
    if parsed.path or parsed.host:
        raise ConfigError(
            f"the rules make, kill and damage stores, so '{parsed}' must not name one: write {{place}} where "
            f"a directory's path belongs, or {{name}} where a store's name does"
        )
    return url if parsed.query else f"{url}://{{place}}/store"


def _chosen(only: Sequence[str]) -> Sequence[Rule]:
    """The rules that were asked for, by their ids or by what these begin with; all without a name.

    Raises:
        ConfigError: there is no such rule.
    """
    from mosaik.testing.storage import rules

    chosen: list[Rule] = []
    for name in (each.upper() for each in only):
        found = [each for each in rules() if name in {each.id, each.id.partition("-")[0]}]
        if not found:
            raise ConfigError(
                f"there is no rule {name}; {did_you_mean(name, {each.id for each in rules()})}"
            )
        chosen += found
    return chosen or rules()


@contextmanager
def _quiet() -> Generator[None]:
    """What the rules provoke worries nobody."""
    logger = logging.getLogger("mosaik")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _lines(card: Card, verbose: bool) -> Generator[str]:
    from mosaik.testing.storage import Mark, Outcome
    from mosaik.testing.storage.card import NOT_ASKED

    yield f"{card.url} · {card.engine}"
    yield ""
    for mark in Mark:
        tally = Counter(each.outcome for each in card.results if each.mark is mark)
        told = ", ".join(f"{tally[outcome]} {outcome}" for outcome in Outcome if tally[outcome])
        yield f"{mark:<22}{card.verdicts[mark]:<14}{told}"
    hidden: set[Outcome] = set() if verbose else {Outcome.KEPT}
    for outcome in reversed(Outcome):
        for each in card.results:
            if each.outcome is outcome not in hidden and each.detail != NOT_ASKED:
                yield ""
                yield f"{outcome}: {each.rule} · {each.sentence}"
                yield from textwrap.wrap(
                    each.detail, _WIDTH, initial_indent="  ", subsequent_indent="  "
                )
