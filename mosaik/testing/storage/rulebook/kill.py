"""KILL: what was acknowledged outlives the process, however it ends."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mosaik.primitives.errors import ConfigError
from mosaik.testing.storage.crash import crashes, extremes
from mosaik.testing.storage.ground import Ground
from mosaik.testing.storage.history import Reading
from mosaik.testing.storage.replay import Replay
from mosaik.testing.storage.rule import Broken, Mark, NotApplicable, NotAttested, rule
from mosaik.testing.storage.survey import Survey
from mosaik.testing.storage.trace import SYNCS, traced
from mosaik.testing.storage.workers import Worker

__all__ = ["expect", "last_of", "require_poisoned"]

#: Steps of a history after which it begins anew with batches of the same kinds.
_KINDS: Final = 12
_ROUNDS: Final = 5
_KILLS: Final = 6
#: More steps than a process writes before it is killed.
_MANY: Final = 1_000_000


def last_of(lines: Sequence[str], word: str, otherwise: int) -> int:
    """The number of the last line that begins with a word."""
    numbers = [int(line.split()[1]) for line in lines if line.startswith(word)]
    return numbers[-1] if numbers else otherwise


def expect(found: Reading, least: int, most: int, when: str) -> int:
    """The step that was found.

    Raises:
        Broken: it is none from ``least`` to ``most``.
    """
    right = found.outcome in {"state", "suspect"} and least <= found.served <= found.step <= most
    if not right:
        wanted = f"step {least}" if least == most else f"one of the steps {least} to {most}"
        raise Broken(f"{when}: {wanted} should be there, and the store gives: {found}")
    return found.step


def require_poisoned(writer: Worker, seed: int, step: int) -> None:
    """A commit has failed; this opening may acknowledge nothing more."""
    writer.tell("run", seed, step, 1)
    said = writer.until("ran")
    if not said[-2].startswith(f"failed {step} StoragePoisoned"):
        raise Broken(f"a commit had failed with its outcome unknown, and the next one: {said[-2]}")


@rule(
    "KILL-01",
    "After a SIGKILL all acknowledged batches are there, and at most the one that was under way, whole.",
    Mark.KILL_SAFE,
)
def killed_while_writing(ground: Ground) -> None:
    _kill_while_writing(ground, "")


def _kill_while_writing(ground: Ground, query: str) -> None:
    rng = random.Random(f"{ground.seed} {query}")
    place = ground.quick("kill")
    url, seed = ground.subject.url(place, query), ground.seed
    stores: tuple[str, ...] = ()
    least = most = 0
    for number in range(_KINDS + _ROUNDS):
        # Who reads what the last one left goes on writing, and is killed in turn.
        worker = ground.fork()
        found = worker.read(seed, most, url, place)
        step = expect(found, least, most, f"killed after step {least} was acknowledged")
        if stores and found.stores != stores:
            raise Broken("after a kill the logs have other store ids, as if they were new")
        stores = found.stores
        worker.do("open", url, str(place))
        if number < _KINDS:  # after a batch of each kind …
            worker.run(seed, step + 1, 1)
            least = most = step + 1
            worker.close()
            continue
        worker.tell("run", seed, step + 1, _MANY)  # … and in the middle of many
        said = [worker.line() for _ in range(rng.randrange(1, 80))]
        worker.kill()
        said += worker.rest()  # what it said before it died counts, read or not
        if failed := [line for line in said if line.startswith(("failed", "untyped"))]:
            raise Broken(f"in the middle of many batches: {failed[0]}")
        least, most = last_of(said, "ack", step), last_of(said, "begin", step)
    found = ground.fork().read(seed, most, url, place)
    expect(found, least, most, f"killed after step {least} was acknowledged")


@rule(
    "KILL-02",
    "A process killed while it opens or makes a store leaves it as it was, and it opens again.",
    Mark.KILL_SAFE,
)
def killed_while_opening(ground: Ground) -> None:
    place, seed, steps = ground.quick("open"), ground.seed, 24
    url = ground.subject.url(place)
    writer = ground.fork()
    started = time.monotonic()
    writer.do("open", url, str(place))
    took = time.monotonic() - started
    writer.run(seed, 1, steps)
    writer.kill()
    for number in range(_KILLS):
        _kill_while_opening(ground, url, place, took * number / _KILLS)
        reader = ground.fork()
        found = reader.read(seed, steps, url, place)
        reader.close()
        expect(found, steps, steps, "killed while it opened the store")
        new = ground.quick("make")
        _kill_while_opening(ground, ground.subject.url(new), new, took * number / _KILLS)
        reader = ground.fork()
        found = reader.read(seed, 0, ground.subject.url(new), new)
        reader.close()
        expect(found, 0, 0, "killed while it made the store")


def _kill_while_opening(ground: Ground, url: str, place: Path, seconds: float) -> None:
    opener = ground.fork()
    opener.tell("open", url, str(place))
    opener.listen(seconds)
    opener.kill()
    opener.close()


@rule(
    "KILL-03",
    "What a store shows after a kill is still there when the power then fails.",
    Mark.POWER_SAFE,
)
def nothing_read_is_gone(ground: Ground) -> None:
    for call in (1, 2):
        _kill_read_lose_power(ground, call)


def _kill_read_lose_power(ground: Ground, call: int) -> None:
    """Kills a process when it is about to make a written batch durable."""
    place, seed, steps = ground.quick("read"), ground.seed, 9
    url = ground.subject.url(place)
    writer = ground.fork()
    with traced(writer) as calls:
        writer.do("open", url, str(place))
        if not ground.subject.files(place):
            raise NotAttested("the store keeps no files here whose loss could be tried")
        writer.run(seed, 1, steps - 1)
        writer.do("idle")
    with traced(writer, f"{','.join(SYNCS)}:signal=KILL:when={call}") as last_calls:
        writer.tell("run", seed, steps, 1)
        said = writer.rest()
        writer.kill()
    reader = ground.fork()
    with traced(reader) as reading:
        found = reader.read(seed, steps, url, place)
        reader.kill()
    expect(found, last_of(said, "ack", steps - 1), steps, "killed before a sync")
    replay = Replay(place).process(calls).more(last_calls).process(reading)
    moment = replay.disk.note("anything after the store was read")
    survey = Survey(ground, place, seed, steps)
    rng = random.Random(seed)
    every = list(crashes([moment], rng))
    for crash in [*extremes([moment]), *rng.sample(every, min(len(every), 10))]:
        again = survey.found(crash.tree)
        if (again.outcome, again.step, again.stores) != (found.outcome, found.step, found.stores):
            raise Broken(
                f"a process was killed before a sync; the store then gave: {found}; after the power failed, "
                f"too, it gives: {again} ({crash})"
            )
    survey.close()


@rule(
    "KILL-04",
    "When the server that holds the data is killed, all acknowledged batches are there afterwards, and "
    "the opening that lost it acknowledges nothing more.",
    Mark.KILL_SAFE,
)
def killed_server(ground: Ground) -> None:
    seed, step = ground.seed, 0
    url = ground.subject.url(ground.place)
    for _ in range(2):
        writer = ground.fork()
        writer.do("open", url, str(ground.place))
        writer.tell("run", seed, step + 1, _MANY)
        said = [writer.line() for _ in range(20)]
        if not ground.subject.kill_server():
            raise NotApplicable("the data is held by no server that could be killed")
        said += writer.until("ran", patience=60)
        least, most = last_of(said, "ack", step), last_of(said, "begin", step)
        if "untyped" in said[-2]:
            raise Broken(
                f"the server was killed, and a commit ended without a typed error: {said[-2]}"
            )
        require_poisoned(writer, seed, most)
        writer.close()
        reader = ground.fork()
        found = reader.read(seed, most, url, ground.place)
        reader.do("close")
        step = expect(found, least, most, f"the server was killed after step {least}")


@rule(
    "KILL-05",
    "With sync=os a kill takes as little as without it, where a store has that option.",
    Mark.KILL_SAFE,
)
def killed_while_writing_unsynced(ground: Ground) -> None:
    place = ground.quick("os")
    try:
        ground.subject.open(place, query="sync=os").close()
    except ConfigError as error:
        raise NotApplicable(f"the store has no such option: {error}") from error
    _kill_while_writing(ground, "sync=os")
