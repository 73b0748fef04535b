"""What clients ask for, what they are told, and whether that was true.

Each client asks for one thing at a time, of any node whose process runs, by the handle that an application
would use. When that process dies the client never hears: the operation stays open in the history.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from mosaik.groups import Consistency
from mosaik.groups.sessions import SESSION_MS
from mosaik.machines import Map
from mosaik.primitives.entry import EntryKind
from mosaik.primitives.errors import MosaikError, Offline, QueryOffline
from mosaik.primitives.session import SessionHeader, SessionOp, unwrap
from mosaik.testing.linearizability import History, MapEntry, check_linearizable
from mosaik.testing.simulation.node import SimNode
from mosaik.testing.simulation.rules import Property

if TYPE_CHECKING:
    from mosaik.testing.simulation.simulation import Simulation

__all__ = ["Clients"]

KEYS: Final = tuple("abcdefgh")
#: The share of commands that are given in sessions.
_ONCE: Final = 0.08


class _Acknowledged(NamedTuple):
    """A command that a client was told is done.

    Attributes:
        handle: whose process took it, and which run of it.
        order: its place among all that were asked for.
        at: its index in the log of that history.
    """

    handle: tuple[str, int]
    order: int
    history: bytes
    at: int
    payload: bytes
    result: Any


class _Weak(NamedTuple):
    """A weak read, and between which applied entries its node stood."""

    node: str
    history: bytes
    low: int
    high: int
    key: str
    value: int | None


class _Asked(NamedTuple):
    """An operation under way."""

    client: int
    node: SimNode
    number: int | None
    order: int
    input: Any
    low: int
    weak: bool
    once: bool

    @property
    def reads(self) -> bool:
        """It changes nothing."""
        return isinstance(self.input, Map.Get)


class Clients:
    """All clients of a simulation.

    Attributes:
        recorded: what they asked for and were told.
        active: whether they ask for more.
    """

    def __init__(self, simulation: Simulation) -> None:
        self.simulation: Final = simulation
        self.recorded = History()
        self.active = False
        self._chance = simulation.chance
        self._encode: Final = msgspec.msgpack.Encoder().encode
        self._known: dict[tuple[int, str], int | None] = {}
        self._under_way: dict[int, _Asked] = {}
        self._acknowledged: list[_Acknowledged] = []
        self._weak: list[_Weak] = []
        self._order = 0

    @property
    def acknowledged(self) -> int:
        """How many commands were acknowledged."""
        return len(self._acknowledged)

    def begin(self, count: int) -> None:
        """So many clients begin to ask."""
        self.active = True
        for client in range(count):
            self._later(client)

    def stop(self) -> None:
        """No more questions."""
        self.active = False

    # -- asking -------------------------------------------------------------------------------------

    def _later(self, client: int) -> None:
        pause = self._chance.expovariate(1 / self.simulation.scenario.think_seconds)
        self.simulation.scheduler.after(pause, partial(self._next, client))

    def _next(self, client: int) -> None:
        if not self.active:
            return
        serving = [node for node in self.simulation.nodes if node.serving]
        if not serving:
            self._later(client)
            return
        asked, weak = self._draw(client)
        once = not isinstance(asked, Map.Get) and self._chance.random() < _ONCE
        self.ask(client, self._chance.choice(serving), asked, weak, once=once)

    def _draw(self, client: int) -> tuple[Any, bool]:
        """A question, and whether a weak answer will do."""
        key, roll = self._chance.choice(KEYS), self._chance.random()
        self._order += 1
        if roll < 0.25:
            return Map.Get(key), False
        if roll < 0.35:
            return Map.Get(key), True
        if roll < 0.65:
            return Map.Exchange(key, self._known.get((client, key)), self._order), False
        if roll < 0.7:
            return Map.Remove(key), False
        return Map.Insert(key, self._order), False

    def ask(
        self, client: int, node: SimNode, asked: Any, weak: bool = False, *, once: bool = False
    ) -> None:
        """A client asks a node; once: in a session of its own."""
        loop, group = node.loop, node.group
        assert loop is not None
        assert group is not None
        recorded = None if weak else self.recorded.begin(asked.key, asked, client=client)
        self._order += 1
        low = _applied(group)
        this = _Asked(client, node, recorded, self._order, asked, low, weak, once)
        self._under_way[this.order] = this
        with loop.running():
            try:
                pending: asyncio.Future[Any]
                if isinstance(asked, Map.Get):
                    pending = group.query(asked, Consistency.WEAK if weak else Consistency.STRONG)
                elif once:
                    pending = loop.create_task(_in_a_session(group, asked))
                else:
                    pending = group.execute(asked)
            except MosaikError:
                del self._under_way[this.order]
                if recorded is not None:
                    self.recorded.drop(recorded)
                self._later(client)
                return
            pending.add_done_callback(partial(self._answered, this))

    def crashed(self, node: SimNode) -> None:
        """A process died: whoever waits for it never hears."""
        for order, asked in list(self._under_way.items()):
            if asked.node is node:
                del self._under_way[order]
                if asked.number is not None:
                    self.recorded.lose(asked.number)
                self._later(asked.client)

    # -- being told ---------------------------------------------------------------------------------

    def _answered(self, asked: _Asked, answer: asyncio.Future[Any]) -> None:
        if self._under_way.pop(asked.order, None) is None:
            return
        error = answer.exception()
        counts = self.simulation.ledger.counts
        if error is not None:
            if not isinstance(error, MosaikError):
                self.simulation.failed(error, f"{asked.input} at {asked.node.name}")
            counts[f"refused: {type(error).__name__}"] += 1
            if asked.number is not None:
                certain = isinstance(error, Offline | QueryOffline)
                (self.recorded.drop if certain else self.recorded.lose)(asked.number)
        elif asked.weak:
            self._read_weakly(asked, answer.result())
        else:
            self._told(asked, answer.result())
        self._later(asked.client)

    def _read_weakly(self, asked: _Asked, value: int | None) -> None:
        group = asked.node.group
        assert group is not None
        history, high = asked.node.history, _applied(group)
        self._weak.append(_Weak(asked.node.name, history, asked.low, high, asked.input.key, value))

    def _told(self, asked: _Asked, result: Any) -> None:
        assert asked.number is not None
        node, counts = asked.node, self.simulation.ledger.counts
        if asked.reads:
            counts["strong reads"] += 1
            self._known[asked.client, asked.input.key] = result
        else:
            counts["acknowledged"] += 1
            counts["in sessions"] += asked.once
            told = _Acknowledged(
                # A session gives a command again when it has to, and so not in the order of asking.
                (f"session {asked.order}" if asked.once else node.name, node.starts),
                asked.order,
                node.history,
                int(result),
                self._encode(asked.input),
                result.result,
            )
            self._require_committed(told)
            self._acknowledged.append(told)
            result = result.result
        self.recorded.end(asked.number, result)

    def _require_committed(self, told: _Acknowledged) -> None:
        ledger = self.simulation.ledger
        chain = ledger.history(told.history).chain
        entry = chain[told.at - 1] if told.at <= len(chain) else None
        ledger.require(
            entry is not None
            and entry.kind is EntryKind.COMMAND
            and unwrap(entry.payload)[1] == told.payload,
            Property.ACKNOWLEDGED,
            f"{told.handle[0]} acknowledges {told.payload!r} at {told.at}; {entry} is committed there",
        )

    # -- was it true? -------------------------------------------------------------------------------

    def judge(self) -> None:
        """Compares all that clients were told with what was committed.

        Raises:
            Violation: something was lost, reordered, or not linearizable.
        """
        self._in_order()
        for told in self._acknowledged:
            self._require_committed(told)
        replayed: dict[bytes, _Replay] = {}

        def replay(history: bytes) -> _Replay:
            if history not in replayed:
                replayed[history] = _Replay(self.simulation.ledger.history(history).chain)
            return replayed[history]

        ledger = self.simulation.ledger
        for told in self._acknowledged:
            # What a session gave again was not done where it was given again.
            expected = replay(told.history).results.get(told.at, "not to be done")
            ledger.require(
                expected == told.result,
                Property.ACKNOWLEDGED,
                f"{told.handle[0]} answered {told.result!r} for index {told.at}; it is {expected!r}",
            )
        for weak in self._weak:
            possible = replay(weak.history).between(weak.key, weak.low, weak.high)
            ledger.require(
                weak.value in possible,
                Property.WEAK_READ,
                f"{weak.node} read {weak.key} = {weak.value!r} after {weak.low} to {weak.high} entries; "
                f"it was one of {possible}",
            )
        for node in self.simulation.nodes:
            if node.machine is not None and node.group is not None and node.history:
                held = node.machine.query(Map.Items())
                expected = replay(node.history).state_at(_applied(node.group))
                ledger.require(
                    held == expected,
                    Property.MACHINES_EQUAL,
                    f"{node.name} holds {held}; applied up to {_applied(node.group)} that is {expected}",
                )
        failures = check_linearizable(self.recorded.operations(), MapEntry())
        ledger.require(
            not failures,
            Property.LINEARIZABLE,
            "\n".join(str(failure) for failure in failures[:2]),
        )

    def _in_order(self) -> None:
        """What one handle was told is done was applied in the order in which it was asked for."""
        handles: dict[tuple[str, int], list[_Acknowledged]] = defaultdict(list)
        for told in self._acknowledged:
            handles[told.handle].append(told)
        for handle, all_told in handles.items():
            by_order = sorted(all_told, key=lambda told: told.order)
            for before, after in pairwise(by_order):
                self.simulation.ledger.require(
                    before.history != after.history or before.at < after.at,
                    Property.ACKNOWLEDGED,
                    f"{handle[0]} applied {after.payload!r} at {after.at}, and {before.payload!r}, "
                    f"which was given before it, at {before.at}",
                )


class _Replay:
    """What a chain of committed entries makes of the map.

    Attributes:
        results: by index, what each command answered.
    """

    def __init__(self, chain: list[Any]) -> None:
        machine: Map[str, int] = Map(str, int)
        decode = msgspec.msgpack.Decoder(machine.command_type).decode
        self.results: dict[int, Any] = {}
        given = _Given()
        self._values: dict[str, list[tuple[int, int | None]]] = defaultdict(lambda: [(0, None)])
        for entry in chain:
            if entry.kind is not EntryKind.COMMAND:
                continue
            header, payload = unwrap(entry.payload)
            if header is not None and not given.is_first(header, entry.time_ms):
                continue
            command: Any = decode(payload)
            apply: Callable[..., Any] = machine.apply
            self.results[entry.index] = apply(command, None)
            value = machine.query(Map.Get(command.key))
            self._values[command.key].append((entry.index, value))

    def between(self, key: str, low: int, high: int) -> list[int | None]:
        """The values that a key had from ``low`` to ``high`` applied entries."""
        values = self._values[key]
        at_low = max(number for number, (index, _) in enumerate(values) if index <= low)
        return [value for index, value in values[at_low:] if index <= high or index <= low]

    def state_at(self, index: int) -> dict[str, int]:
        """The whole map after so many entries."""
        state: dict[str, int] = {}
        for key, values in self._values.items():
            latest = [value for at, value in values if at <= index][-1]
            if latest is not None:
                state[key] = latest
        return state


class _Given:
    """What sessions have given, by rules of its own: few as they are, only the log's time ends them."""

    def __init__(self) -> None:
        self._numbers: dict[int, set[int]] = {}
        self._used: dict[int, int] = {}

    def is_first(self, header: SessionHeader, time_ms: int) -> bool:
        """Whether an entry is a command to be done: its session is known, and has not given it before."""
        session = header.session
        # A clock that leaps ages every session.
        known = session in self._used and time_ms - self._used[session] <= SESSION_MS
        if header.op is SessionOp.CLOSE or not (known or header.op is SessionOp.OPEN):
            self._used.pop(session, None)
            return False
        self._used[session] = time_ms
        if header.op is SessionOp.OPEN:
            if not known:
                self._numbers[session] = set()
            return False
        first = header.number not in self._numbers[session]
        self._numbers[session].add(header.number)
        return first


async def _in_a_session(group: Any, command: Any) -> Any:
    async with await group.session() as session:
        return await session.execute(command)


def _applied(group: Any) -> int:
    """Up to where this node's machine has got."""
    applied: int = group._replica.applier.applied
    return applied
