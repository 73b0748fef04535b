"""What stands around a simulated node: its event loop, the wires, the disk."""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from mosaik.groups.wire import PROTOCOL as BONDS
from mosaik.primitives.digest import PeerId
from mosaik.primitives.errors import DialError, StorageFull, StorageUnavailable
from mosaik.storage.engine import Change
from mosaik.testing.simulation.disk import SimDisk, SimEngine
from mosaik.testing.simulation.loop import VirtualLoop
from mosaik.testing.simulation.network import Quality, SimTransport, Wires
from mosaik.testing.simulation.scheduler import Scheduler
from mosaik.transport.contract import Link

A, B = PeerId(bytes([1]) * 32), PeerId(bytes([2]) * 32)


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler()


def loop_on(scheduler: Scheduler, failed: Callable[..., None] | None = None) -> VirtualLoop:
    def unexpected(error: BaseException | None, message: str) -> None:
        raise AssertionError(message) from error

    return VirtualLoop(  # type: ignore[abstract]  # it has no sockets and no processes
        scheduler, None, wall_ms=0, failed=failed or unexpected
    )


# -- time -------------------------------------------------------------------------------------------


def test_things_happen_in_the_order_of_time_and_of_asking(scheduler: Scheduler) -> None:
    happened: list[tuple[str, float]] = []

    def note(what: str) -> None:
        happened.append((what, scheduler.now))

    scheduler.after(2.0, partial(note, "later"))
    scheduler.after(1.0, partial(note, "first"))
    scheduler.after(1.0, partial(note, "second"))
    scheduler.soon(partial(note, "now"))
    scheduler.run_until(1.5)
    assert happened == [("now", 0.0), ("first", 1.0), ("second", 1.0)]
    assert scheduler.now == 1.5
    scheduler.run_until(2.0)
    assert happened[-1] == ("later", 2.0)


def test_a_loop_without_end_is_noticed(scheduler: Scheduler) -> None:
    def again() -> None:
        scheduler.after(0.0, again)

    again()
    with pytest.raises(RuntimeError, match="time stands still"):
        scheduler.run_until(1.0)


def test_a_coroutine_sleeps_virtual_time(scheduler: Scheduler) -> None:
    loop = loop_on(scheduler)
    woken: list[float] = []

    async def sleeper() -> None:
        await asyncio.sleep(100)
        woken.append(loop.time())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(50):
                await loop.create_future()
        woken.append(loop.time())

    loop.call_soon(lambda: loop.create_task(sleeper()))
    scheduler.run_until(200)
    assert woken == pytest.approx([100, 150])


def test_a_clock_that_drifts_is_early_or_late(scheduler: Scheduler) -> None:
    fast, slow = loop_on(scheduler), loop_on(scheduler)
    fast.drift(1.25)
    slow.drift(0.8)
    rang: dict[str, float] = {}
    fast.call_later(10, lambda: rang.update(fast=scheduler.now))
    slow.call_later(10, lambda: rang.update(slow=scheduler.now))
    scheduler.run_until(4)
    slow.drift(0.5)  # a timer that was set before follows
    scheduler.run_until(30)
    assert rang["fast"] == pytest.approx(8)
    assert rang["slow"] == pytest.approx(4 + (10 - 4 * 0.8) / 0.5)


def test_a_frozen_process_goes_on_where_it_stopped(scheduler: Scheduler) -> None:
    loop = loop_on(scheduler)
    happened: list[str] = []
    loop.call_later(1, lambda: happened.append("timer"))
    loop.freeze()
    loop.deliver(lambda: happened.append("frame"))
    scheduler.run_until(5)
    assert happened == []
    loop.thaw()
    scheduler.run_until(6)
    assert sorted(happened) == ["frame", "timer"]


def test_a_dead_process_does_nothing_more(scheduler: Scheduler) -> None:
    loop = loop_on(scheduler)
    happened: list[str] = []

    async def worker() -> None:
        try:
            await asyncio.sleep(10)
            happened.append("woke")
        finally:
            happened.append("unwound")

    loop.call_soon(lambda: loop.create_task(worker()))
    loop.call_later(10, lambda: happened.append("timer"))
    scheduler.run_until(1)
    loop.die()
    assert happened == ["unwound"], "at once, and not when it is collected"
    loop.deliver(lambda: happened.append("frame"))
    loop.call_soon(lambda: happened.append("call"))
    scheduler.run_until(20)
    assert happened == ["unwound"]


def test_what_nobody_catches_is_told(scheduler: Scheduler) -> None:
    told: list[BaseException | None] = []

    def tell(error: BaseException | None, message: str) -> None:
        del message
        told.append(error)

    loop = loop_on(scheduler, tell)
    loop.call_soon(partial(divmod, 1, 0))
    scheduler.run_until(1)
    assert isinstance(told[0], ZeroDivisionError)


# -- wires ------------------------------------------------------------------------------------------


class Ends:
    """Two processes with a link between them, and what arrives at its far end."""

    def __init__(self, scheduler: Scheduler, seed: int = 1) -> None:
        self.scheduler = scheduler
        self.wires = Wires(scheduler, random.Random(seed))
        self.near = SimTransport(self.wires, loop_on(scheduler), A)
        self.far = SimTransport(self.wires, loop_on(scheduler), B)
        self.arrived: list[bytes] = []
        self.closed: list[bool] = []
        self.link: Link | None = None
        self.refused: BaseException | None = None

    def connect(self) -> Link:
        with self.far.loop.running():
            self.far.loop.create_task(self.far.start(self._accept))
        self.scheduler.run_until(self.scheduler.now + 1)
        self.dial()
        self.scheduler.run_until(self.scheduler.now + 1)
        assert self.link is not None
        return self.link

    def dial(self) -> None:
        async def dial() -> None:
            try:
                self.link = await self.near.dial(self.far.address, BONDS, expect=B, timeout=5)
            except DialError as error:
                self.refused = error

        with self.near.loop.running():
            self.near.loop.create_task(dial())

    def _accept(self, link: Link) -> None:
        link.on_frame = self.arrived.append
        link.on_close = self._ended

    def _ended(self, code: int, reason: str, died: bool) -> None:
        del code, reason
        self.closed.append(died)


def raft(number: int) -> bytes:
    return bytes([0x92, 6, number])


def other(number: int) -> bytes:
    return bytes([0x92, 1, number])


def test_frames_arrive_in_order_and_a_cut_holds_them_back(scheduler: Scheduler) -> None:
    ends = Ends(scheduler)
    link = ends.connect()
    for number in range(50):
        link.send(other(number))
    ends.wires.sever([A], [B], one_way=True)
    for number in range(50, 60):
        link.send(other(number))
    scheduler.run_until(scheduler.now + 2)
    assert ends.arrived == [other(number) for number in range(50)]
    ends.wires.heal()
    scheduler.run_until(scheduler.now + 2)
    assert ends.arrived == [other(number) for number in range(60)]


def test_only_consensus_is_lost_doubled_and_overtaken(scheduler: Scheduler) -> None:
    ends = Ends(scheduler)
    link = ends.connect()
    ends.wires.quality = Quality(loss=0.2, duplicate=0.2, overtaken=0.2)
    for number in range(250):
        link.send(raft(number))
        link.send(other(number))
    scheduler.run_until(scheduler.now + 5)
    rest = [frame for frame in ends.arrived if frame[1] != 6]
    assert rest == [other(number) for number in range(250)]
    messages = [frame[2] for frame in ends.arrived if frame[1] == 6]
    assert len(set(messages)) < 250, "some are lost"
    assert len(messages) > len(set(messages)), "some come twice"
    assert messages != sorted(messages), "some overtake others"


def test_nobody_is_reached_across_a_cut(scheduler: Scheduler) -> None:
    ends = Ends(scheduler)
    ends.connect()
    ends.link = None
    ends.wires.sever([B], [A], one_way=True)  # it would hear, and not be heard
    ends.dial()
    scheduler.run_until(scheduler.now + 6)
    assert ends.link is None
    assert "did not answer within 5 s" in str(ends.refused)
    ends.refused = None
    ends.wires.heal()
    ends.dial()
    scheduler.run_until(scheduler.now + 1)
    assert ends.link is not None


@pytest.mark.parametrize("silent", [False, True])
def test_a_process_that_dies_is_noticed_unless_its_machine_died(
    scheduler: Scheduler, silent: bool
) -> None:
    ends = Ends(scheduler)
    ends.connect()
    left = ends.near.crash(silent=silent)
    scheduler.run_until(scheduler.now + 1)
    assert ends.closed == ([] if silent else [True])
    assert len(left) == silent


# -- disks ------------------------------------------------------------------------------------------


LOG = b"log"


def change(first: int, text: bytes) -> Change:
    return Change(log=LOG, rows=((first, text),), meta=b"meta")


@pytest.fixture
def disk(tmp_path: Path) -> SimDisk:
    return SimDisk("one", tmp_path)


def rows(disk: SimDisk) -> list[tuple[int, bytes]]:
    return SimEngine(disk).rows(LOG, 0, 99, 1 << 20)


def test_what_is_committed_outlives_the_process(disk: SimDisk) -> None:
    engine = SimEngine(disk)
    engine.commit([change(1, b"one")])
    engine.kill()
    assert rows(disk) == [(1, b"one")]
    with pytest.raises(StorageUnavailable):
        engine.commit([change(2, b"two")])
    assert rows(disk) == [(1, b"one")]


@pytest.mark.parametrize("lands", [False, True])
def test_a_failed_sync_may_have_reached_the_disk_or_not(disk: SimDisk, lands: bool) -> None:
    engine = SimEngine(disk)
    disk.fail = lambda: lands
    with pytest.raises(OSError) as error:
        engine.commit([change(1, b"one")])
    assert error.value.errno == errno.EIO
    assert rows(disk) == ([(1, b"one")] if lands else [])


def test_a_full_disk_takes_nothing(disk: SimDisk) -> None:
    disk.full = True
    with pytest.raises(StorageFull):
        SimEngine(disk).commit([change(1, b"one")])
    assert rows(disk) == []


def test_a_disk_is_wiped_and_rolled_back_with_its_watermark(disk: SimDisk) -> None:
    SimEngine(disk).commit([change(1, b"one")])
    disk.watermark.write_bytes(b"mark 1")
    image = disk.image()
    SimEngine(disk).commit([change(2, b"two")])
    disk.watermark.write_bytes(b"mark 2")
    disk.roll_back(image)
    assert rows(disk) == [(1, b"one")]
    assert disk.watermark.read_bytes() == b"mark 1"
    assert disk.tampered
    SimEngine(disk).commit([change(2, b"another")])
    assert image.rows.rows(LOG, 0, 99, 1 << 20) == [(1, b"one")], "the image is a copy"
    disk.wipe()
    assert rows(disk) == []
    assert not disk.watermark.exists()
