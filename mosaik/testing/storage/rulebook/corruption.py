"""CORR: bytes that changed by themselves are never served, and nothing is quietly left out for them.

Each trial opens a damaged store in a process of its own and reads everything. *Detected* is a typed error,
*absent* that all is as it was; a process that dies has detected nothing, and then verifying the store has to
name the damage.
"""

from __future__ import annotations

import random
from itertools import islice
from pathlib import Path
from typing import Final

from mosaik.testing.storage.damage import (
    LAST,
    SEED,
    Damage,
    Image,
    Outcome,
    sites,
    store,
    try_damage,
)
from mosaik.testing.storage.ground import Ground
from mosaik.testing.storage.rule import Broken, Mark, NotApplicable, NotAttested, rule
from mosaik.testing.storage.survey import Survey

__all__ = ["try_one"]

#: Trials of each state of the store.
_TRIALS: Final = 50
_TAIL_TRIALS: Final = 40
_SERVER_TRIALS: Final = 3


@rule(
    "CORR-01",
    "Damage to what was acknowledged, in whatever file, is detected or absent: no answer differs, and "
    "nothing is left out.",
    Mark.CORRUPTION_DETECTING,
)
def damaged(ground: Ground) -> None:
    stored = store(ground)
    rng = random.Random(ground.seed)
    for image in (stored.killed, stored.closed):
        for damage in islice(sites(image, rng), _TRIALS):
            try_one(ground, stored.place, image, damage)


def try_one(ground: Ground, place: Path, image: Image, damage: Damage) -> Outcome:
    """Opens the damaged store.

    Raises:
        Broken: it serves something else, or less, and says nothing.
    """
    outcome, found = try_damage(ground, place, image, damage.applied(image.tree))
    if outcome is Outcome.MISSED:
        raise Broken(
            f"{image.name}; {damage}: step {image.last} was acknowledged; it gives: {found}"
        )
    return outcome


@rule(
    "CORR-02",
    "Damage to a batch that was only just acknowledged is detected, absent, or reported as suspect, which "
    "lasts until it is overwritten; it is never served.",
    Mark.CORRUPTION_DETECTING,
)
def damaged_end(ground: Ground) -> None:
    stored = store(ground)
    image, rng = stored.unmarked, random.Random(ground.seed)
    fresh = [(path, at) for path in image.contents for at in image.fresh(path)]
    for _ in range(_TAIL_TRIALS):
        path, at = rng.choice(fresh)
        damage = Damage(path, at, "flip", rng.randrange(8))
        if try_one(ground, stored.place, image, damage) is Outcome.SUSPECT:
            _suspected(ground, stored.place, image, damage)


def _suspected(ground: Ground, place: Path, image: Image, damage: Damage) -> None:
    """A suspicion outlives an opening, and ends with what is written over it."""
    url = ground.subject.url(place)
    survey = Survey(ground, place, SEED, LAST, alone=True)
    first = survey.found(damage.applied(image.tree))
    second = survey.found_again()
    if second != first:
        raise Broken(f"{damage}: opened once it gives {first}, opened again {second}")
    worker = ground.fork()
    worker.do("open", url, str(place))
    worker.do("mend", SEED, LAST)
    mended = worker.read(SEED, LAST, url, place)
    worker.do("close")
    for found in (mended, survey.reread()):
        if (found.outcome, found.step) != ("state", LAST):
            raise Broken(f"{damage}: suspected and then overwritten, it gives {found}")


@rule(
    "CORR-03",
    "A file that is gone is noticed, unless nothing depended on it.",
    Mark.CORRUPTION_DETECTING,
)
def file_gone(ground: Ground) -> None:
    stored = store(ground)
    for image in (stored.killed, stored.closed):
        for gone in image.contents:
            tree = {path: content for path, content in image.tree.items() if path != gone}
            outcome, found = try_damage(ground, stored.place, image, tree)
            new = found.outcome == "state" and not set(found.stores) & set(image.stores)
            if outcome is Outcome.MISSED and not (new and found.step == 0):
                raise Broken(f"{image.name}, without {gone}: it gives {found}")


@rule(
    "CORR-04",
    "Damage to what a server holds is detected.",
    Mark.CORRUPTION_DETECTING,
)
def damaged_server(ground: Ground) -> None:
    for number in range(_SERVER_TRIALS):
        place = ground.another(f"server{number}")
        url = ground.subject.url(place)
        worker = ground.fork()
        worker.do("open", url, str(place))
        if ground.subject.files(place):
            raise NotApplicable("the store is in files, which other rules damage")
        worker.run(SEED, 1, LAST)
        worker.do("idle")
        worker.do("close")
        damage = ground.subject.corrupt(place, ground.seed + number)
        if damage is None:
            raise NotAttested("nobody has told the kit how to damage what is not in files here")
        found = ground.fork().read(SEED, LAST, url, place)
        if found.outcome not in {"refused", "suspect"}:
            raise Broken(f"{damage}: it gives {found}")
