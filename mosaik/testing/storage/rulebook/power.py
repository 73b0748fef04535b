"""POWER: what was acknowledged is on the disk, and what was not has left nothing that could be mistaken.

One run is recorded by a tracer: a store is made, written, closed, opened again and written. The first rules
look at the order of its writes, syncs and acknowledgements; the others at what the disk may hold if the power
fails at any moment of it (see `mosaik.testing.storage.disk`).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from mosaik.testing.storage.crash import Crash, crashes, extremes, sample
from mosaik.testing.storage.disk import Disk
from mosaik.testing.storage.ground import Ground
from mosaik.testing.storage.replay import Replay
from mosaik.testing.storage.rule import Broken, Mark, NotAttested, rule
from mosaik.testing.storage.survey import Survey, files
from mosaik.testing.storage.trace import SYNCS, WRITES, Call, synchronous, traced

__all__ = ["Recording", "record", "survive"]

#: How many steps are recorded before the store is closed, and in all.
_HALF: Final = 8
STEPS: Final = 14
#: Disks that one rule tries beside the extremes, of the thousands that there may be.
_TRIED: Final = 120


class Recording(NamedTuple):
    """A run of a history.

    Attributes:
        place: where the store was; it will be opened there again.
        calls: what was asked of the kernel.
        stores: the ids of the logs' stores.
    """

    place: Path
    calls: Sequence[Call]
    disk: Disk
    stores: tuple[str, ...]

    @property
    def synchronous(self) -> set[tuple[int, str]]:
        """Descriptors and paths whose writes return when the disk has them."""
        return synchronous(self.calls)


def record(ground: Ground) -> Recording:
    """Writes the first steps of a history in a process that is watched.

    Raises:
        NotAttested: there is no tracer, or the store keeps its files where it cannot look.
    """
    place = ground.quick("power")
    url = ground.subject.url(place)
    worker = ground.fork()
    with traced(worker) as calls:
        worker.do("open", url, str(place))
        if not ground.subject.files(place):
            raise NotAttested("the store keeps no files here whose loss could be tried")
        for first in range(1, _HALF + 1, 2):
            worker.run(ground.seed, first, 2)
            worker.do("idle")  # so that marks are written, and lowered by the next truncation
        worker.do("close")
        worker.do("open", url, str(place))
        worker.run(ground.seed, _HALF + 1, STEPS - _HALF)
        worker.do("idle")
        stores = worker.read(ground.seed, STEPS, url, place).stores
        left = files(place)
        worker.kill()
    disk = Replay(place).process(calls).disk
    end = disk.note("nothing more")
    seen = end.tree({change.number for change in [*end.open, *end.careless]})
    mapped = {path for path in left if (node := disk.find(path)) is not None and node.mapped}
    if {path: seen[path] for path in seen.keys() - mapped} != {
        path: left[path] for path in left.keys() - mapped
    }:
        raise NotAttested("the store changes its files in ways that the tracer does not see")
    return Recording(place, calls, disk, stores)


@rule(
    "POWER-01",
    "A commit is synced after it was written and before it is acknowledged.",
    Mark.POWER_SAFE,
)
def synced(ground: Ground) -> None:
    run = record(ground)
    for step, part in _commits(run):
        if not _durable(part, run):
            written = [str(call) for call in part if _writes(call, run.place)]
            raise Broken(
                f"step {step} was acknowledged after {', '.join(written) or 'no write at all'}, and no sync "
                f"of that had completed"
            )


@rule(
    "POWER-02",
    "The directories of files that an acknowledgement rests on are synced before it.",
    Mark.POWER_SAFE,
)
def directories_synced(ground: Ground) -> None:
    run = record(ground)
    moments = {moment.said: moment for moment in run.disk.moments if moment.said}
    for step, part in _commits(run):
        for path in _durable(part, run):
            if not moments[f"ack {step}"].certain(path):
                raise Broken(
                    f"step {step} rests on {path}, which a power failure may remove or replace: a directory "
                    f"above it was not synced since a name in it changed"
                )


@rule(
    "POWER-03",
    "Whenever the power fails, the store opens with a whole number of batches, all acknowledged ones "
    "among them, and shows the same ever after.",
    Mark.POWER_SAFE,
)
def survives(ground: Ground) -> None:
    run = record(ground)
    rng = random.Random(ground.seed)
    survive(ground, run, extremes(run.disk.moments))
    survive(ground, run, sample(crashes(run.disk.moments, rng), _TRIED, rng))


@rule(
    "POWER-04",
    "The same where the file system makes files longer before their bytes are written, but for a refusal "
    "with a typed error.",
    Mark.POWER_SAFE,
)
def survives_holes(ground: Ground) -> None:
    run = record(ground)
    rng = random.Random(ground.seed)
    torn = (crash for crash in crashes(run.disk.moments, rng, holes=True) if crash.torn)
    survive(ground, run, sample(torn, _TRIED // 3, rng), refusals=True)


def survive(
    ground: Ground, run: Recording, tried: Iterable[Crash], *, refusals: bool = False
) -> int:
    """Opens what each crash leaves, twice; how many there were.

    Args:
        refusals: a typed error will do.

    Raises:
        Broken: the store lost or mixed something, or refused to open.
    """
    survey = Survey(ground, run.place, ground.seed, STEPS)
    count = 0
    for crash in tried:
        least = crash.moment.acknowledged
        found = survey.found(crash.tree)
        count += 1
        if refusals and found.outcome == "refused":
            continue
        right = found.outcome in {"state", "suspect"} and found.served >= least
        if not right:
            raise Broken(f"{crash}: step {least} was acknowledged, and the store gives: {found}")
        if least >= 0 and found.stores != run.stores:
            raise Broken(f"{crash}: the logs have other store ids, as if they were new")
        again = survey.found_again()
        if again != found:
            raise Broken(f"{crash}: opened once it gives {found}, opened again {again}")
    survey.close()
    return count


def _commits(run: Recording) -> Iterator[tuple[int, list[Call]]]:
    """Each step, with the calls between its beginning and its acknowledgement."""
    part: list[Call] = []
    for call in run.calls:
        word, _, number = call.said.partition(" ")
        if word == "begin":
            part = []
        elif word == "ack":
            yield int(number), part
        part.append(call)


def _writes(call: Call, place: Path) -> bool:
    if call.name not in WRITES or call.result < 0:
        return False
    path = Path(call.descriptors[0].path)
    # The framework's mark is synced, too, when a truncation lowers it; that makes no batch durable.
    return path.is_relative_to(place) and not path.name.endswith("watermark")


def _durable(part: Sequence[Call], run: Recording) -> set[str]:
    """The files, below the place, that were written and then made durable, and not written since."""
    written: dict[str, int] = {}
    done: set[str] = set()
    for call in part:
        if _writes(call, run.place):
            opened = call.descriptors[0]
            written[opened.path] = call.ended
            done.discard(opened.path)
            if opened[:2] in run.synchronous:
                done.add(opened.path)
        elif call.name in SYNCS and call.result >= 0 and call.descriptors:
            path = call.descriptors[0].path
            if path in written and written[path] < call.began:
                done.add(path)
        elif call.name.startswith(("rename", "unlink")) and call.result >= 0:
            old, *new = [text.decode(errors="surrogateescape") for text in call.strings]
            if old in done:  # what it rests on has another name now, or none
                done.remove(old)
                done.update(new)
    return {str(Path(path).relative_to(run.place)) for path in done}
