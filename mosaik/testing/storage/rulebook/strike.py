"""Commits that meet an error of the system: prepared, struck, and looked at if the power then fails."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from mosaik.testing.storage.crash import crashes, extremes, sample
from mosaik.testing.storage.disk import Moment
from mosaik.testing.storage.ground import Ground
from mosaik.testing.storage.history import Reading
from mosaik.testing.storage.replay import Replay
from mosaik.testing.storage.rule import Broken, NotApplicable, NotAttested
from mosaik.testing.storage.rulebook.kill import expect, last_of
from mosaik.testing.storage.survey import Survey
from mosaik.testing.storage.trace import SYNCS, WRITES, Call, synchronous, traced
from mosaik.testing.storage.workers import Worker

__all__ = ["STEP", "Strike", "died_unheard", "lose_power", "read", "strikes"]

#: The step whose commit meets the error: it appends to one log, and truncates the other.
STEP: Final = 9
#: Disks that are tried after each fault.
_TRIED: Final = 12


class Strike(NamedTuple):
    """A commit that met an error.

    Attributes:
        worker: who made it, and is still there.
        said: what it said of it.
        place: where the store is.
        before, struck: the calls until then, and of the commit.
        fault: what was done, for people.
        unheard: see `Replay.more`.
    """

    worker: Worker
    said: str
    place: Path
    before: Sequence[Call]
    struck: Sequence[Call]
    fault: str
    unheard: Call | None = None

    @property
    def acknowledged(self) -> int:
        """The last step that was acknowledged."""
        return STEP - 1 if self.unheard else last_of([self.said], "ack", STEP - 1)

    def replay(self) -> Replay:
        """The disk after it."""
        replay = Replay(self.place).process(self.before).more(self.struck, self.unheard)
        replay.disk.acknowledged = self.acknowledged
        return replay


def _prepared(ground: Ground) -> tuple[Worker, Path, list[Call]]:
    """A store of its own, just before the step."""
    place = ground.quick("error")
    worker = ground.fork()
    with traced(worker) as calls:
        worker.do("open", ground.subject.url(place), str(place))
        if not ground.subject.files(place):
            raise NotApplicable(
                "the store keeps no files here for which the system could refuse a call"
            )
        worker.run(ground.seed, 1, STEP - 1)
        worker.do("idle")  # so that the truncation has a mark to lower
    return worker, place, calls


def _faults(ground: Ground, names: Sequence[str], error: str, most: int) -> Iterator[str]:
    """Faults of the calls that the step's commit makes on the store's files: of each name the first ones
    and the last."""
    worker, place, _ = _prepared(ground)
    with traced(worker) as calls:
        worker.run(ground.seed, STEP, 1)
    worker.close()
    counts: Counter[tuple[int, str]] = Counter()
    chances: dict[str, list[int]] = {}
    for call in calls:
        if call.name in names and call.result >= 0:
            counts[call.thread, call.name] += 1  # as the tracer counts, wherever a call goes
            opened = call.descriptors
            if not opened or Path(opened[0].path).is_relative_to(place):
                chances.setdefault(call.name, []).append(counts[call.thread, call.name])
    if not chances:
        raise NotAttested(f"a commit makes none of the calls {', '.join(names)}")
    for name, numbers in chances.items():
        for when in sorted({*numbers[:most], numbers[-1]}):
            yield f"{name}:error={error}:when={when}"


def strikes(ground: Ground, names: Sequence[str], error: str, most: int = 2) -> Iterator[Strike]:
    """A commit on a store of its own for each of the faults, one by one.

    Raises:
        NotApplicable: the store keeps no files here.
        NotAttested: a commit makes none of these calls, or cannot be watched.
    """
    for fault in _faults(ground, names, error, most):
        worker, place, before = _prepared(ground)
        with traced(worker, fault) as struck:
            worker.tell("run", ground.seed, STEP, 1)
            said = worker.until("ran")[-2]
        if not any(call.injected for call in struck):
            raise NotAttested(f"{fault} did not happen")
        yield Strike(worker, said, place, before, struck, fault)
        worker.close()


def died_unheard(ground: Ground) -> Strike:
    """A commit whose last sync failed, and killed the process before it could act on that: the kernel shows
    what was written, and holds it for clean."""
    worker, place, before = _prepared(ground)
    with traced(worker) as struck:
        worker.run(ground.seed, STEP, 1)
        worker.kill()
    at_once = synchronous(before)
    for call in reversed(struck):
        opened = call.descriptors
        if call.result < 0 or not (opened and Path(opened[0].path).is_relative_to(place)):
            continue
        if call.name in SYNCS or (call.name in WRITES and opened[0][:2] in at_once):
            fault = f"a {call} that failed and a kill in the same moment"
            return Strike(worker, f"ack {STEP}", place, before, struck, fault, call)
    raise NotAttested("a commit makes no sync that could be seen")


def read(ground: Ground, place: Path) -> Reading:
    """What another process finds in the store."""
    reader = ground.fork()
    found = reader.read(ground.seed, STEP + 1, ground.subject.url(place), place)
    reader.close()
    return found


def lose_power(
    ground: Ground, strike: Strike, moments: Sequence[Moment], shown: Reading, least: int
) -> None:
    """At some of these moments the power fails."""
    survey = Survey(ground, strike.place, ground.seed, STEP)
    rng = random.Random(ground.seed)
    every = [*extremes(moments), *crashes(moments, rng)]
    for crash in sample(every, _TRIED, rng):
        found = survey.found(crash.tree)
        when = f"after {strike.fault} and an opening that gave {shown}, {crash}"
        expect(found, least, STEP, when)
        if found.stores != shown.stores:
            raise Broken(f"{when}: the logs have other store ids, as if they were new")
    survey.close()
