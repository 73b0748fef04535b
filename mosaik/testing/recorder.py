"""Records what clients ask of a group, and what they are told."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final

from mosaik.groups import Group
from mosaik.primitives.errors import MosaikError, Offline
from mosaik.testing.cluster import ClusterNode
from mosaik.testing.linearizability import History
from mosaik.testing.process import NotRunning, RequestFailed

__all__ = ["Acknowledged", "Recorder"]

Through = ClusterNode | Group[Any, Any, Any]


@dataclass(frozen=True)
class Acknowledged:
    """A command of which somebody was told that it was applied.

    Attributes:
        index: where in the log, as they were told.
    """

    index: int
    command: Any


class Recorder:
    """Stands between a test's clients and the nodes or groups that they ask.

    .. code-block:: python

        recorder = Recorder()
        await recorder.execute(node, Map.Insert("colour", "red"))
        assert await recorder.query(other, Map.Get("colour")) == "red"
        assert_linearizable(recorder.history.operations(), MapEntry())

    What was certainly not done is not in the history. What nobody knows the end of stays open in it.

    Args:
        key_of: what an operation is done to; operations on different keys must know nothing of each other.
            Their attribute ``key``, when not given; the whole machine for those that have none.

    Attributes:
        history: for `assert_linearizable`.
        acknowledged: in the order in which the answers came, for `assert_nothing_lost`.
    """

    def __init__(self, key_of: Callable[[Any], Hashable] | None = None) -> None:
        self.history: Final = History()
        self.acknowledged: Final[list[Acknowledged]] = []
        self._key_of: Final = key_of or _key

    async def execute(self, through: Through, command: Any, *, client: Hashable = None) -> Any:
        """Executes a command through a node or a group, and answers the machine's result.

        Raises:
            MosaikError: whatever the node or group answered, after it was recorded.
        """
        number = self.history.begin(self._key_of(command), command, client=client)
        try:
            if isinstance(through, ClusterNode):
                index, result = await through.execute(command)
            else:
                applied = await through.execute(command)
                index, result = int(applied), applied.result
        except BaseException as error:
            (self.history.drop if _certainly_not_done(error) else self.history.lose)(number)
            raise
        self.history.end(number, result)
        self.acknowledged.append(Acknowledged(index, command))
        return result

    async def query(self, through: Through, query: Any, *, client: Hashable = None) -> Any:
        """Asks by a strong read, and answers what the machine does.

        Raises:
            MosaikError: whatever the node or group answered. A read that failed changed nothing, and is not
                in the history.
        """
        number = self.history.begin(self._key_of(query), query, client=client)
        try:
            answer = await through.query(query)
        except BaseException:
            self.history.drop(number)
            raise
        self.history.end(number, answer)
        return answer


def _key(operation: Any) -> Hashable:
    return getattr(operation, "key", None)


def _certainly_not_done(error: BaseException) -> bool:
    if isinstance(error, RequestFailed):
        return error.kind == Offline.__name__
    return isinstance(error, MosaikError) and isinstance(error, Offline | NotRunning)
