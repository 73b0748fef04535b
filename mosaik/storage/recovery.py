"""When a majority of a group's voters is lost for good: which store goes on, and making it go on.

Theory of operation
-------------------
Without a majority nobody can lead, and nobody can be let in. Only people can know that the others will
never come back, so people decide, in two steps. A *plan* looks at all stores that are left and chooses the
one whose log has the newest end: the highest last term, and of these the longest (the order by which voters
choose a leader, thesis §3.6.1). While no more voters are missing than a majority can do without, that log
holds everything that was acknowledged; with more missing, what only the lost ones held is lost.

*Applying* it makes the chosen log the beginning of a new history with that replica as its only voter, in one
transaction: interrupted at any moment the store is as it was or as it has to be, and applying again
finishes. It gets a new store id, which the plan names, so that it is known to be done. Under the new
history's id nothing that a voter of the old one still says is mistaken for a word in the new one: an old
voter that comes back after all is refused. The other stores of the plan are emptied, and their nodes join
as new replicas. A store that is not what the plan saw is left alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import msgspec

from mosaik.primitives.durable import Anchor
from mosaik.primitives.errors import ConfigError, CorruptEntry, StorageMismatch
from mosaik.primitives.membership import Configuration, configuration_codec
from mosaik.storage.closed import engine_of, opened_closed
from mosaik.storage.environment import EngineEnvironment
from mosaik.storage.log import Look
from mosaik.storage.plan import STORE_ID_SIZE
from mosaik.storage.rebirth import found_anew, is_founded
from mosaik.storage.transfer import LogHead, read_head

__all__ = [
    "RecoveryPlan",
    "Survivor",
    "apply_plan",
    "make_plan",
    "plan_from_bytes",
    "plan_to_bytes",
]

_VERSION: Final = 1
#: No sensible plan is longer, in bytes.
MAX_PLAN: Final = 1024 * 1024

Text = Annotated[str, msgspec.Meta(max_length=8192)]
Hex = Annotated[str, msgspec.Meta(max_length=128, pattern="^([0-9a-f][0-9a-f])*$")]


class Survivor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A store that is left.

    Attributes:
        url: where it is.
        peer, store, life: the replica that it is, in hex.
        term: the newest that it knows; last_term, last: where its log ends, with its checksum in hex.
        voter: whether it counts, by the chosen log's newest configurations.
        trouble: why it cannot be chosen and does not count; empty when it can.
    """

    url: Text
    peer: Hex
    store: Hex
    life: int
    term: int
    last_term: int
    last: int
    checksum: Hex
    voter: bool = False
    trouble: Text = ""


class RecoveryPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be done.

    Attributes:
        version: of this format.
        group, history: whose stores these are, in hex.
        chosen: the URL of the store whose log goes on.
        new_store: the id that it will have, in hex.
        survivors: all that are left, the chosen one included.
        lost: the voters that are not among them, as ``peer/store``.
        complete: whether the chosen log certainly holds all that was acknowledged.
    """

    version: int
    group: Hex
    history: Hex
    chosen: Text
    new_store: Hex
    survivors: Annotated[list[Survivor], msgspec.Meta(max_length=1000)]
    lost: list[Text]
    complete: bool


def plan_to_bytes(plan: RecoveryPlan) -> bytes:
    """The plan as a file has it."""
    return msgspec.json.format(msgspec.json.encode(plan), indent=2) + b"\n"


def plan_from_bytes(text: bytes) -> RecoveryPlan:
    """The plan in a file.

    Raises:
        ConfigError: it is none, or a newer mosaik made it.
    """
    if len(text) > MAX_PLAN:
        raise ConfigError(f"a plan of {len(text)} bytes; the limit is {MAX_PLAN}")
    try:
        plan = msgspec.json.decode(text, type=RecoveryPlan)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"this is not a plan that `mosaik recover plan` made: {error}") from error
    if plan.version != _VERSION:
        raise ConfigError(f"a plan of version {plan.version}; this mosaik knows version {_VERSION}")
    return plan


# -- planning ---------------------------------------------------------------------------------------


class _Found:
    """A store and its log, as they lie there."""

    def __init__(self, url: str, group: bytes, look: Look) -> None:
        log = look.log
        hard, tail = log.hard_state, log.tail
        self.group = group
        self.history = hard.history
        self.head: LogHead | None = None
        trouble = ""
        if look.trouble is not None:
            trouble = f"damaged: {look.trouble.reason}"
        elif log.suspect is not None or look.mark.index > tail.index:
            trouble = "the end of its log is damaged"
        elif hard.quarantine:
            trouble = "it is quarantined: an unfinished copy, or its disk was rolled back"
        else:
            self.head = read_head(log.identity, log)
            if not is_founded(self.head):
                trouble = "its history was never founded"
            elif hard.dissolve:
                trouble = "its history was being dissolved into another"
        self.configurations = _configurations(look) if not trouble else []
        self.survivor = Survivor(
            url=url,
            peer=bytes(log.identity.peer).hex(),
            store=hard.store.hex(),
            life=hard.life,
            term=hard.term,
            last_term=tail.term,
            last=tail.index,
            checksum=f"{tail.checksum:08x}",
            trouble=trouble,
        )


def _configurations(look: Look) -> list[Configuration]:
    """The two newest: the newer may not have been committed."""
    found: list[Configuration] = []
    for index in look.log.hard_state.configs:
        entry = look.log.get(index)
        if entry is None:
            raise CorruptEntry(index, "the configuration that the hard state names is missing")
        found.append(configuration_codec.decode(entry.payload))
    return found


def make_plan(
    urls: Sequence[str], choose: Callable[[list[bytes]], list[bytes]] = list
) -> RecoveryPlan:
    """Looks at all stores that are left, and says how to go on. Changes nothing.

    Args:
        urls: of the stores; their nodes are stopped.
        choose: of the groups that a store holds, the one that is meant.

    Raises:
        ConfigError: nothing has to be recovered, or nothing can be; or the stores are not of one history.
        StorageLocked: a node runs on one of them. CorruptEntry: one cannot be read at all.
    """
    found = [_look(url, choose) for url in urls]
    _require_one_history(found)
    good = [each for each in found if not each.survivor.trouble]
    if not good:
        raise ConfigError(
            "none of these logs can go on: "
            + "; ".join(f"{each.survivor.url}: {each.survivor.trouble}" for each in found)
            + ". `mosaik log verify` says more; with a backup, `mosaik log restore --new-history` begins anew"
        )
    best = max(good, key=lambda each: (each.survivor.last_term, each.survivor.last))
    counted = {(each.survivor.peer, each.survivor.store, each.survivor.life) for each in good}
    lost: set[str] = set()
    complete = True
    voters: set[tuple[str, str, int]] = set()
    for configuration in best.configurations:
        these = {(v.peer.hex(), v.store.hex(), v.life) for v in configuration.voters}
        left = len(these & counted)
        if configuration is best.configurations[-1] and left > len(these) // 2:
            raise ConfigError(
                f"{left} of {len(these)} voters are left, which is a majority: start their nodes, and the "
                "group goes on without losing anything"
            )
        # Whatever was acknowledged is on a majority, so on one of these if no more are missing than that.
        complete &= len(these) - left <= len(these) // 2
        voters |= these
        lost |= {f"{peer[:10]}/{store[:6]}" for peer, store, _ in these - counted}
    survivors = [
        msgspec.structs.replace(
            each.survivor,
            voter=(each.survivor.peer, each.survivor.store, each.survivor.life) in voters,
        )
        for each in found
    ]
    return RecoveryPlan(
        version=_VERSION,
        group=best.group.hex(),
        history=best.history.hex(),
        chosen=best.survivor.url,
        new_store=os.urandom(STORE_ID_SIZE).hex(),
        survivors=survivors,
        lost=sorted(lost),
        complete=complete,
    )


def _look(url: str, choose: Callable[[list[bytes]], list[bytes]]) -> _Found:
    with opened_closed(url) as environment:
        engine = engine_of(environment)
        groups = choose([group for group, _ in engine.survey()])
        if len(groups) != 1:
            raise ConfigError(f"{url} holds {len(groups)} logs; say which --group is meant")
        return _Found(url, groups[0], engine.look(groups[0]))


def _require_one_history(found: Sequence[_Found]) -> None:
    groups = {each.group for each in found}
    histories = {each.history for each in found if each.history}
    replicas = {(each.survivor.peer, each.survivor.store) for each in found}
    if not found or len(groups) > 1:
        raise ConfigError(f"these are logs of {len(groups)} groups; name the stores of one")
    if len(histories) > 1:
        raise ConfigError(
            f"these are logs of {len(histories)} histories, which hold different commands; name the "
            "stores of the one that is to go on, and `mosaik log reset` the others"
        )
    if len(replicas) < len(found):
        raise ConfigError("two of these are one replica; name each store once, and no copies")


# -- applying ---------------------------------------------------------------------------------------


def apply_plan(plan: RecoveryPlan, url: str) -> bool:
    """Does what the plan says to one store, whose node is stopped.

    Returns:
        False if that was done before.

    Raises:
        ConfigError: the plan does not speak of this store.
        StorageMismatch: the store is not what the plan saw.
    """
    survivor = next((each for each in plan.survivors if each.url == url), None)
    if survivor is None:
        raise ConfigError(f"the plan does not speak of {url}; it names its stores by their URLs")
    group = bytes.fromhex(plan.group)
    with opened_closed(url) as environment:
        engine = engine_of(environment)
        hard = engine.look(group).log.hard_state
        if url != plan.chosen:
            if hard.store.hex() != survivor.store and not hard.history:
                return False
            _require_unchanged(engine, group, survivor)
            _ = engine.empty(group)
            return True
        if hard.store.hex() == plan.new_store:
            return False
        _require_unchanged(engine, group, survivor)
        _go_on(engine, group, bytes.fromhex(plan.new_store))
    return True


def _require_unchanged(engine: EngineEnvironment, group: bytes, survivor: Survivor) -> None:
    log = engine.look(group).log
    hard, tail = log.hard_state, log.tail
    seen = (hard.store.hex(), hard.life, hard.term, tail.term, tail.index, f"{tail.checksum:08x}")
    planned = (
        survivor.store,
        survivor.life,
        survivor.term,
        survivor.last_term,
        survivor.last,
        survivor.checksum,
    )
    if seen != planned:
        raise StorageMismatch(
            f"the log ends at {tail.index} of term {tail.term}, and the plan saw it end at {survivor.last} "
            f"of term {survivor.last_term}, or it is another replica by now: a node ran on it since. Make "
            "a new plan",
            url=engine.url,
        )


def _go_on(engine: EngineEnvironment, group: bytes, store: bytes) -> None:
    log = engine.look(group).log
    head = read_head(log.identity, log)
    last: Any = log.get(head.tail.index)
    alone = msgspec.structs.replace(
        head.hard_state, store=store, life=0, voted_for=None, attempt=None
    )
    reborn = msgspec.structs.replace(head, hard_state=alone)
    made, entry = found_anew(reborn, last.time_ms if last is not None else 0)
    assert made.tail == Anchor(entry.term, entry.index, entry.checksum)
    engine.refound(group, made.hard_state, entry)
