"""Which of the many disks that a power failure may leave are tried, and how one is laid out as files."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, combinations, islice, zip_longest
from pathlib import Path
from typing import Final, NamedTuple

from mosaik.testing.storage.disk import Change, Moment, Tree

__all__ = ["Crash", "crashes", "extremes", "lay_out", "sample"]

#: Of so many changes in doubt every subset is tried …
_FEW: Final = 6
#: … and of more, so many subsets at random.
_SAMPLES: Final = 200


class Crash(NamedTuple):
    """A moment, and what of the changes that were in doubt then had reached the disk.

    Attributes:
        kept: their numbers.
        torn: those of which only some sectors did.
    """

    moment: Moment
    kept: frozenset[int]
    torn: Mapping[int, frozenset[int]]

    @property
    def tree(self) -> Tree:
        """The files that are found."""
        return self.moment.tree(self.kept, self.torn)

    def __str__(self) -> str:
        changes = [*self.moment.open, *self.moment.careless]
        lost = [change.call for change in changes if change.number not in self.kept]
        torn = [change.call for change in changes if change.number in self.torn]
        parts = [f"power lost before {self.moment.before}"]
        parts += [f"without {_brief(lost)}"] * bool(lost)
        parts += [f"with {_brief(torn)} torn"] * bool(torn)
        return ", ".join(parts)


def _brief(calls: Sequence[str]) -> str:
    shown = ", ".join(calls[:4])
    return shown + (f" and {len(calls) - 4} more" if len(calls) > 4 else "")


def extremes(moments: Sequence[Moment]) -> Iterator[Crash]:
    """Of each moment the disk that has nothing that it need not have, and the one that has everything."""
    for moment in moments:
        yield Crash(moment, frozenset(), {})
        if moment.open:
            everything = {change.number for change in [*moment.open, *moment.careless]}
            yield Crash(moment, moment.possible(everything), {})


def crashes(
    moments: Sequence[Moment], rng: random.Random, *, holes: bool = False
) -> Iterator[Crash]:
    """Every subset of a few changes in doubt, samples of more, with writes torn here and there.

    Args:
        holes: see `Moment.possible`.
    """
    for moment in moments:
        seen: set[tuple[frozenset[int], tuple[tuple[int, frozenset[int]], ...]]] = set()
        for chosen in _subsets(moment.open, rng):
            kept = moment.possible(chosen | _prefix(moment.careless, rng), holes=holes)
            writes = [change for change in moment.open if change.number in kept and change.data]
            for torn in ({}, *_torn(writes, rng, holes=holes)):
                # What was appended behind a torn write is gone with its end.
                whole = kept if holes else _before(moment, kept, torn)
                crash = whole & kept, tuple((n, torn[n]) for n in torn if n in whole)
                if crash not in seen:
                    seen.add(crash)
                    yield Crash(moment, crash[0], dict(crash[1]))


def sample(crashes: Iterable[Crash], count: int, rng: random.Random) -> list[Crash]:
    """So many crashes, as evenly as can be from all moments."""
    by_moment: dict[Moment, list[Crash]] = {}
    for crash in crashes:
        by_moment.setdefault(crash.moment, []).append(crash)
    for each in by_moment.values():
        rng.shuffle(each)
    rounds = zip_longest(*by_moment.values())
    return list(islice((crash for turn in rounds for crash in turn if crash is not None), count))


def _subsets(changes: Sequence[Change], rng: random.Random) -> Iterator[frozenset[int]]:
    numbers = [change.number for change in changes]
    if len(numbers) <= _FEW:
        subsets = chain.from_iterable(combinations(numbers, k) for k in range(len(numbers) + 1))
        yield from map(frozenset, subsets)
        return
    yield frozenset()
    yield frozenset(numbers)
    for _ in range(_SAMPLES):
        share = rng.choice([0.1, 0.5, 0.9])
        yield frozenset(number for number in numbers if rng.random() < share)


def _prefix(changes: Sequence[Change], rng: random.Random) -> frozenset[int]:
    count = rng.choice([0, len(changes), rng.randint(0, len(changes))])
    return frozenset(change.number for change in changes[:count])


def _torn(
    writes: Sequence[Change], rng: random.Random, *, holes: bool
) -> Iterator[dict[int, frozenset[int]]]:
    """One write that reached the disk in part, if one has several sectors."""
    torn = [change for change in writes if len(change.sectors) > 1]
    if not torn:
        return
    change = rng.choice(torn)
    count = len(change.sectors)
    if change.grows and not holes:
        kept = frozenset(range(rng.randrange(count)))
    else:
        kept = frozenset(n for n in range(count) if rng.random() < 0.5)
    yield {change.number: kept}


def _before(
    moment: Moment, kept: frozenset[int], torn: Mapping[int, frozenset[int]]
) -> frozenset[int]:
    """What is there, if a write that made its file longer is there in part only."""
    short = {n for n in torn if any(c.number == n and c.grows for c in moment.open)}
    return moment.possible(kept - short) | short


def lay_out(tree: Tree, place: Path) -> None:
    """Makes a directory hold just these files."""
    for path in place.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    for name, content in tree.items():
        path = place / name
        if content is None:
            path.mkdir(parents=True)
        else:
            path.write_bytes(content)
