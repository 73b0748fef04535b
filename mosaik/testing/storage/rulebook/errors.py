"""ERR: what the system refuses, a store neither hides nor makes worse."""

from __future__ import annotations

from itertools import count
from typing import Final

from mosaik.primitives.errors import ConfigError, StorageFull
from mosaik.testing.storage.crash import lay_out
from mosaik.testing.storage.ground import Ground, entries, identity
from mosaik.testing.storage.rule import Broken, Mark, NotApplicable, NotAttested, rule
from mosaik.testing.storage.rulebook.kill import expect, last_of, require_poisoned
from mosaik.testing.storage.rulebook.strike import (
    STEP,
    Strike,
    died_unheard,
    lose_power,
    read,
    strikes,
)
from mosaik.testing.storage.survey import files
from mosaik.testing.storage.trace import FULL, SYNCS, WRITES, traced

__all__: list[str] = []

#: A file descriptor more each time, until the store opens.
_DESCRIPTORS: Final = 64


def _require_poison(ground: Ground, strike: Strike) -> None:
    """The commit failed and ended the opening; what it wrote is there wholly or not at all."""
    if not strike.said.startswith(f"failed {STEP} StoragePoisoned"):
        raise Broken(f"after {strike.fault}: {strike.said}")
    require_poisoned(strike.worker, ground.seed, STEP + 1)
    served = strike.worker.read(ground.seed, STEP, "", strike.place)
    if not (served.outcome == "refused" and served.detail.startswith("StoragePoisoned")):
        raise Broken(f"after {strike.fault} the poisoned opening still serves: {served}")
    strike.worker.kill()
    expect(read(ground, strike.place), STEP - 1, STEP, f"after {strike.fault}")


@rule(
    "ERR-01",
    "A sync that fails poisons: that batch is not acknowledged, nothing is afterwards, and opened again "
    "the store holds the batch wholly or not at all.",
    Mark.POWER_SAFE,
)
def sync_fails(ground: Ground) -> None:
    for strike in strikes(ground, SYNCS, "EIO"):
        _require_poison(ground, strike)


@rule(
    "ERR-02",
    "What a store shows after a failed sync is on the disk, though the kernel holds it for written.",
    Mark.POWER_SAFE,
)
def shown_after_failed_sync(ground: Ground) -> None:
    for strike in strikes(ground, SYNCS, "EIO"):
        strike.worker.kill()
        _stays_shown(ground, strike)
    _stays_shown(ground, died_unheard(ground))


def _stays_shown(ground: Ground, strike: Strike) -> None:
    """What the next opening shows outlives a loss of power, and so does what was acknowledged before."""
    least = strike.acknowledged
    reader = ground.fork()
    with traced(reader) as reading:
        shown = reader.read(ground.seed, STEP, ground.subject.url(strike.place), strike.place)
        reader.kill()
    expect(shown, least, STEP, f"after {strike.fault}")
    replay = strike.replay()
    known = len(replay.disk.moments)
    end = replay.process(reading).disk.note("anything after the store was read")
    lose_power(ground, strike, replay.disk.moments[known:-1], shown, least)
    lose_power(ground, strike, [end], shown, shown.step)


@rule(
    "ERR-03",
    "A write that fails poisons, too, unless the batch did not need it.",
    Mark.POWER_SAFE,
)
def write_fails(ground: Ground) -> None:
    for strike in strikes(ground, WRITES, "EIO"):
        if strike.said == f"ack {STEP}":
            strike.worker.kill()
            expect(read(ground, strike.place), STEP, STEP, f"after {strike.fault}")
        else:
            _require_poison(ground, strike)


@rule(
    "ERR-04",
    "A full disk refuses a batch before anything of it is written, and it may be tried again, or poisons; it "
    "is never acknowledged without being there.",
    Mark.POWER_SAFE,
)
def disk_full(ground: Ground) -> None:
    for strike in strikes(ground, FULL, "ENOSPC"):
        if strike.said.startswith(f"failed {STEP} StoragePoisoned"):
            _require_poison(ground, strike)
            continue
        if strike.said.startswith(f"failed {STEP} StorageFull"):
            url = ground.subject.url(strike.place)
            found = strike.worker.read(ground.seed, STEP, url, strike.place)
            expect(found, STEP - 1, STEP - 1, f"refused after {strike.fault}")
            strike.worker.run(ground.seed, STEP, 1)
        elif strike.said != f"ack {STEP}":
            raise Broken(f"after {strike.fault}: {strike.said}")
        strike.worker.kill()
        expect(read(ground, strike.place), STEP, STEP, f"after {strike.fault}")


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
    failed = said[-2] if said[-2].startswith("failed") else ""
    if failed and failed.split()[2].rstrip(":") not in {"StorageFull", "StoragePoisoned"}:
        raise Broken(f"a file could not grow: {failed}")
    worker.kill()
    least, most = last_of(said, "ack", 12), last_of(said, "begin", 12)
    reader = ground.fork()
    expect(reader.read(seed, most, url, place), least, most, f"a file could not grow: {said[-2]}")
    if not failed:
        raise NotApplicable(f"{steps} commits make no file longer than the longest was")


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
    for room in range(_DESCRIPTORS):
        opener = ground.fork()
        opener.do("descriptors", room)
        answer = opener.ask("open", url, str(place))
        opener.close()
        if answer == "opened":
            break
        if not answer.startswith("refused"):
            raise Broken(f"with room for {room} open files: {answer}")
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


@rule(
    "ERR-09",
    "An opening in which a sync fails is refused with a typed error, or what it shows is on the disk; the "
    "next one shows all that was acknowledged.",
    Mark.POWER_SAFE,
)
def opening_fails_to_sync(ground: Ground) -> None:
    strike = died_unheard(ground)  # so that there is something that is not yet on the disk
    left = files(strike.place)
    tried = 0
    for name in SYNCS:
        for number in count(1):
            lay_out(left, strike.place)
            if not _open_badly(ground, strike, f"{name}:error=EIO:when={number}"):
                break
            tried += 1
    if not tried:
        raise NotApplicable("an opening makes no sync that could fail")


def _open_badly(ground: Ground, strike: Strike, fault: str) -> bool:
    """Opens the store with a fault, and then without; answers whether the fault happened."""
    opener, reader, least = ground.fork(), ground.fork(), strike.acknowledged
    url = ground.subject.url(strike.place)
    with traced(opener, fault) as opening:
        shown = opener.read(ground.seed, STEP, url, strike.place)
        opener.kill()
    if not any(call.injected for call in opening):
        return False
    strike = strike._replace(fault=f"{strike.fault} and {fault}")
    replay = strike.replay().process(opening)
    if shown.outcome != "refused":
        expect(shown, least, STEP, f"after {strike.fault}")
        lose_power(ground, strike, [replay.disk.note("anything after it")], shown, shown.step)
    with traced(reader) as reading:
        again = reader.read(ground.seed, STEP, url, strike.place)
        reader.kill()
    expect(again, max(least, shown.step), STEP, f"after {strike.fault}, opened again")
    end = replay.process(reading).disk.note("anything after the store was read")
    lose_power(ground, strike, [end], again, again.step)
    return True
