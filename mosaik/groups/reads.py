"""Strong queries of this node: first an index at which a read is linearizable, then the answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from mosaik.groups.outcome import Pending
from mosaik.primitives.errors import GroupTerminated, QueryOffline

__all__ = ["Reads"]


class _Question(NamedTuple):
    query: Any
    pending: Pending[Any]


class _Batch:
    """Questions that were asked in one turn of the loop, and share one round to the leader."""

    __slots__ = ("deadline", "index", "questions")

    def __init__(self, questions: list[_Question], deadline: float) -> None:
        self.questions = questions
        self.deadline = deadline
        #: What has to be applied first; unknown until the leader has answered.
        self.index: int | None = None


class Reads:
    """Strong queries that are not answered yet.

    Args:
        answer: asks the state machine.
        timeout: seconds that a query may take.
    """

    def __init__(self, answer: Callable[[Any], Any], timeout: float) -> None:
        self._answer = answer
        self._timeout = timeout
        self._asked: list[_Question] = []
        self._batches: deque[_Batch] = deque()
        self._by_token: dict[int, _Batch] = {}

    @property
    def waiting(self) -> bool:
        """Some were asked that no batch holds yet."""
        return bool(self._asked)

    @property
    def deadline(self) -> float:
        """When `expire` has something to do."""
        return self._batches[0].deadline if self._batches else float("inf")

    def ask(self, query: Any, pending: Pending[Any]) -> None:
        """Takes a query; it goes with the next batch."""
        self._asked.append(_Question(query, pending))

    def gather(self, token: int, now: float) -> None:
        """Makes a batch of what was asked, to be confirmed under ``token``."""
        batch = _Batch(self._asked, now + self._timeout)
        self._asked = []
        self._batches.append(batch)
        self._by_token[token] = batch

    def ready(self, token: int, index: int, applied: int) -> None:
        """A batch may be answered by whoever has applied ``index``."""
        batch = self._by_token.pop(token, None)
        if batch is not None:
            batch.index = index
            self.applied(applied)

    def refused(self, token: int, reason: str) -> None:
        """A batch cannot be confirmed."""
        batch = self._by_token.pop(token, None)
        if batch is not None:
            batch.index = None
            self._fail(batch, reason)

    def refuse_asked(self, reason: str) -> None:
        """What was asked cannot even be sent."""
        asked, self._asked = self._asked, []
        self._fail(_Batch(asked, 0.0), reason)

    def applied(self, index: int) -> None:
        """This node's machine has applied everything up to ``index``."""
        if not self._batches:
            return
        still: deque[_Batch] = deque()
        for batch in self._batches:
            if batch.index is not None and batch.index <= index:
                for query, pending in batch.questions:
                    self._resolve(query, pending)
            elif batch.questions:
                still.append(batch)
        self._batches = still

    def _resolve(self, query: Any, pending: Pending[Any]) -> None:
        if pending.done():
            return
        try:
            answer = self._answer(query)
        except Exception as error:  # noqa: BLE001 - the application's own error is its caller's answer
            pending.set_exception(error)
        else:
            pending.set_result(answer)

    def expire(self, now: float) -> None:
        """Gives up on what has waited for too long."""
        while self._batches and self._batches[0].deadline <= now:
            self._fail(self._batches.popleft(), f"no answer within {self._timeout:g} s")

    def _fail(self, batch: _Batch, reason: str) -> None:
        questions, batch.questions = batch.questions, []
        for query, pending in questions:
            if not pending.done():
                pending.set_exception(
                    QueryOffline(f"not answered: {reason}; the query may be repeated", query)
                )

    def raise_all(self, error: Callable[[], GroupTerminated]) -> None:
        """Everything unanswered ends with this error."""
        batches, self._batches = self._batches, deque()
        self._by_token.clear()
        asked, self._asked = self._asked, []
        for _, pending in [*asked, *(q for batch in batches for q in batch.questions)]:
            if not pending.done():
                pending.set_exception(error())
