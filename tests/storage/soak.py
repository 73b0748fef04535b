"""The kit's power and corruption rules without their haste: every crash and every byte, in rounds; and what
takes longer than a test may."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice

from mosaik.testing.storage import Subject
from mosaik.testing.storage.crash import crashes
from mosaik.testing.storage.damage import HEAD, Damage, Image, sites, store
from mosaik.testing.storage.ground import Ground
from mosaik.testing.storage.rulebook.corruption import try_one
from mosaik.testing.storage.rulebook.model import try_sequences
from mosaik.testing.storage.rulebook.power import record, survive
from tests.storage import foreign

__all__ = ["DAMAGE_ROUNDS", "MODEL_ROUNDS", "POWER_ROUNDS", "SUBJECTS", "damage", "model", "power"]

SUBJECTS: Mapping[str, str] = {
    "sqlite": "sqlite://{place}/store.db",
    "lmdb": "lmdb://{place}/store",
    "rocksdb": "rocksdb://{place}/store",
    "file": foreign.URL,
}
#: Histories that are recorded.
POWER_ROUNDS = 20
#: Rounds, and sequences in each, that are held against plain lists; and steps of a sequence.
MODEL_ROUNDS = 50
_SEQUENCES, _STEPS = 40, 50
#: Rounds into which the bytes are dealt.
DAMAGE_ROUNDS = 40
#: Bytes drawn at random in all rounds together, from all of a store's bytes.
_RANDOM = 2_000
#: Bytes at a file's end that hold a footer.
_FOOT = 64


@contextmanager
def _ground(backend: str, number: int) -> Generator[Ground]:
    """The ground of a round. The foreign package is installed for one round only, and so is what the kit
    keeps for a subject: processes that have imported it."""
    with foreign.installed(), Ground(Subject(SUBJECTS[backend]), seed=number) as ground:
        yield ground


def power(backend: str) -> Callable[[int], Mapping[str, int]]:
    """Rounds that record a history and try every disk that a power failure may leave of it."""

    def lose(number: int) -> Mapping[str, int]:
        with _ground(backend, number) as ground:
            run = record(ground)
            moments, rng = run.disk.moments, random.Random(number)
            whole = survive(ground, run, crashes(moments, rng))
            holes = survive(ground, run, crashes(moments, rng, holes=True), refusals=True)
        return {"crashes": whole, "with holes": holes}

    return lose


def model(backend: str) -> Callable[[int], Mapping[str, int]]:
    """Rounds that hold long sequences of batches, openings and kills against plain lists."""

    def compare(number: int) -> Mapping[str, int]:
        with _ground(backend, number) as ground:
            try_sequences(ground, survives=True, examples=_SEQUENCES, steps=_STEPS)
        return {"sequences": _SEQUENCES}

    return compare


def damage(backend: str) -> Callable[[int], Mapping[str, int]]:
    """Rounds that damage every byte of headers, footers, meta pages and the last batch, and others at
    random."""

    def rot(number: int) -> Mapping[str, int]:
        outcomes: Counter[str] = Counter()
        with _ground(backend, number) as ground:
            stored, rng = store(ground), random.Random(number)
            for image in (stored.killed, stored.closed):
                every = islice(_every_byte(image, rng), number, None, DAMAGE_ROUNDS)
                count = _RANDOM // 2 // DAMAGE_ROUNDS
                some = chain(islice(_anywhere(image, rng), count), islice(sites(image, rng), count))
                for each in chain(every, some):
                    outcomes[try_one(ground, stored.place, image, each)] += 1
            for each in islice(_last_batch(stored.unmarked, rng), number, None, DAMAGE_ROUNDS):
                outcomes[try_one(ground, stored.place, stored.unmarked, each)] += 1
        return outcomes

    return rot


def _every_byte(image: Image, rng: random.Random) -> Iterator[Damage]:
    for path, content in image.contents.items():
        head = min(HEAD, len(content))
        for at in chain(range(head), range(max(head, len(content) - _FOOT), len(content))):
            yield Damage(path, at, "flip", rng.randrange(8))
    if image.name == "killed":
        yield from _last_batch(image, rng)


def _anywhere(image: Image, rng: random.Random) -> Iterator[Damage]:
    """One bit of all that there are, over and over."""
    paths = list(image.contents)
    sizes = [len(image.contents[path]) for path in paths]
    while True:
        (path,) = rng.choices(paths, sizes)
        yield Damage(path, rng.randrange(len(image.contents[path])), "flip", rng.randrange(8))


def _last_batch(image: Image, rng: random.Random) -> Iterator[Damage]:
    for path in image.contents:
        for at in image.fresh(path):
            yield Damage(path, at, "flip", rng.randrange(8))
