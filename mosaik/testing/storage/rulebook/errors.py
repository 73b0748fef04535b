"""ERR: what the system refuses, a store neither hides nor makes worse."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from mosaik.primitives.errors import ConfigError, StorageFull
from mosaik.testing.storage.crash import crashes, extremes, sample
from mosaik.testing.storage.disk import Moment
from mosaik.testing.storage.ground import Ground, entries, identity
from mosaik.testing.storage.history import Reading
from mosaik.testing.storage.replay import Replay
from mosaik.testing.storage.rule import Broken, Mark, NotApplicable, NotAttested, rule
from mosaik.testing.storage.rulebook.kill import expect, last_of, require_poisoned
from mosaik.testing.storage.survey import Survey
from mosaik.testing.storage.trace import FULL, WRITES, Call, traced
from mosaik.testing.storage.workers import Worker

__all__: list[str] = []

#: The step whose commit meets the error: it appends to one log, and truncates the other.
_STEP: Final = 9
#: Disks that are tried after each fault.
_TRIED: Final = 12
#: A file descriptor more each time, until the store opens.
_DESCRIPTORS: Final = 64
_SYNCS: Final = ("fsync", "fdatasync", "msync")


class _Strike(NamedTuple):
    """A commit that met an error.

    Attributes:
        worker: who made it, and is still there.
        said: what it said of it.
        place: where the store is.
        before, struck: the calls until then, and of the commit.
        fault: what was done, for people.
    """

    worker: Worker
    said: str
    place: Path
    before: Sequence[Call]
    struck: Sequence[Call]
    fault: str


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
        worker.run(ground.seed, 1, _STEP - 1)
        worker.do("idle")  # so that the truncation has a mark to lower
    return worker, place, calls


def _faults(ground: Ground, names: Sequence[str], error: str, most: int) -> Iterator[str]:
    """Faults of the calls that the step's commit makes on the store's files: of each name the first ones
    and the last."""
    worker, place, _ = _prepared(ground)
    with traced(worker) as calls:
        worker.run(ground.seed, _STEP, 1)
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


def _strikes(ground: Ground, names: Sequence[str], error: str, most: int = 2) -> Iterator[_Strike]:
    for fault in _faults(ground, names, error, most):
        worker, place, before = _prepared(ground)
        with traced(worker, fault) as struck:
            worker.tell("run", ground.seed, _STEP, 1)
            said = worker.until("ran")[-2]
        if not any(call.injected for call in struck):
            raise NotAttested(f"{fault} did not happen")
        yield _Strike(worker, said, place, before, struck, fault)
        worker.close()


def _read(ground: Ground, place: Path) -> Reading:
    """What another process finds in the store."""
    reader = ground.fork()
    found = reader.read(ground.seed, _STEP + 1, ground.subject.url(place), place)
    reader.close()
    return found


def _require_poison(ground: Ground, strike: _Strike) -> None:
    """The commit failed and ended the opening; what it wrote is there wholly or not at all."""
    if not strike.said.startswith(f"failed {_STEP} StoragePoisoned"):
        raise Broken(f"after {strike.fault}: {strike.said}")
    require_poisoned(strike.worker, ground.seed, _STEP + 1)
    served = strike.worker.read(ground.seed, _STEP, "", strike.place)
    if not (served.outcome == "refused" and served.detail.startswith("StoragePoisoned")):
        raise Broken(f"after {strike.fault} the poisoned opening still serves: {served}")
    strike.worker.kill()
    expect(_read(ground, strike.place), _STEP - 1, _STEP, f"after {strike.fault}")


@rule(
    "ERR-01",
    "A sync that fails poisons: that batch is not acknowledged, nothing is afterwards, and opened again "
    "the store holds the batch wholly or not at all.",
    Mark.POWER_SAFE,
)
def sync_fails(ground: Ground) -> None:
    for strike in _strikes(ground, _SYNCS, "EIO"):
        _require_poison(ground, strike)


@rule(
    "ERR-02",
    "What a store shows after a failed sync is on the disk, though the kernel holds it for written.",
    Mark.POWER_SAFE,
)
def shown_after_failed_sync(ground: Ground) -> None:
    for strike in _strikes(ground, _SYNCS, "EIO"):
        strike.worker.kill()
        reader = ground.fork()
        url = ground.subject.url(strike.place)
        with traced(reader) as reading:
            shown = reader.read(ground.seed, _STEP, url, strike.place)
            reader.kill()
        least = last_of([strike.said], "ack", _STEP - 1)
        expect(shown, least, _STEP, f"after {strike.fault}")
        replay = Replay(strike.place).process(strike.before).more(strike.struck)
        known = len(replay.disk.moments)
        end = replay.process(reading).disk.note("anything after the store was read")
        _lose_power(ground, strike, replay.disk.moments[known:-1], shown, least)
        _lose_power(ground, strike, [end], shown, shown.step)


def _lose_power(
    ground: Ground, strike: _Strike, moments: Sequence[Moment], shown: Reading, least: int
) -> None:
    """At some of these moments the power fails."""
    survey = Survey(ground, strike.place, ground.seed, _STEP)
    rng = random.Random(ground.seed)
    every = [*extremes(moments), *crashes(moments, rng)]
    for crash in sample(every, _TRIED, rng):
        found = survey.found(crash.tree)
        when = f"after {strike.fault} and an opening that gave {shown}, {crash}"
        expect(found, least, _STEP, when)
        if found.stores != shown.stores:
            raise Broken(f"{when}: the logs have other store ids, as if they were new")
    survey.close()


@rule(
    "ERR-03",
    "A write that fails poisons, too, unless the batch did not need it.",
    Mark.POWER_SAFE,
)
def write_fails(ground: Ground) -> None:
    for strike in _strikes(ground, WRITES, "EIO"):
        if strike.said == f"ack {_STEP}":
            strike.worker.kill()
            expect(_read(ground, strike.place), _STEP, _STEP, f"after {strike.fault}")
        else:
            _require_poison(ground, strike)


@rule(
    "ERR-04",
    "A full disk refuses a batch before anything of it is written, and it may be tried again, or poisons; it "
    "is never acknowledged without being there.",
    Mark.POWER_SAFE,
)
def disk_full(ground: Ground) -> None:
    for strike in _strikes(ground, FULL, "ENOSPC"):
        if strike.said.startswith(f"failed {_STEP} StoragePoisoned"):
            _require_poison(ground, strike)
            continue
        if strike.said.startswith(f"failed {_STEP} StorageFull"):
            url = ground.subject.url(strike.place)
            found = strike.worker.read(ground.seed, _STEP, url, strike.place)
            expect(found, _STEP - 1, _STEP - 1, f"refused after {strike.fault}")
            strike.worker.run(ground.seed, _STEP, 1)
        elif strike.said != f"ack {_STEP}":
            raise Broken(f"after {strike.fault}: {strike.said}")
        strike.worker.kill()
        expect(_read(ground, strike.place), _STEP, _STEP, f"after {strike.fault}")


@rule(
    "ERR-05",
    "Where a file may not grow any further nothing is acknowledged that is not there afterwards.",
    Mark.KILL_SAFE,
)
def file_too_large(ground: Ground) -> None:
    place, seed, steps = ground.quick("limit"), ground.seed, 300
    url = ground.subject.url(place)
    worker = ground.fork()
    worker.do("open", url, str(place))
    worker.run(seed, 1, 12)
    sizes = [path.stat().st_size for path in ground.subject.files(place)]
    if not sizes:
        raise NotApplicable("the store keeps no files here that could grow")
    worker.do("file_size", max(sizes))
    worker.tell("run", seed, 13, steps)
    said = worker.until("ran")
    if not said[-2].startswith("failed"):
        raise NotApplicable(f"{steps} commits make no file longer than the longest was")
    error = said[-2].split()[2].rstrip(":")
    if error not in {"StorageFull", "StoragePoisoned"}:
        raise Broken(f"a file could not grow: {said[-2]}")
    worker.kill()
    least, most = last_of(said, "ack", 12), last_of(said, "begin", 12)
    reader = ground.fork()
    expect(reader.read(seed, most, url, place), least, most, f"a file could not grow: {error}")


@rule("ERR-06", "Too many open files make an opening fail with a typed error, and do no harm.")
def too_many_files(ground: Ground) -> None:
    place, seed, steps = ground.quick("descriptors"), ground.seed, 12
    url = ground.subject.url(place)
    writer = ground.fork()
    writer.do("open", url, str(place))
    writer.run(seed, 1, steps)
    if not ground.subject.files(place):
        raise NotApplicable("the store keeps no files here")
    writer.do("close")
    for count in range(_DESCRIPTORS):
        opener = ground.fork()
        opener.do("descriptors", count)
        answer = opener.ask("open", url, str(place))
        opener.close()
        if answer == "opened":
            break
        if not answer.startswith("refused"):
            raise Broken(f"with room for {count} open files: {answer}")
    reader = ground.fork()
    expect(reader.read(seed, steps, url, place), steps, steps, "after too many open files")


@rule("ERR-07", "A directory or files without permission to write are refused with a typed error.")
def no_permission(ground: Ground) -> None:
    place, seed, steps = ground.quick("permission"), ground.seed, 12
    made, empty = place / "made", place / "empty"
    for path in (made, empty):
        path.mkdir()
    writer = ground.fork()
    writer.do("open", ground.subject.url(made), str(made))
    writer.run(seed, 1, steps)
    if not ground.subject.files(made):
        raise NotApplicable("the store keeps no files here")
    writer.do("close")
    modes = {path: path.stat().st_mode for path in [place, *place.rglob("*")]}
    for path, mode in modes.items():
        path.chmod((mode | 0o055) & ~0o222)
    try:
        for path in (made, empty):
            opener = ground.fork()
            user = opener.ask("drop_privileges")
            if user == "user 0" or not user.startswith("user"):
                raise NotAttested(f"nobody else can be become here: {user}")
            answer = opener.ask("open", ground.subject.url(path), str(path))
            if not answer.startswith("refused"):
                raise Broken(f"without permission to write in {path.name}: {answer}")
            opener.close()
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    reader = ground.fork()
    found = reader.read(seed, steps, ground.subject.url(made), made)
    expect(found, steps, steps, "after it was opened without permission")


@rule(
    "ERR-08",
    "A map that is full refuses a batch, keeps what there is, and serves again when it may grow.",
)
def map_full(ground: Ground) -> None:
    small = "map_size=1MiB&max_map_size=1MiB"
    try:
        environment = ground.subject.open(ground.place, query=small)
    except ConfigError as error:
        raise NotApplicable(f"the store has no map: {error}") from error
    try:
        log = environment.log(identity())
        try:
            for _ in range(64):
                log.append(entries(1, log.tail, size=50_000))
        except StorageFull:
            pass
        else:
            raise Broken("64 entries of 50,000 bytes fit into a map of one MiB")
        kept = log.get_range(1, log.tail.index)
    finally:
        environment.close()
    log = ground.log()
    if not kept or log.get_range(1, log.tail.index) != kept:
        raise Broken(f"{len(kept)} entries were acknowledged, and the log ends at {log.last()}")
    log.append(entries(1, log.tail, size=50_000))
