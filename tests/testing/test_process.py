"""Child processes that report: what is awaited comes, or the wait ends with a reason."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from mosaik.testing.ports import free_ports
from mosaik.testing.process import Process, ProcessEnded, RequestFailed

Make = Callable[[str], Process]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """Makes processes that run a Python program; none outlives the test."""
    made: list[Process] = []

    def make(program: str) -> Process:
        lines = "import json,sys,signal,time\ndef say(**e): print(json.dumps(e), flush=True)\n"
        process = Process([sys.executable, "-c", lines + program], log=tmp_path / "log")
        made.append(process)
        return process

    yield make
    for process in made:
        await process.kill()


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_an_event_is_awaited_whether_it_came_before_or_comes_after(make: Make) -> None:
    process = make(
        "say(event='one'); sys.stdin.readline(); say(event='two', n=2); sys.stdin.readline()"
    )
    await process.start()
    assert (await process.until("one"))["event"] == "one"
    assert (await process.until("one"))["event"] == "one"
    assert process.running
    with pytest.raises(ProcessEnded, match="did not answer"):
        await process.request("anything", timeout=0.2)
    assert (await process.until(lambda event: event.get("n") == 2))["event"] == "two"
    assert len(process.events) == 2


async def test_a_process_that_ends_fails_the_wait_with_what_it_said(make: Make) -> None:
    process = make("sys.exit('it hurts')")
    await process.start()
    with pytest.raises(ProcessEnded, match=r"(?s)ended before 'one' \(exit status 1\).*it hurts"):
        await process.until("one")


async def test_a_silent_process_fails_the_wait(make: Make) -> None:
    process = make("say(event='here'); sys.stdin.readline()")
    await process.start()
    await process.until("here")
    with pytest.raises(ProcessEnded, match="did not report 'never' within"):
        await process.until("never", timeout=0.2)


async def test_kill_leaves_nothing(make: Make) -> None:
    process = make("say(event='here'); sys.stdin.readline()")
    await process.start()
    await process.until("here")
    pid = process.pid
    await process.kill()
    await process.kill()
    assert gone(pid)
    assert not process.running


async def test_stop_reaches_a_frozen_process(make: Make) -> None:
    process = make(
        "signal.signal(15, lambda *_: sys.exit(7)); say(event='here'); sys.stdin.readline()"
    )
    await process.start()
    await process.until("here")
    process.send_signal(signal.SIGSTOP)
    assert await process.stop() == 7


async def test_a_process_that_ignores_the_request_to_stop_is_killed_and_named(make: Make) -> None:
    process = make(
        "signal.signal(15, signal.SIG_IGN); say(event='here'); sys.stdin.readline(); time.sleep(60)"
    )
    await process.start()
    await process.until("here")
    with pytest.raises(ProcessEnded, match="did not stop"):
        await process.stop(timeout=0.2)
    assert not process.running


async def test_a_restart_forgets_the_events_of_the_run_before(make: Make) -> None:
    process = make("import os; say(event='here', pid=os.getpid()); sys.stdin.readline()")
    await process.start()
    before = await process.until("here")
    await process.kill()
    await process.start()
    assert (await process.until("here"))["pid"] != before["pid"]


async def test_requests_are_answered_in_any_order(make: Make) -> None:
    process = make(
        "a, b = (json.loads(sys.stdin.readline()) for _ in 'ab')\n"
        "say(event='answer', id=b['id'], error='no'); say(event='answer', id=a['id'], result=a['value'])\n"
        "sys.stdin.readline()"
    )
    await process.start()
    import asyncio

    good = asyncio.create_task(process.request("echo", value=[1, 2]))
    bad = asyncio.create_task(process.request("echo", value=0))
    with pytest.raises(RequestFailed, match="no"):
        await bad
    assert await good == [1, 2]


async def test_a_request_to_a_process_that_dies_fails(make: Make) -> None:
    process = make("say(event='here'); sys.stdin.readline(); sys.exit(3)")
    await process.start()
    await process.until("here")
    with pytest.raises(ProcessEnded, match="ended before it answered"):
        await process.request("anything")


def test_ports_are_free_and_differ() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(port < 32_768 for port in ports)


async def test_what_the_application_prints_is_no_event(make: Make, tmp_path: Path) -> None:
    process = make("print('hello'); print(5); say(event='here'); sys.stdin.readline()")
    await process.start()
    await process.until("here")
    assert [event["event"] for event in process.events] == ["here"]
    assert (tmp_path / "log").read_text() == "hello\n5\n"
