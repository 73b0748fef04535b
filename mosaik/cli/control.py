"""What whoever started a node may ask of it over its standard input, one JSON object a line.

Requests are ``{"id": 1, "op": "query", "value": …}``; each is answered by an ``answer`` event with the
same id and a ``result`` or an ``error``. The end of the input asks the node to stop.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec

from mosaik.groups import Consistency, Group
from mosaik.machines import StateMachine
from mosaik.primitives.errors import MosaikError

__all__ = ["Request", "answer_requests"]

#: A longer line ends the conversation.
_MAX_LINE: Final = 64 * 1024 * 1024
#: How often a watched event loop is looked at, in seconds.
_TICK: Final = 0.002


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request.

    Attributes:
        id: comes back with the answer.
        op: ``execute`` and ``query`` take a command or query as ``value``; ``status`` tells where the
            node stands; ``transfer`` hands leadership over; ``reaches`` waits until it has applied the
            log up to ``value``; ``stall`` watches the event loop for
            ``value`` seconds and tells the longest time that it did not turn.
        value: as msgspec writes the machine's commands and queries in JSON.
        strong: whether a query must see everything acknowledged before it.
    """

    id: int
    op: Literal["execute", "query", "reaches", "stall", "status", "transfer"]
    value: msgspec.Raw = msgspec.Raw(b"null")
    strong: bool = True


async def answer_requests(
    group: Group[Any, Any, Any], machine: StateMachine[Any, Any, Any], report: Callable[..., None]
) -> None:
    """Answers requests until standard input ends."""
    reader = asyncio.StreamReader(limit=_MAX_LINE)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        async with asyncio.TaskGroup() as tasks:
            while line := await reader.readline():
                request = msgspec.json.decode(line, type=Request)
                tasks.create_task(_answer(request, group, machine, report))
    finally:
        transport.close()


async def _longest_stall(seconds: float) -> float:
    """How long, in seconds, the event loop let a timer wait that was due."""
    loop = asyncio.get_running_loop()
    longest, end = 0.0, loop.time() + seconds
    while (now := loop.time()) < end:
        await asyncio.sleep(_TICK)
        longest = max(longest, loop.time() - now - _TICK)
    return longest


async def _answer(
    request: Request,
    group: Group[Any, Any, Any],
    machine: StateMachine[Any, Any, Any],
    report: Callable[..., None],
) -> None:
    try:
        result = await _perform(request, group, machine)
    except (MosaikError, msgspec.MsgspecError) as error:
        report("answer", id=request.id, error=f"{type(error).__name__}: {error}")
    else:
        report("answer", id=request.id, result=msgspec.to_builtins(result))


async def _perform(
    request: Request, group: Group[Any, Any, Any], machine: StateMachine[Any, Any, Any]
) -> Any:
    match request.op:
        case "execute":
            command = msgspec.json.decode(request.value, type=machine.command_type)
            applied = await group.execute(command)
            return {"index": int(applied), "result": applied.result}
        case "query":
            query = msgspec.json.decode(request.value, type=machine.query_type)
            return await group.query(
                query, Consistency.STRONG if request.strong else Consistency.WEAK
            )
        case "reaches":
            index = msgspec.json.decode(request.value, type=int)
            return int(await group.when().committed().reaches(index))
        case "stall":
            return await _longest_stall(msgspec.json.decode(request.value, type=float))
        case "transfer":
            await group.transfer_leadership()
            return None
        case "status":
            return {
                "leader": str(group.leader) if group.leader else None,
                "me": group.is_leader,
                "committed": int(group.committed),
                "log": tuple(map(int, group.log_position)),
            }
