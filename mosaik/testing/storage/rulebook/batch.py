"""BATCH: a commit is done whole, or refused whole."""

from __future__ import annotations

from typing import Any, Final

from mosaik.primitives.durable import Anchor, SnapshotRef, WriteBatch
from mosaik.primitives.errors import InvalidBatch
from mosaik.storage import Capability, Storage
from mosaik.testing.storage.ground import Ground, entries, hard_state, identity
from mosaik.testing.storage.rule import Broken, Mark, NotApplicable, rule
from mosaik.testing.storage.rulebook.shown import end_of, must_raise, require, shown
from mosaik.testing.storage.trace import SYNCS, traced

__all__: list[str] = []

#: Commits of a kind whose syncs are counted.
_COUNTED: Final = 6


@rule("BATCH-01", "The parts of a batch are applied in their order: state, cut, entries, pruning.")
def in_order(ground: Ground) -> None:
    log, held = ground.log(), entries(10)
    log.append(held)
    tail = entries(6, end_of(held[:4]), term=2)
    ref = SnapshotRef(end_of(held[:2]), "snapshot", 10, bytes(32))
    log.write(
        WriteBatch(
            hard_state=hard_state(log, term=2),
            truncate_from=5,
            entries=tail,
            prune_to=3,
            snapshot=ref,
        )
    )
    require(log, [held[3], *tail], "after all parts at once", end_of(held[:3]))
    if (log.hard_state.term, log.snapshot) != (2, ref):
        raise Broken(f"after all parts at once: term {log.hard_state.term}, {log.snapshot}")
    more = entries(4, log.tail, term=2)
    log.write(WriteBatch(entries=more, prune_to=more[1].index))  # what it adds itself, too
    require(log, more[2:], "pruned into the same batch", end_of(more[:2]))
    log.write(WriteBatch(truncate_from=more[3].index, prune_to=more[2].index))
    require(log, [], "cut and pruned at once", end_of(more[:3]))
    anchor = Anchor(5, 50, 1)
    run = entries(3, anchor, term=5)
    log.write(WriteBatch(reset_to=anchor, entries=run, prune_to=51))
    require(log, run[1:], "reset, appended and pruned at once", end_of(run[:1]))


@rule("BATCH-02", "Batches of several logs are committed together, and refused together.")
def together(ground: Ground) -> None:
    environment = ground.open()
    logs = [environment.log(identity(name)) for name in "abc"]
    runs = [entries(5, tag=name) for name in "abc"]
    environment.commit(
        [(log, WriteBatch(entries=run)) for log, run in zip(logs, runs, strict=True)]
    )
    for log, run in zip(logs, runs, strict=True):
        require(log, run, "after a commit of three logs")
    before = [shown(log) for log in logs]
    gap = entries(2, end_of(runs[2]))[1:]
    with must_raise(InvalidBatch, "a commit of two good batches and one with a gap"):
        environment.commit(
            [
                (logs[0], WriteBatch(entries=entries(1, end_of(runs[0])))),
                (logs[1], WriteBatch(truncate_from=2)),
                (logs[2], WriteBatch(entries=gap)),
            ]
        )
    if [shown(log) for log in logs] != before:
        raise Broken("a commit was refused for one of its batches, and yet changed a log")


@rule("BATCH-03", "A commit takes one batch of a log, and only logs of its own store.")
def own_logs_once(ground: Ground) -> None:
    environment = ground.open()
    log, run = environment.log(identity()), entries(2)
    with must_raise(InvalidBatch, "a commit of two batches of one log"):
        environment.commit([(log, WriteBatch(entries=run[:1])), (log, WriteBatch(entries=run[1:]))])
    elsewhere = ground.open(ground.another("elsewhere"))
    other: Storage[Any] = elsewhere.log(identity("other"))
    with must_raise(InvalidBatch, "a commit of another store's log"):
        environment.commit([(log, WriteBatch(entries=run)), (other, WriteBatch(entries=run))])
    require(log, [], "after refusals")
    require(other, [], "after a refusal of its neighbour")


@rule("BATCH-04", "An empty batch and an empty commit are no mistake, and change nothing.")
def nothing_to_do(ground: Ground) -> None:
    log, held = ground.log(), entries(3)
    log.append(held)
    log.append([])
    log.write(WriteBatch())
    log.environment.commit([])
    require(log, held, "after batches of nothing")


@rule(
    "BATCH-05",
    "A store that declares shared-sync syncs a commit of many logs no more often than one of a single "
    "log; one that does not, does not.",
    Mark.KILL_SAFE,
)
def shared_sync(ground: Ground) -> None:
    place = ground.quick("sync")
    worker = ground.fork()
    worker.do("open", ground.subject.url(place), str(place))
    if not ground.subject.files(place):
        raise NotApplicable("the store keeps no files here whose syncs could be counted")
    worker.run(ground.seed, 1, 1)
    syncs: dict[int, int] = {}
    for logs in (1, 2):
        with traced(worker) as calls:
            worker.do("append", ground.seed, logs, _COUNTED)
        syncs[logs] = sum(call.name in SYNCS for call in calls)
    shares = Capability.SHARED_SYNC in ground.subject.describe().capabilities
    told = f"{_COUNTED} commits of one log made {syncs[1]} syncs, of two logs {syncs[2]}"
    if shares and syncs[2] > syncs[1]:
        raise Broken(f"it declares shared-sync, and {told}")
    if not shares and syncs[1] and syncs[2] <= syncs[1]:
        raise Broken(f"{told}; declare shared-sync")
