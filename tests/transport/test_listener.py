"""Accepting connections: none is lost, not even at the end."""

from __future__ import annotations

import asyncio
import gc
import socket

import pytest

from mosaik.transport.listener import Listener


def listening() -> socket.socket:
    made = socket.create_server(("127.0.0.1", 0))
    made.setblocking(False)
    return made


async def test_a_connection_that_arrives_while_it_closes_is_not_leaked() -> None:
    """With ``sock_accept`` in a task this leaves an unclosed socket behind."""
    for _ in range(20):
        place = listening()
        accepted: list[socket.socket] = []
        listener = Listener(place, accepted.append, lambda error: None)
        client = socket.create_connection(place.getsockname())
        await asyncio.sleep(0)  # one turn: the readiness may or may not have been seen
        listener.close()
        listener.close()
        await asyncio.sleep(0)
        client.close()
        for stranger in accepted:
            stranger.close()


def test_a_task_that_accepts_leaks_such_a_connection() -> None:
    """The planted bug: what `Listener` is there to avoid."""
    with listening() as place, pytest.warns(ResourceWarning, match="unclosed <socket"):
        run_and_collect(place)


def run_and_collect(place: socket.socket) -> None:
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(accept_and_cancel(place))
    gc.collect()


async def accept_and_cancel(place: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    task = loop.create_task(loop.sock_accept(place))
    await asyncio.sleep(0)
    with socket.create_connection(place.getsockname()):
        await asyncio.sleep(0)  # the loop sees the connection and accepts it
        await asyncio.sleep(0)  # the task is woken with it, and runs after us
        task.cancel()
        await asyncio.wait([task])


async def test_accepting_goes_on_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(socket.socket):
        failures = 1

        def accept(self) -> tuple[socket.socket, object]:
            if self.failures:
                self.failures -= 1
                raise OSError(24, "Too many open files")
            return super().accept()

    place = Failing(socket.AF_INET, socket.SOCK_STREAM)
    place.bind(("127.0.0.1", 0))
    place.listen()
    place.setblocking(False)
    errors: list[OSError] = []
    arrived = asyncio.get_running_loop().create_future()
    listener = Listener(place, arrived.set_result, errors.append)
    client = socket.create_connection(place.getsockname())
    stranger = await arrived
    assert [error.errno for error in errors] == [24]
    stranger.close()
    client.close()
    listener.close()
