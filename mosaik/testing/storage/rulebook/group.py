"""GROUP: the logs of several groups in one store know nothing of each other."""

from __future__ import annotations

from mosaik.primitives.durable import Anchor, WriteBatch
from mosaik.primitives.errors import StorageClosed
from mosaik.testing.storage.ground import Ground, entries, hard_state, identity
from mosaik.testing.storage.rule import Broken, Mark, rule
from mosaik.testing.storage.rulebook.shown import must_raise, require

__all__: list[str] = []


@rule("GROUP-01", "What one log appends, cuts, prunes or resets does not change another.")
def apart(ground: Ground) -> None:
    environment = ground.open()
    a, b, c = (environment.log(identity(name)) for name in "abc")
    held = entries(60, size=3_000)
    for log in (a, b, c):
        log.append(held)
    others = entries(60, size=3_000, tag="b")
    b.write(WriteBatch(truncate_from=1, entries=others))
    require(a, held, "another log was overwritten, and")
    b.prune_prefix(31)
    a.truncate(30)
    c.reset_to(Anchor(4, 9, 9))
    a.write(WriteBatch(hard_state=hard_state(a, term=9)))
    require(a, held[:29], "others were pruned and reset, and")
    require(b, others[31:], "others were cut and reset, and", Anchor(1, 31, others[30].checksum))
    require(c, [], "others were cut and pruned, and", Anchor(4, 9, 9))
    if (b.hard_state.term, c.hard_state.term) != (0, 0):
        raise Broken("one log's term has become another's")


@rule("GROUP-02", "A store names the logs that it holds, each with the identity it was made with.")
def named(ground: Ground) -> None:
    environment = ground.open()
    made = [identity(name, machine="counter", term=name) for name in "abc"]
    for each in made:
        environment.log(each)
    if sorted(environment.logs(), key=lambda each: each.group) != made:
        raise Broken(f"three logs were made, and it names {environment.logs()}")


@rule(
    "GROUP-03", "A retired log is forgotten, alone; opened again it is new, with another store id."
)
def retired(ground: Ground) -> None:
    environment = ground.open()
    log, other = environment.log(identity("a")), environment.log(identity("b"))
    held = entries(30, size=3_000)
    log.append(held)
    other.append(held)
    store = log.hard_state.store
    log.retire()
    with must_raise(StorageClosed, "an append to a retired log"):
        log.append(entries(1, log.tail))
    if environment.logs() != [identity("b")]:
        raise Broken(f"a log was retired, and the store names {environment.logs()}")
    log = environment.log(identity("a"))
    require(log, [], "retired and made anew,")
    if log.hard_state.store == store:
        raise Broken(
            "a log that was retired came back with the same store id, and has forgotten all"
        )
    require(other, held, "its neighbour was retired, and")


@rule(
    "GROUP-04",
    "Each log is there again, as itself, when the store is opened again.",
    Mark.KILL_SAFE,
)
def reopened(ground: Ground) -> None:
    environment = ground.open()
    runs = {name: entries(20, size=2_000, tag=name) for name in "abcd"}
    made = {name: identity(name, machine="counter", term=name) for name in runs}
    environment.commit(
        [(environment.log(made[name]), WriteBatch(entries=run)) for name, run in runs.items()]
    )
    environment.log(made.pop("d")).retire()
    stores = {name: environment.log(each).hard_state.store for name, each in made.items()}
    ground.close()
    environment = ground.open()
    if sorted(environment.logs(), key=lambda each: each.group) != [*made.values()]:
        raise Broken(f"opened again, the store names {environment.logs()}")
    for name, store in stores.items():
        log = environment.log(made[name])
        require(log, runs[name], f"opened again, log {name}:")
        if log.hard_state.store != store:
            raise Broken(f"opened again, log {name} has another store id, as if it were new")
