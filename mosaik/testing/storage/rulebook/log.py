"""LOG: entries are read as they were written, and nothing else is."""

from __future__ import annotations

from typing import Any, Final

from mosaik.primitives.durable import Anchor, SnapshotRef, WriteBatch
from mosaik.primitives.entry import HEADER_SIZE, MAX_ENTRY_SIZE, Entry, EntryKind, seal
from mosaik.storage.engine import ROW_SIZE
from mosaik.testing.storage.ground import Ground, entries, hard_state, identity
from mosaik.testing.storage.rule import Broken, Mark, rule
from mosaik.testing.storage.rulebook.shown import end_of, must_refuse, require, shown

__all__: list[str] = []

#: Far beyond what 32 bits hold.
_FAR: Final = 1 << 40
_ALL: Final = 1 << 62
#: Bytes of the largest payload that an entry holds.
_LARGEST: Final = MAX_ENTRY_SIZE - HEADER_SIZE


@rule("LOG-01", "A new log is empty: nothing to read, both ends at zero, a store id of its own.")
def empty(ground: Ground) -> None:
    log = ground.log()
    require(log, [], "new,")
    if tuple(log.last()) != (0, 0) or log.snapshot is not None or log.suspect is not None:
        raise Broken(f"a new log: last {log.last()}, {log.snapshot}, suspect {log.suspect}")
    if len(log.hard_state.store) != 16 or not any(log.hard_state.store):
        raise Broken(f"a new log has the store id {log.hard_state.store!r}, not 16 random bytes")
    if log.environment.log(identity("other")).hard_state.store == log.hard_state.store:
        raise Broken("two new logs have the same store id")


@rule("LOG-02", "Appended entries are read back, byte for byte, as soon as append has returned.")
def appended(ground: Ground) -> None:
    log, written = ground.log(), entries(25)
    for first, last in ((0, 1), (1, 2), (2, 9), (9, 25)):
        log.append(written[first:last])
        require(log, written[:last], f"after {last} entries")
    for entry in written:
        if (found := log.get(entry.index)) is None or found.sealed != entry.sealed:
            raise Broken(f"get({entry.index}) gives {found}")


@rule("LOG-03", "A range is clamped to what is there; an empty or reversed one gives nothing.")
def clamped(ground: Ground) -> None:
    log, written = ground.log(), entries(20)
    log.append(written)
    log.prune_prefix(5)
    for first, last in (
        (0, 99),
        (6, 20),
        (1, 7),
        (19, _ALL),
        (8, 8),
        (6, 5),
        (21, 30),
        (0, 5),
        (9, 3),
    ):
        right = [entry for entry in written[5:] if first <= entry.index <= last]
        if log.get_range(first, last) != right:
            raise Broken(f"get_range({first}, {last}) of 6 to 20: {log.get_range(first, last)}")


@rule("LOG-04", "A range stops once so many bytes were collected, after at least one entry.")
def paged(ground: Ground) -> None:
    log, written = ground.log(), entries(400, size=700)
    log.append(written)
    size = len(written[0].sealed)
    for limit in (0, 1, size - 1, size, size + 1, 10 * size, 333 * size):
        got: list[int] = []
        while page := log.get_range(len(got) + 1, _ALL, limit=limit):
            bytes_ = sum(len(entry.sealed) for entry in page)
            early = bytes_ < limit and page[-1] != written[-1]
            if early or (len(page) > 1 and bytes_ - len(page[-1].sealed) >= limit):
                raise Broken(f"with limit={limit} a page of {len(page)} entries has {bytes_} bytes")
            if [entry.sealed for entry in page] != [
                entry.sealed for entry in written[len(got) : len(got) + len(page)]
            ]:
                raise Broken(
                    f"with limit={limit} a page from {len(got) + 1} on is not what is there"
                )
            got += [entry.index for entry in page]
            if limit < size and len(got) == 5:
                break  # one at a time is slow, and all the same
        else:
            if len(got) != len(written):
                raise Broken(f"with limit={limit} the pages end at entry {len(got)} of 400")


@rule("LOG-05", "Entries of no bytes and of the largest size are kept, alone and side by side.")
def sizes(ground: Ground) -> None:
    log = ground.log()
    held: list[Entry[Any]] = []
    for size in (0, 1, ROW_SIZE - 100, ROW_SIZE, ROW_SIZE + 1, 0, _LARGEST, 3, 3):
        run = entries(2, end_of(held), size=size)
        log.append(run)
        held += run
    require(log, held, "after entries of every size")
    log.truncate(1)
    mixed: list[Entry[Any]] = []
    for size in (5, 200_000, 0, 70_000, 5):
        mixed += entries(1, end_of(mixed), size=size)
    log.append(mixed)
    require(log, mixed, "after one batch of entries of several sizes")
    log.prune_prefix(1)
    log.truncate(5)
    require(log, mixed[1:4], "after small ones were cut off around large ones", end_of(mixed[:1]))
    log.prune_prefix(2)
    log.truncate(4)
    require(log, mixed[2:3], "after large ones were cut off", end_of(mixed[:2]))


@rule("LOG-06", "The terms of all entries are known, and change with every append and removal.")
def terms(ground: Ground) -> None:
    log, held = ground.log(), entries(3, term=2)
    held += entries(2, end_of(held), term=5)
    held += entries(4, end_of(held), term=9)
    log.append(held)
    require(log, held, "after three terms")
    log.truncate(8)
    held = held[:7]
    held += entries(2, end_of(held), term=11)
    log.append(held[7:])
    require(log, held, "after a term was cut and another one began")
    log.truncate(6)
    held = held[:5]
    require(log, held, "after whole terms were cut")
    held += entries(4, end_of(held), term=12)
    log.append(held[5:])
    log.prune_prefix(4)
    require(log, held[4:], "after the beginning was pruned", end_of(held[:4]))


@rule(
    "LOG-07",
    "Truncation removes exactly the entries from its index on, and others take their place.",
)
def truncated(ground: Ground) -> None:
    log, held = ground.log(), entries(200, size=900)
    log.append(held)
    log.truncate(201)
    require(log, held, "after a truncation beyond the end")
    for at in (200, 137, 64, 2):  # within rows and between them
        log.truncate(at)
        held = held[: at - 1]
        require(log, held, f"after truncate({at})")
        held += (others := entries(40, end_of(held), term=300 - at, tag="other"))
        log.append(others)
        require(log, held, f"after others were appended at {at}")
    log.truncate(0)
    require(log, [], "after truncate(0)")


@rule("LOG-08", "A conflicting end is overwritten in one batch.")
def overwritten(ground: Ground) -> None:
    log, held = ground.log(), entries(30, size=500)
    log.append(held)
    for at in (30, 17, 1):
        run = entries(25, end_of(held[: at - 1]), term=100 - at, tag="new")
        log.write(WriteBatch(truncate_from=at, entries=run))
        held = [*held[: at - 1], *run]
        require(log, held, f"after the end from {at} on was overwritten")


@rule(
    "LOG-09",
    "Pruning removes exactly the beginning; the rest keep their indices, and the end its cursor.",
)
def pruned(ground: Ground) -> None:
    log, held = ground.log(), entries(200, size=900)
    log.append(held)
    gone = 0
    for up_to in (0, 1, 64, 64, 3, 150):
        log.prune_prefix(up_to)
        gone = max(up_to, gone)
        require(log, held[gone:], f"after prune_prefix({up_to})", end_of(held[:gone]))
    log.truncate(10)
    require(log, [], "truncated below what was pruned", end_of(held[:150]))
    log.append(held[150:])
    log.prune_prefix(_ALL)
    require(log, [], "after all was pruned", end_of(held))
    more = entries(3, end_of(held), term=4)
    log.append(more)
    require(log, more, "appended after all was pruned", end_of(held))


@rule("LOG-10", "A reset drops everything, and the log continues after the anchor, however far up.")
def reset(ground: Ground) -> None:
    log = ground.log()
    for anchor in (Anchor(7, 100, 1234), Anchor(9, _FAR, (1 << 32) - 1), Anchor(3, 5, 0), Anchor()):
        log.append(entries(20, log.tail, term=max(1, log.tail.term), size=5_000))
        log.reset_to(anchor)
        require(log, [], f"after reset_to({anchor.index})", anchor)
        run = entries(4, anchor, term=max(1, anchor.term))
        log.append(run)
        require(log, run, f"appended after reset_to({anchor.index})", anchor)


@rule(
    "LOG-11", "A gap, an entry twice, an earlier term or time, another predecessor: refused, whole."
)
def continuity(ground: Ground) -> None:
    log = ground.log()
    log.append(entries(4, term=3))
    tail = log.tail
    good = entries(3, tail, term=3)
    torn = Anchor(tail.term, tail.index, tail.checksum ^ 1)
    past: Entry[Any] = seal(EntryKind.COMMAND, tail.index + 1, 3, 0, b"", tail.checksum)
    for what, run in {
        "a gap": good[1:],
        "a gap within": [good[0], good[2]],
        "an entry twice": [good[0], good[0]],
        "an entry that is there already": entries(4, term=3)[3:],
        "an earlier term": entries(1, tail, term=2),
        "a term that goes back within": [*good, *entries(1, end_of(good), term=2)],
        "another predecessor": entries(1, torn, term=3),
        "an earlier time": [past],
        "an index of long ago": entries(1, tail._replace(index=1), term=3),
    }.items():
        must_refuse(log, WriteBatch(entries=run), what)
    for what, batch in {
        "a negative truncation": WriteBatch[Any](truncate_from=-1),
        "a negative pruning": WriteBatch[Any](prune_to=-1),
        "a negative reset": WriteBatch[Any](reset_to=Anchor(0, -1, 0)),
        "a good term and a bad entry": WriteBatch[Any](
            hard_state=hard_state(log, term=9), entries=good[1:]
        ),
    }.items():
        must_refuse(log, batch, what)
    log.append(good)  # and nothing stayed behind that the next one would trip over
    require(log, [*entries(4, term=3), *good], "after refusals")


@rule("LOG-12", "The newest snapshot is remembered, with the batch that recorded it.")
def snapshot(ground: Ground) -> None:
    log, held = ground.log(), entries(9)
    log.append(held)
    for at in (3, 7):
        ref = SnapshotRef(end_of(held[:at]), f"snapshot-{at}", 10, bytes([at]) * 32)
        log.write(WriteBatch(snapshot=ref, prune_to=at - 1))
        if log.snapshot != ref:
            raise Broken(f"recorded {ref}, and the log says {log.snapshot}")
    require(log, held[6:], "after a snapshot and its pruning", end_of(held[:6]))


@rule(
    "LOG-13", "Closed and opened again, a log is what it was, however it became so.", Mark.KILL_SAFE
)
def reopened(ground: Ground) -> None:
    log, held = ground.log(), entries(300, size=400)
    held = [*held[:250], *entries(10, end_of(held[:250]), term=4, size=70_000)]
    ref = SnapshotRef(end_of(held[:20]), "snapshot", 10, bytes(32))
    log.append(entries(300, size=400))
    log.write(
        WriteBatch(
            hard_state=hard_state(log, term=4),
            truncate_from=251,
            entries=held[250:],
            prune_to=20,
            snapshot=ref,
        )
    )
    before = (shown(log), log.hard_state, log.snapshot, log.tail, log.anchor)
    for time in ("once", "twice"):
        log = ground.reopened()
        require(log, held[20:], f"opened again {time}", end_of(held[:20]))
        if (shown(log), log.hard_state, log.snapshot, log.tail, log.anchor) != before:
            raise Broken(f"opened again {time}: {log.hard_state}, {log.snapshot}")
    run = entries(2, Anchor(8, _FAR, 7), term=8)
    log.write(WriteBatch(reset_to=Anchor(8, _FAR, 7), entries=run))
    log = ground.reopened()
    require(log, run, "opened again after a reset", Anchor(8, _FAR, 7))
