"""A run of batches over two logs that anybody can compute anew, and what the logs hold after each.

A process under test writes it, and whoever survives tells from the seed alone what may be there. Steps are
numbered from 1; the state before the first is number 0. Twelve steps in a row hold every kind of batch:
appends to one log or both, votes, truncations with and without entries in their place, pruning, and
entries that fill several pages. A *long* history only appends, and the logs grow.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from hashlib import blake2s
from typing import Any, Final, NamedTuple

import msgspec

from mosaik.primitives.durable import Anchor, WriteBatch
from mosaik.primitives.entry import Entry, join_sealed, unseal
from mosaik.primitives.errors import StorageError
from mosaik.primitives.membership import Replica
from mosaik.storage import Storage, StorageEnvironment
from mosaik.testing.storage.ground import entries, identity

__all__ = [
    "LOGS",
    "Contradiction",
    "History",
    "LogView",
    "Part",
    "Reading",
    "State",
    "Step",
    "decode_part",
    "encode_part",
    "fingerprint",
    "look",
    "read",
]

#: The logs of a history, by name.
LOGS: Final = ("a", "b")
#: Entries that pruning leaves.
_KEPT: Final = 12
_ALL: Final = 1 << 62


class LogView(NamedTuple):
    """What one log shows: all that matters to consensus, and nothing that an opening may change."""

    term: int = 0
    voted_for: bytes = b""
    anchor: Anchor = Anchor()
    entries: tuple[Entry[Any], ...] = ()

    @property
    def tail(self) -> Anchor:
        """Where the log ends."""
        if not self.entries:
            return self.anchor
        last = self.entries[-1]
        return Anchor(last.term, last.index, last.checksum)

    def __str__(self) -> str:
        vote = self.voted_for[:4].decode("ascii", "replace") if self.voted_for else "nobody"
        return f"{self.anchor.index}..{self.tail.index} in term {self.term}, vote for {vote}"


#: What all logs show.
State = tuple[LogView, ...]


class Part(NamedTuple):
    """One log's part of a step: a batch, without what only the opened log knows."""

    vote: bytes = b""
    reset_to: Anchor | None = None
    truncate_from: int | None = None
    entries: tuple[Entry[Any], ...] = ()
    prune_to: int | None = None

    def batch(self, log: Storage[Any]) -> WriteBatch[Any]:
        """The batch for a log that is open."""
        state = None
        if self.vote:
            candidate = Replica(self.vote, b"s" * 16, 0)
            term = log.hard_state.term + 1
            state = msgspec.structs.replace(log.hard_state, term=term, voted_for=candidate)
        return WriteBatch(
            hard_state=state,
            reset_to=self.reset_to,
            truncate_from=self.truncate_from,
            entries=self.entries,
            prune_to=self.prune_to,
        )

    def applied(self, view: LogView) -> LogView:
        """The log afterwards."""
        term, vote, anchor, held = view
        if self.vote:
            term, vote = term + 1, self.vote
        if self.reset_to is not None:
            anchor, held = self.reset_to, ()
        if self.truncate_from is not None:
            held = tuple(entry for entry in held if entry.index < self.truncate_from)
        held += self.entries
        if self.prune_to is not None:
            anchor = LogView(
                anchor=anchor, entries=tuple(e for e in held if e.index <= self.prune_to)
            ).tail
            held = tuple(entry for entry in held if entry.index > self.prune_to)
        return LogView(term, vote, anchor, held)


def encode_part(part: Part) -> str:
    """A part as text, for another process."""
    sealed = [entry.sealed for entry in part.entries]
    return msgspec.json.encode(part._replace(entries=())._asdict() | {"entries": sealed}).decode()


def decode_part(text: str) -> Part:
    """What `encode_part` made a text of."""
    wire = msgspec.json.decode(text, type=_WirePart)
    run = tuple(unseal(sealed) for sealed in wire.entries)
    return Part(wire.vote, wire.reset_to, wire.truncate_from, run, wire.prune_to)


class _WirePart(msgspec.Struct, frozen=True):
    vote: bytes
    reset_to: Anchor | None
    truncate_from: int | None
    entries: tuple[bytes, ...]
    prune_to: int | None


def fingerprint(view: LogView) -> str:
    """A short text that differs when anything does that a log shows; begins with what people ask first."""
    content = join_sealed(view.entries) + repr(view[:3]).encode()
    return f"{view.anchor.index}-{view.tail.index}:{blake2s(content, digest_size=8).hexdigest()}"


#: One commit: a part for each log that takes part in it.
Step = Mapping[int, Part]


class History:
    """The steps of a seed, computed as they are asked for.

    Args:
        seed: a number, or a text, for a long history one that begins with ``long``.
    """

    def __init__(self, seed: int | str) -> None:
        self._rng = random.Random(seed)
        self._kinds = _LONG if str(seed).startswith("long") else _KINDS
        self.seed = seed
        self._steps: list[Step] = [{}]
        self._states: list[State] = [tuple(LogView() for _ in LOGS)]

    def step(self, number: int) -> Step:
        """What step ``number`` writes."""
        self.state(number)
        return self._steps[number]

    def state(self, number: int) -> State:
        """What the logs hold after step ``number``."""
        while len(self._states) <= number:
            kind = self._kinds[(len(self._states) - 1) % len(self._kinds)]
            before = self._states[-1]
            step = {at: make(self, before[at]) for at, make in kind.items()}
            after = [
                view if at not in step else step[at].applied(view) for at, view in enumerate(before)
            ]
            self._steps.append(step)
            self._states.append(tuple(after))
        return self._states[number]

    def commit(
        self, environment: StorageEnvironment, logs: list[Storage[Any]], number: int
    ) -> None:
        """Writes step ``number``; the logs must be as the step before left them."""
        step = self.step(number)
        environment.commit([(logs[at], part.batch(logs[at])) for at, part in step.items()])

    # -- what the kinds are made of ------------------------------------------------------------------

    def _run(self, after: LogView, *, count: int = 0, size: int = 60) -> tuple[Entry[Any], ...]:
        tag = f"{self.seed}:{len(self._states)}:"
        count = count or self._rng.randint(1, 5)
        return tuple(entries(count, after.tail, term=max(1, after.term), size=size, tag=tag))

    def _candidate(self) -> bytes:
        return f"{self._rng.randrange(10_000):04}".encode() * 8

    def append(self, view: LogView) -> Part:
        return Part(entries=self._run(view))

    def append_much(self, view: LogView) -> Part:
        return Part(entries=self._run(view, size=6_000))

    def append_many(self, view: LogView) -> Part:
        return Part(entries=self._run(view, count=40))

    def vote(self, _view: LogView) -> Part:
        return Part(vote=self._candidate())

    def vote_and_append(self, view: LogView) -> Part:
        vote = Part(vote=self._candidate())
        return vote._replace(entries=self._run(vote.applied(view)))

    def cut(self, view: LogView) -> Part:
        first = view.anchor.index + 1
        return Part(
            truncate_from=self._rng.randint(max(first, view.tail.index - 3), view.tail.index)
        )

    def replace(self, view: LogView) -> Part:
        """Another leader's entries take the place of the last ones, and its term comes with them."""
        part = self.cut(view)._replace(vote=self._candidate())
        return part._replace(entries=self._run(part.applied(view)))

    def prune(self, view: LogView) -> Part:
        return Part(prune_to=max(view.anchor.index, view.tail.index - _KEPT))


_A, _B = range(len(LOGS))
_KINDS: Final[tuple[Mapping[int, Callable[[History, LogView], Part]], ...]] = (
    {_A: History.append},
    {_A: History.vote},
    {_A: History.append, _B: History.append},
    {_A: History.append},
    {_A: History.replace},
    {_A: History.append, _B: History.vote_and_append},
    {_A: History.cut},
    {_B: History.append_much},
    {_A: History.append, _B: History.replace},
    {_A: History.prune},
    {_A: History.vote_and_append, _B: History.prune},
    {_A: History.append},
)


_LONG: Final[tuple[Mapping[int, Callable[[History, LogView], Part]], ...]] = (
    {_A: History.append_many},
    {_A: History.vote_and_append, _B: History.append},
    {_A: History.append_many},
    {_A: History.append_many, _B: History.append_many},
)


class Reading(msgspec.Struct, frozen=True):
    """What somebody found who opened the store and read everything.

    Attributes:
        outcome: ``state``: the logs hold what they held after a step; ``suspect``: the same, but for
            entries at the end that the store reports as suspect; ``different``: after no step;
            ``refused``: a typed error; ``untyped``: any other.
        step: the last step that fits.
        served: the last step of which nothing is missing or suspected.
        detail: the error, or what was found.
        stores: the ids of the logs' stores.
        each: of each log the last step that fits it alone, or -1.
    """

    outcome: str
    step: int = -1
    served: int = -1
    detail: str = ""
    stores: tuple[str, ...] = ()
    each: tuple[int, ...] = ()

    def __str__(self) -> str:
        where = f" of step {self.step}" if self.step >= 0 else ""
        return f"{self.outcome}{where}" + (f": {self.detail}" if self.detail else "")


class Contradiction(Exception):
    """A log tells two things about itself."""


def read(open_: Callable[[], StorageEnvironment], history: History, limit: int) -> Reading:
    """Opens the store and tells which step's state it holds, up to ``limit``."""
    try:
        environment = open_()
        logs = [environment.log(identity(name)) for name in LOGS]
        views = tuple(look(log) for log in logs)
    except StorageError as error:
        return Reading("refused", detail=f"{type(error).__name__}: {error}")
    except Contradiction as error:
        return Reading("different", detail=str(error))
    except Exception as error:  # noqa: BLE001  # whatever a store raises is its answer
        return Reading("untyped", detail=f"{type(error).__name__}: {error}")
    stores = tuple(log.hard_state.store.hex() for log in logs)
    found = _last(history, limit, lambda state: all(map(_fits, logs, views, state)))

    def alone(at: int) -> int:
        return _last(history, limit, lambda state: _fits(logs[at], views[at], state[at]))

    each = tuple(map(alone, range(len(logs))))
    suspects = [
        f"{name}: {log.suspect}" for name, log in zip(LOGS, logs, strict=True) if log.suspect
    ]
    if found < 0:
        held = [f"{name}: {view}" for name, view in zip(LOGS, views, strict=True)]
        return Reading("different", detail="; ".join([*held, *suspects]), stores=stores, each=each)
    served = _last(history, found, lambda state: all(map(_serves, views, state)))
    outcome = "suspect" if suspects else "state"
    return Reading(outcome, found, served, "; ".join(suspects), stores, each)


def _last(history: History, limit: int, fits: Callable[[State], bool]) -> int:
    """The last step up to ``limit`` whose state fits; -1 without one."""
    return next((at for at in range(limit, -1, -1) if fits(history.state(at))), -1)


def _serves(view: LogView, right: LogView) -> bool:
    """Whether all of a state is there, and perhaps more entries."""
    return view._replace(entries=view.entries[: len(right.entries)]) == right


def _fits(log: Storage[Any], view: LogView, right: LogView) -> bool:
    """Whether a log holds just that, but for an end that it suspects."""
    if log.suspect is None:
        return view == right
    kept = right._replace(entries=right.entries[: len(view.entries)])
    follows = log.suspect.start == view.tail.index + 1
    return view == kept and follows and log.suspect.end >= right.tail.index


def look(log: Storage[Any]) -> LogView:
    """Reads a log in every way there is.

    Raises:
        Contradiction: one way tells something else than another.
        CorruptEntry: an entry is damaged.
    """
    anchor, tail, hard = log.anchor, log.tail, log.hard_state
    held = tuple(log.get_range(0, _ALL))
    view = LogView(hard.term, hard.voted_for.peer if hard.voted_for else b"", anchor, held)
    if [entry.index for entry in held] != list(range(anchor.index + 1, tail.index + 1)):
        raise Contradiction(
            f"a log from {anchor.index} to {tail.index} gives {[entry.index for entry in held]}"
        )
    if view.tail != tail or log.last() != tail.cursor or log.available().end != tail.index:
        raise Contradiction(f"tail {tail}, last {log.last()}, {log.available()}, entries to {view}")
    for entry in held:
        if log.term_at(entry.index) != entry.term:
            raise Contradiction(
                f"entry {entry.index} has term {entry.term}, and term_at says {log.term_at(entry.index)}"
            )
    for entry in held[:1] + held[-1:]:
        if log.get(entry.index) != entry:
            raise Contradiction(f"get({entry.index}) is not what get_range gives")
    return view
