"""HARD: what a replica has to remember besides entries."""

from __future__ import annotations

from typing import Any

from mosaik.primitives.cursor import Cursor
from mosaik.primitives.durable import Anchor, HardState, WriteBatch
from mosaik.primitives.membership import Replica
from mosaik.storage import Storage
from mosaik.testing.storage.ground import Ground, entries, hard_state
from mosaik.testing.storage.rule import Broken, Mark, rule
from mosaik.testing.storage.rulebook.shown import must_refuse, require

__all__: list[str] = []


def _replica(name: str) -> Replica:
    return Replica(name.encode() * 32, b"s" * 16, 0)


def _full(log: Storage[Any]) -> HardState:
    """A hard state of which every part is set."""
    return hard_state(
        log,
        term=7,
        voted_for=_replica("a"),
        life=1,
        history=b"h" * 32,
        configs=(1, 3),
        founded=2,
        first_command=4,
        dissolve=5,
        dissolved=((b"d" * 32, b"e" * 32), (b"f" * 32, b"")),
        quarantine=True,
        floors=((_replica("b"), Cursor(3, 12)),),
    )


@rule("HARD-01", "The hard state is replaced as a whole, and read as it was written.")
def replaced(ground: Ground) -> None:
    log = ground.log()
    state = _full(log)
    log.write(WriteBatch(hard_state=state, reset_to=Anchor()))
    if log.hard_state != state:
        raise Broken(f"wrote {state}, and the log says {log.hard_state}")
    later = hard_state(log, term=8, voted_for=None, quarantine=False, floors=())
    log.write(WriteBatch(hard_state=later))
    if log.hard_state != later:
        raise Broken(f"wrote {later}, and the log says {log.hard_state}")


@rule("HARD-02", "Batches without a hard state leave it alone.")
def left_alone(ground: Ground) -> None:
    log = ground.log()
    state = _full(log)
    log.write(WriteBatch(hard_state=state, reset_to=Anchor()))
    log.append(entries(3, term=7))
    log.truncate(2)
    log.prune_prefix(1)
    if log.hard_state != state:
        raise Broken(f"wrote {state}; after other batches the log says {log.hard_state}")


@rule("HARD-03", "A second vote in a term is refused, and so is taking one back.")
def one_vote(ground: Ground) -> None:
    log = ground.log()
    log.write(WriteBatch(hard_state=hard_state(log, term=3, voted_for=_replica("a"))))
    for what, voted in {"a second vote": _replica("b"), "a vote taken back": None}.items():
        must_refuse(log, WriteBatch(hard_state=hard_state(log, voted_for=voted)), what)
    log.write(WriteBatch(hard_state=hard_state(log, voted_for=_replica("a"))))  # the same again
    log.write(WriteBatch(hard_state=hard_state(log, term=4, voted_for=_replica("b"))))


@rule("HARD-04", "Terms, lives and histories do not go back, and a store id does not get lost.")
def monotone(ground: Ground) -> None:
    log = ground.log()
    state = hard_state(log, term=3, life=1, history=b"h" * 32)
    log.write(WriteBatch(hard_state=state, reset_to=Anchor(), entries=entries(2, term=3)))
    changes: dict[str, dict[str, Any]] = {
        "an earlier term": {"term": 2},
        "an earlier life": {"life": 0, "term": 9},
        "a new life over old entries": {"life": 2},
        "a second history in a life": {"history": b"x" * 32},
        "no store id": {"store": b""},
    }
    for what, change in changes.items():
        must_refuse(log, WriteBatch(hard_state=hard_state(log, **change)), what)


@rule("HARD-05", "A new life, or a new store id, begins with an empty log and its terms anew.")
def new_life(ground: Ground) -> None:
    log = ground.log()
    state = hard_state(log, term=5, voted_for=_replica("a"), history=b"h" * 32)
    log.write(WriteBatch(hard_state=state, entries=entries(3, term=5)))
    reborn = hard_state(log, life=1, term=0, voted_for=None, history=b"")
    log.write(WriteBatch(hard_state=reborn, reset_to=Anchor()))
    require(log, [], "in a new life")
    if log.hard_state != reborn:
        raise Broken(f"wrote {reborn}, and the log says {log.hard_state}")
    log.append(entries(2))
    renewed = hard_state(log, store=b"n" * 16, life=0)
    must_refuse(log, WriteBatch(hard_state=renewed), "a new store id over old entries")
    log.write(WriteBatch(hard_state=renewed, reset_to=Anchor()))
    require(log, [], "under a new store id")
    if log.hard_state != renewed:
        raise Broken(f"wrote {renewed}, and the log says {log.hard_state}")


@rule("HARD-06", "The hard state is there again when the store is opened again.", Mark.KILL_SAFE)
def reopened(ground: Ground) -> None:
    log = ground.log()
    store, state = log.hard_state.store, _full(log)
    log = ground.reopened()
    if log.hard_state.store != store:
        raise Broken("a log that was never written to has another store id when it is opened again")
    log.write(WriteBatch(hard_state=state, reset_to=Anchor()))
    for _ in range(2):
        log = ground.reopened()
        if log.hard_state != state:
            raise Broken(f"wrote {state}; opened again the log says {log.hard_state}")
