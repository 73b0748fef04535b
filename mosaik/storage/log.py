"""One log in an environment, typed by its commands: reads, and one-line writes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from mosaik.primitives.cursor import Cursor, IndexRange
from mosaik.primitives.durable import Anchor, HardState, SnapshotRef, WriteBatch
from mosaik.primitives.entry import Damage, Entry
from mosaik.primitives.errors import CorruptEntry
from mosaik.storage import rows
from mosaik.storage.contract import LogIdentity
from mosaik.storage.state import LogState, term_at

if TYPE_CHECKING:
    from mosaik.storage.environment import EngineEnvironment

__all__ = ["EngineLog", "LogSlot", "Look"]

C = TypeVar("C")


class LogSlot:
    """A log's place in an environment; what every `EngineLog` of it shares.

    Attributes:
        identity: whose log it is.
        state: as of the last commit.
        retired: the log was forgotten; its handles are of no more use.
        view: for looking only; it takes no batch.
    """

    __slots__ = ("identity", "retired", "state", "view")

    def __init__(self, identity: LogIdentity, state: LogState, *, view: bool = False) -> None:
        self.identity = identity
        self.state = state
        self.retired = False
        self.view = view


class Look(NamedTuple):
    """A log that was not opened, but looked at.

    Attributes:
        log: as far as its end is good.
        mark: what the watermark says was acknowledged; all zero when it says nothing.
        trouble: why the log's end cannot be read at all; None when it can.
    """

    log: EngineLog[Any]
    mark: Anchor
    trouble: CorruptEntry | None


class EngineLog(Generic[C]):
    """Implements `Storage` over an engine. Made by `EngineEnvironment.log`."""

    def __init__(
        self,
        environment: EngineEnvironment,
        slot: LogSlot,
        decode: Callable[[bytes], C] | None,
    ) -> None:
        self._environment = environment
        self.slot = slot
        self._decode = decode

    @property
    def environment(self) -> EngineEnvironment:
        return self._environment

    @property
    def identity(self) -> LogIdentity:
        return self.slot.identity

    @property
    def hard_state(self) -> HardState:
        return self.slot.state.hard_state

    @property
    def anchor(self) -> Anchor:
        return self.slot.state.anchor

    @property
    def tail(self) -> Anchor:
        return self.slot.state.tail

    @property
    def term_starts(self) -> Sequence[tuple[int, int]]:
        return self.slot.state.term_starts

    @property
    def snapshot(self) -> SnapshotRef | None:
        return self.slot.state.snapshot

    @property
    def suspect(self) -> IndexRange | None:
        return self.slot.state.suspect

    @property
    def suspect_term(self) -> int:
        state = self.slot.state
        return state.suspect_term if state.suspect is not None else 0

    def available(self) -> IndexRange:
        state = self.slot.state
        return IndexRange(state.anchor.index, state.tail.index)

    def last(self) -> Cursor:
        return self.slot.state.tail.cursor

    def term_at(self, index: int) -> int | None:
        return term_at(self.slot.state, index)

    def get(self, index: int) -> Entry[C] | None:
        return next(iter(self.get_range(index, index)), None)

    def get_range(self, first: int, last: int, *, limit: int | None = None) -> list[Entry[C]]:
        with self._environment.reading(self.slot) as read:
            state = self.slot.state
            first = max(first, state.anchor.index + 1)
            last = min(last, state.tail.index)
            found: Iterator[Entry[Any]] = rows.read(
                read, first, last, sys.maxsize if limit is None else limit, self._decode
            )
            try:
                return list(found)
            except Damage as damage:
                raise CorruptEntry(
                    damage.index, damage.reason, url=self._environment.url
                ) from damage

    def write(self, batch: WriteBatch[C]) -> None:
        self._environment.commit([(self, batch)])

    def append(self, entries: Sequence[Entry[C]]) -> None:
        self.write(WriteBatch(entries=entries))

    def truncate(self, at: int) -> None:
        self.write(WriteBatch(truncate_from=at))

    def prune_prefix(self, up_to: int) -> None:
        self.write(WriteBatch(prune_to=up_to))

    def reset_to(self, anchor: Anchor) -> None:
        self.write(WriteBatch(reset_to=anchor))

    def retire(self) -> None:
        self._environment.retire(self.slot)

    def __repr__(self) -> str:
        identity, state = self.slot.identity, self.slot.state
        return (
            f"EngineLog({identity.group[:5].hex()} {self.available()} "
            f"term {state.hard_state.term}, {self._environment.url})"
        )
