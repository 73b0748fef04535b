"""IDENT: whose a store is, who has it open, and whether it is the one that it was."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from mosaik.primitives.errors import (
    ConfigError,
    CorruptEntry,
    StorageError,
    StorageFormatTooNew,
    StorageMismatch,
)
from mosaik.storage import StorageEnvironment, record
from mosaik.storage import identity as boots
from mosaik.storage.environment import EngineEnvironment
from mosaik.storage.shared import SharedEnvironment
from mosaik.testing.storage.ground import Ground, entries, identity
from mosaik.testing.storage.history import LOGS
from mosaik.testing.storage.rule import Broken, Mark, NotApplicable, rule
from mosaik.testing.storage.rulebook.shown import must_raise, require, shown

__all__: list[str] = []

#: Another node than the kit's own.
_STRANGER: Final = b"x" * 32


def _require_files(ground: Ground, place: Path, what: str) -> None:
    if not ground.subject.files(place):
        raise NotApplicable(f"the store keeps no files here that could be {what}")


@rule(
    "IDENT-01",
    "While a process has the store open another one gets StorageLocked, at once, and disturbs nothing.",
    Mark.KILL_SAFE,
)
def one_opener(ground: Ground) -> None:
    log, held = ground.log(), entries(5)
    log.append(held)
    url, place = ground.subject.url(ground.place), str(ground.place)
    answer = ground.fork().ask("open", url, place)
    if not answer.startswith("refused StorageLocked"):
        raise Broken(f"a process has the store open, and another one was told: {answer}")
    more = entries(2, log.tail)
    log.append(more)
    require(log, [*held, *more], "after another process asked for it")
    ground.close()
    worker = ground.fork()
    worker.do("open", url, place)  # now it is free …
    worker.kill()
    ground.fork().do("open", url, place)  # … and again when its holder has died


@rule(
    "IDENT-02",
    "A store belongs to the node that made it; another one gets StorageMismatch.",
    Mark.KILL_SAFE,
)
def one_owner(ground: Ground) -> None:
    ground.log()
    ground.close()
    with must_raise(StorageMismatch, "opening another node's store"):
        ground.open(peer=_STRANGER).log(identity(peer=_STRANGER))


@rule("IDENT-03", "A log is not opened for another node than the one that opened the store.")
def own_logs(ground: Ground) -> None:
    environment = ground.open()
    with must_raise(StorageMismatch, "opening a log for another node"):
        environment.log(identity(peer=_STRANGER))
    if environment.logs():
        raise Broken(f"a log was refused, and yet made: {environment.logs()}")


@rule(
    "IDENT-04",
    "The log of a key is not opened under other parameters; the error names the one that differs.",
)
def same_parameters(ground: Ground) -> None:
    environment = ground.open()
    made = identity("a", machine="counter", pace="0.5")
    environment.log(made).append(entries(3))
    changed = msgspec.structs.replace(
        made, group=b"n" * 32, parts={"machine": "counter", "pace": "0.25"}
    )
    with must_raise(StorageMismatch, "opening a key's log under other parameters"):
        environment.log(changed)
    try:
        environment.log(changed)
    except StorageMismatch as error:
        if error.part != "pace" or "0.5" not in str(error) or "0.25" not in str(error):
            raise Broken(f"pace was 0.5 and is 0.25, and the error says: {error}") from error
    if environment.logs() != [made]:
        raise Broken(f"a log was refused, and the store now names {environment.logs()}")


@rule("IDENT-05", "The log of a group is not opened under another key.")
def same_key(ground: Ground) -> None:
    environment = ground.open()
    made = identity("a")
    environment.log(made).append(entries(3))
    with must_raise(StorageMismatch, "opening a group's log under another key"):
        environment.log(msgspec.structs.replace(made, key=b"x" * 32))


@rule(
    "IDENT-06",
    "The files of another node's store in place of its own are refused, not served.",
    Mark.KILL_SAFE,
)
def swapped(ground: Ground) -> None:
    ground.filled(10)
    ground.close()
    _require_files(ground, ground.place, "exchanged")
    foreign = ground.another("foreign")
    environment = ground.open(foreign, peer=_STRANGER)
    environment.log(identity(peer=_STRANGER)).append(entries(10, tag="foreign"))
    ground.close()
    shutil.rmtree(ground.place)
    foreign.rename(ground.place)
    foreign.mkdir()
    with must_raise(StorageMismatch, "opening a store in whose place another node's files lie"):
        ground.log()


@rule(
    "IDENT-07",
    "An older copy of the data under the newer mark of what was acknowledged is refused: nothing "
    "acknowledged disappears.",
    Mark.CORRUPTION_DETECTING,
)
def restored(ground: Ground) -> None:
    """A copy that is older as a whole looks like a store that was never newer; peers find that out."""
    log = ground.filled(10)
    ground.close()
    _require_files(ground, ground.place, "restored")
    kept = ground.another("kept")
    shutil.copytree(ground.place, kept, dirs_exist_ok=True)
    log = ground.log()
    for _ in range(3):
        log.append(entries(10, log.tail))
    held = [*shown(log).entries]
    ground.close()
    marks = [path for path in ground.subject.files(ground.place) if "watermark" in path.name]
    if not marks:
        raise NotApplicable("the store keeps no watermark apart from its data")
    for path in ground.subject.files(ground.place):
        if path not in marks:
            path.unlink()
    for path in ground.subject.files(kept):
        if "watermark" not in path.name:
            shutil.copy2(path, ground.place / path.relative_to(kept))
    try:
        log = ground.log()
    except CorruptEntry:
        return
    except StorageError as error:
        raise Broken(f"it should be refused with CorruptEntry, and was with: {error!r}") from error
    if shown(log).entries != tuple(held):
        raise Broken(f"40 entries were acknowledged; of an older copy it serves {shown(log)}")


@rule(
    "IDENT-08", "A store that a newer mosaik wrote is refused, and left as it is.", Mark.KILL_SAFE
)
def newer_format(ground: Ground) -> None:
    with _patched(record, "FORMAT", record.FORMAT + 1):
        environment = ground.open()
        if not isinstance(_innermost(environment), EngineEnvironment):
            raise NotApplicable("the store keeps its records in a way of its own")
        environment.log(identity()).append(entries(3))
        ground.close()
    with must_raise(StorageFormatTooNew, "opening a store of a newer format"):
        ground.log()
    with _patched(record, "FORMAT", record.FORMAT + 1):
        require(ground.log(), entries(3), "refused by an older mosaik, and opened by a newer one,")


@rule(
    "IDENT-09",
    "With sync=os, after the machine has restarted under an open store its logs are empty under new ids: "
    "nobody votes who may have forgotten.",
    Mark.KILL_SAFE,
)
def restarted(ground: Ground) -> None:
    place = ground.quick("boot")
    url = ground.subject.url(place, "sync=os")
    try:
        ground.subject.open(place, query="sync=os").close()
    except ConfigError as error:
        raise NotApplicable(f"the store has no such option: {error}") from error
    _require_files(ground, place, "lost with the machine's memory")
    worker = ground.fork()
    worker.do("open", url, str(place))
    worker.run(ground.seed, 1, 6)
    found = worker.read(ground.seed, 6, url, place)
    worker.kill()
    with _patched(boots, "boot_id", lambda: b"another boot ..."):
        environment = ground.subject.open(place, query="sync=os")
        logs = [environment.log(identity(name)) for name in LOGS]
        for log, store in zip(logs, found.stores, strict=True):
            require(log, [], "after the machine restarted")
            if log.hard_state.store.hex() == store:
                raise Broken("after the machine restarted an unsynced log has kept its store id")
        environment.close()


@contextmanager
def _patched(where: object, name: str, value: object) -> Generator[None]:
    before = getattr(where, name)
    setattr(where, name, value)
    try:
        yield
    finally:
        setattr(where, name, before)


def _innermost(environment: StorageEnvironment) -> StorageEnvironment:
    return environment.shared if isinstance(environment, SharedEnvironment) else environment
