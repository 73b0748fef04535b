"""READ: reading beside the writer, from a closed store, and of everything."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from mosaik.primitives.durable import WriteBatch
from mosaik.primitives.errors import StorageClosed, StorageError
from mosaik.storage import StorageURL, Writer
from mosaik.testing.storage.ground import Ground, entries, identity
from mosaik.testing.storage.rule import Broken, Mark, rule
from mosaik.testing.storage.rulebook.shown import must_raise, shown

__all__: list[str] = []

#: Batches that are written while somebody reads, and the entries of each.
_BATCHES: Final = 40
_EACH: Final = 7


@rule(
    "READ-01", "Who reads between two commits sees whole batches, and all that were acknowledged."
)
def beside_the_writer(ground: Ground) -> None:
    asyncio.run(_read_while_written(ground))


async def _read_while_written(ground: Ground) -> None:
    total = _BATCHES * _EACH
    writer = await Writer.open(ground.open)
    try:
        log = await writer.call(lambda: writer.environment.log(identity()))
        outcomes: list[StorageError | None] = []
        written = entries(total, size=300)
        for at in range(0, total, _EACH):
            writer.write(log, WriteBatch(entries=written[at : at + _EACH]), outcomes.append)
            least = len(outcomes) * _EACH
            seen = len((await writer.call(lambda: shown(log))).entries)
            if seen % _EACH or seen < least:
                raise Broken(
                    f"with {least} entries acknowledged in batches of {_EACH}, {seen} are seen"
                )
    finally:
        await writer.close()
    if outcomes != [None] * _BATCHES:
        raise Broken(f"{_BATCHES} batches were written, and their outcomes are {outcomes}")


@rule("READ-02", "A closed store says so, to every call; closing it twice is no mistake.")
def closed(ground: Ground) -> None:
    environment = ground.open()
    log = environment.log(identity())
    log.append(entries(3))
    environment.close()
    environment.close()
    calls: dict[str, Any] = {
        "get": lambda: log.get(1),
        "get_range": lambda: log.get_range(1, 3),
        "append": lambda: log.append(entries(1, log.tail)),
        "commit": lambda: environment.commit([(log, WriteBatch(truncate_from=1))]),
        "log": lambda: environment.log(identity("other")),
    }
    for name, call in calls.items():
        with must_raise(StorageClosed, f"{name} of a closed store"):
            call()


@rule("READ-03", "verify reads a whole log, and tells on the way how far it is.")
def verified(ground: Ground) -> None:
    environment = ground.open()
    log = environment.log(identity())
    environment.verify(log)
    log.append(entries(3_000, size=500))
    log.prune_prefix(10)
    told: list[int] = []
    environment.verify(log, told.append)
    if told != sorted(told) or told[-1:] != [3_000]:
        raise Broken(f"verifying entries 11 to 3000 it told of {told}")


@rule(
    "READ-04", "A store describes itself: where it is, without a password, its engine, its promise."
)
def described(ground: Ground) -> None:
    environment = ground.open()
    before = environment.describe()
    if not (before.url and before.engine):
        raise Broken(f"the store describes itself as {before}")
    password = StorageURL.parse(ground.subject.url(ground.place)).password
    if password and password in repr(before):
        raise Broken("the password of its URL can be read in what the store says of itself")
    environment.log(identity()).append(entries(1))
    environment.idle()
    if environment.describe() != before:
        raise Broken(f"{before} has become {environment.describe()}")


@rule("READ-05", "Two openings of a store in one process show one store, or the second is refused.")
def shared(ground: Ground) -> None:
    first = ground.open()
    log, held = first.log(identity()), entries(5)
    log.append(held)
    try:
        second = ground.open()
    except StorageError:
        return
    if second.key != first.key:
        return  # another store, as each opening of one in memory is
    twin = second.log(identity())
    more = entries(2, log.tail)
    twin.append(more)
    second.close()
    if shown(log).entries != (*held, *more):
        raise Broken(
            f"an entry appended through one opening is not seen by the other: {shown(log)}"
        )
    log.append(entries(1, log.tail))  # the first is still open


@rule(
    "READ-06",
    "What was written late is there after a clean close without anybody waiting.",
    Mark.KILL_SAFE,
)
def closed_at_once(ground: Ground) -> None:
    log, held = ground.log(), entries(50, size=2_000)
    log.append(held)
    log.truncate(30)
    log = ground.reopened()
    if shown(log).entries != tuple(held[:29]):
        raise Broken(f"closed right after a truncation to 29 entries, it shows {shown(log)}")
