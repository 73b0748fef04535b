"""``make cards``: the report card of every backend, as a table for the README.

The example of a foreign backend is one of them, and so are database servers: one of our own where its
programs are installed, which may be killed; else the one that ``MOSAIK_TEST_POSTGRES_URL`` or
``MOSAIK_TEST_MARIADB_URL`` names.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from bench.report import README, write
from mosaik.storage import list_backends
from mosaik.testing.storage import Card, Mark, Outcome, Subject, Verdict, check
from tests.storage import foreign
from tests.storage.servers import KINDS, Kind, NoServer, Own, ServerSubject, start_own

__all__ = ["SERVERS", "SUBJECTS", "card_of", "main", "table"]

PLACE: Final = "cards"
#: Stores in files or memory, by their backend.
SUBJECTS: Final[Mapping[str, str]] = {
    "memory": "memory://",
    "sqlite": "sqlite://{place}/store.db",
    "lmdb": "lmdb://{place}/store",
    "rocksdb": "rocksdb://{place}/store",
    "file": foreign.URL,
}
#: Kinds of servers, by their backend.
SERVERS: Final[Mapping[str, Kind]] = {kind.scheme: kind for kind in KINDS.values()}


def main(arguments: Sequence[str]) -> int:
    """Fills in the cards and prints them; status 1 if one does not pass."""
    parser = argparse.ArgumentParser(prog="make cards", description=__doc__)
    parser.add_argument("--backend", nargs="*", help="only these")
    parser.add_argument("--write", action="store_true", help="put the table into the README")
    given = parser.parse_args(arguments)
    logging.getLogger("mosaik").setLevel(logging.ERROR)  # what the rules provoke worries nobody
    cards: dict[str, Card | str] = {}
    with foreign.installed():
        for name in given.backend or [*SUBJECTS, *SERVERS]:
            sys.stderr.write(f"{name}\n")
            cards[name] = card_of(name)
    today = datetime.now(UTC).date().isoformat()
    system = f"{platform.system()} {platform.release().partition('-')[0]}"
    text = f"Run {today} on {system}, Python {platform.python_version()}.\n\n{table(cards)}"
    print(text)
    if given.write:
        write(README, PLACE, text)
    return 0 if all(isinstance(card, str) or card.passed for card in cards.values()) else 1


def card_of(name: str) -> Card | str:
    """The card of a backend, or why there is none."""
    problems = {each.scheme: each.problem for each in list_backends()}
    if problem := problems.get(name, "not installed"):
        return problem
    if name in SUBJECTS:
        return check(Subject(SUBJECTS[name]))
    kind = SERVERS[name]
    own: Own | None = None
    try:
        own = start_own(kind)
        url = own.url
    except NoServer as why:
        url = os.environ.get(kind.variable, "")
        if not url:
            return f"{kind.variable} is not set; {why}"
    subject = ServerSubject(kind, url, own)
    try:
        return msgspec.structs.replace(check(subject), url=kind.scheme)
    finally:
        subject.close()


def table(cards: Mapping[str, Card | str]) -> str:
    """The cards as Markdown, with what was not attested below."""
    marks = list(Mark)
    lines = [f"| store | {' | '.join(marks)} | rules kept |", "|---" * (len(marks) + 2) + "|"]
    notes: list[str] = []
    for name, card in cards.items():
        if isinstance(card, str):
            lines.append(f"| `{name}` |{' not run |' * len(marks)} {card} |")
            continue
        told = " | ".join(_told(card.verdicts[mark]) for mark in marks)
        count = Counter(result.outcome for result in card.results)
        applied = len(card.results) - count[Outcome.NOT_APPLICABLE]
        lines.append(f"| `{name}`, {card.engine} | {told} | {count[Outcome.KEPT]} of {applied} |")
        notes += _notes(name, card)
    return "\n".join([*lines, *([""] if notes else []), *notes])


def _told(verdict: Verdict) -> str:
    return f"**{verdict}**" if verdict in {Verdict.BROKEN, Verdict.BY_ACCIDENT} else verdict.value


def _notes(name: str, card: Card) -> Iterator[str]:
    """What was broken though it is claimed, or could not be tried; rules with one reason together."""
    told: dict[str, list[str]] = {}
    for result in card.results:
        claimed = result.mark is Mark.FUNCTIONAL or result.mark in card.claims
        unkept = {Outcome.NOT_ATTESTED, Outcome.BROKEN}
        if result.outcome in unkept and claimed:
            detail = result.detail.partition("\n")[0]
            told.setdefault(f"{result.outcome}: {detail}", []).append(result.rule)
    for why, ids in told.items():
        yield f"- `{name}`, {', '.join(ids)}, {why}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
