"""The kit's power and corruption rules without their haste: every crash and every byte, in rounds."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice

from mosaik.testing.storage import Subject
from mosaik.testing.storage.crash import crashes
from mosaik.testing.storage.damage import HEAD, Damage, Image, sites, store
from mosaik.testing.storage.ground import Ground
from mosaik.testing.storage.rulebook.corruption import try_one
from mosaik.testing.storage.rulebook.power import record, survive

__all__ = ["DAMAGE_ROUNDS", "POWER_ROUNDS", "SUBJECTS", "damage", "power"]

SUBJECTS: Mapping[str, Subject] = {
    "sqlite": Subject("sqlite://{place}/store.db"),
    "lmdb": Subject("lmdb://{place}/store"),
    "rocksdb": Subject("rocksdb://{place}/store"),
}
#: Histories that are recorded.
POWER_ROUNDS = 20
#: Rounds into which the bytes are dealt.
DAMAGE_ROUNDS = 40
#: Bytes drawn at random in all rounds together.
_RANDOM = 2_000


def power(backend: str) -> Callable[[int], Mapping[str, int]]:
    """Rounds that record a history and try every disk that a power failure may leave of it."""

    def lose(number: int) -> Mapping[str, int]:
        with Ground(SUBJECTS[backend], seed=number) as ground:
            run = record(ground)
            moments, rng = run.disk.moments, random.Random(number)
            whole = survive(ground, run, crashes(moments, rng))
            holes = survive(ground, run, crashes(moments, rng, holes=True), refusals=True)
        return {"crashes": whole, "with holes": holes}

    return lose


def damage(backend: str) -> Callable[[int], Mapping[str, int]]:
    """Rounds that damage every byte of headers, meta pages and the last batch, and others at random."""

    def rot(number: int) -> Mapping[str, int]:
        outcomes: Counter[str] = Counter()
        with Ground(SUBJECTS[backend], seed=number) as ground:
            stored, rng = store(ground), random.Random(number)
            for image in (stored.killed, stored.closed):
                every = islice(_every_byte(image, rng), number, None, DAMAGE_ROUNDS)
                some = islice(sites(image, rng), _RANDOM // 2 // DAMAGE_ROUNDS)
                for each in chain(every, some):
                    outcomes[try_one(ground, stored.place, image, each)] += 1
            for each in islice(_last_batch(stored.unmarked, rng), number, None, DAMAGE_ROUNDS):
                outcomes[try_one(ground, stored.place, stored.unmarked, each)] += 1
        return outcomes

    return rot


def _every_byte(image: Image, rng: random.Random) -> Iterator[Damage]:
    for path, content in image.contents.items():
        for at in range(min(HEAD, len(content))):
            yield Damage(path, at, "flip", rng.randrange(8))
    if image.name == "killed":
        yield from _last_batch(image, rng)


def _last_batch(image: Image, rng: random.Random) -> Iterator[Damage]:
    for path in image.contents:
        for at in image.fresh(path):
            yield Damage(path, at, "flip", rng.randrange(8))
