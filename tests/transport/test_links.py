"""What every link promises, whatever carries it: the same tests over memory and over TLS."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from mosaik.primitives.digest import Digest
from mosaik.primitives.errors import (
    BindError,
    CodecError,
    DialError,
    FrameTooLarge,
    LinkClosed,
    ProtocolViolation,
)
from mosaik.primitives.peer import SecretKey
from mosaik.transport import MAX_FRAME, CloseReason, Link

if TYPE_CHECKING:
    from tests.transport.conftest import Nodes

Ending = tuple[int, str, bool]


def ignore(link: Link) -> None:
    """Accepts a link and leaves it alone."""


def ending(link: Link) -> asyncio.Future[Ending]:
    """How the link ends; a second report would raise InvalidStateError."""
    future: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()

    def on_close(code: int, reason: str, died: bool) -> None:
        future.set_result((code, reason, died))

    link.on_close = on_close
    return future


def collect(link: Link, count: int) -> asyncio.Future[list[bytes]]:
    """The next frames."""
    future: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
    frames: list[bytes] = []

    def on_frame(frame: bytes) -> None:
        frames.append(frame)
        if len(frames) == count:
            future.set_result(frames)

    link.on_frame = on_frame
    return future


async def test_both_ends_know_each_other(nodes: Nodes) -> None:
    alice, bob = SecretKey.generate(), SecretKey.generate()
    arrived: asyncio.Future[Link] = asyncio.get_running_loop().create_future()
    server = await nodes.start(arrived.set_result, bob)
    client = await nodes.start(ignore, alice)
    ours = await client.dial(server.addresses[0], "mosaik/test/1", expect=bob.peer)
    theirs = await arrived
    assert (ours.remote, theirs.remote) == (bob.peer, alice.peer)
    assert (ours.initiator, theirs.initiator) == (True, False)
    assert ours.protocol == theirs.protocol == "mosaik/test/1"
    assert ours.binding == theirs.binding
    assert len(ours.binding) == 32


async def test_no_two_links_have_the_same_binding(nodes: Nodes) -> None:
    server = await nodes.start(ignore)
    client = await nodes.start(ignore)
    links = [await client.dial(server.addresses[0], "a") for _ in range(3)]
    links.append(await client.dial(server.addresses[0], "b"))
    assert len({link.binding for link in links}) == 4


async def test_frames_arrive_whole_and_in_order(nodes: Nodes) -> None:
    ours, theirs = await nodes.pair()
    sizes = [0, 1, 4, 5, 16 * 1024, 0, 255 * 1024, 3 * 1024 * 1024, 7, MAX_FRAME, 1] + [9] * 500
    frames = [bytes([n % 251]) * size for n, size in enumerate(sizes)]
    received = collect(theirs, len(frames))
    for frame in frames:
        ours.send(frame)
    assert await received == frames


async def test_frames_cross_both_ways_at_once(nodes: Nodes) -> None:
    ours, theirs = await nodes.pair()
    there, back = collect(theirs, 2000), collect(ours, 2000)
    for n in range(2000):
        ours.send(n.to_bytes(4, "big"))
        theirs.send(n.to_bytes(4, "big"))
    assert await there == await back == [n.to_bytes(4, "big") for n in range(2000)]


async def test_the_backlog_grows_and_goes(nodes: Nodes) -> None:
    ours, theirs = await nodes.pair()
    received = collect(theirs, 10)
    for _ in range(10):
        ours.send(bytes(1000))
    assert ours.backlog >= 10_000
    await received
    while ours.backlog:
        await asyncio.sleep(0)


async def test_a_frame_that_is_too_large_is_refused_here(nodes: Nodes) -> None:
    ours, theirs = await nodes.pair()
    with pytest.raises(FrameTooLarge, match="the limit is"):
        ours.send(bytes(MAX_FRAME + 1))
    ours.send(b"still open")
    assert await theirs.receive(5) == b"still open"


async def test_receive_then_callback_loses_nothing(nodes: Nodes) -> None:
    ours, theirs = await nodes.pair()
    for n in range(100):
        ours.send(bytes([n]))
    ended = ending(theirs)
    first = await theirs.receive(5)
    second = await theirs.receive(5)
    rest = collect(theirs, 98)
    assert [first, second, *await rest] == [bytes([n]) for n in range(100)]
    ours.close()
    await ended


async def test_a_receiver_that_is_late_gets_frames_and_then_the_end(nodes: Nodes) -> None:
    ours, theirs = await nodes.pair()
    ours.send(b"one")
    ours.send(b"two")
    ours.close(CloseReason.GRACEFUL_SHUTDOWN, "bye")
    assert await theirs.receive(5) == b"one"
    while not theirs.closed:
        await asyncio.sleep(0)
    order: list[object] = []

    def on_close(code: int, reason: str, died: bool) -> None:
        order.append((code, reason, died))

    theirs.on_frame = order.append
    theirs.on_close = on_close
    while len(order) < 2:
        await asyncio.sleep(0)
    assert order == [b"two", (204, "bye", False)]


async def test_receive_times_out(nodes: Nodes) -> None:
    ours, theirs = await nodes.pair()
    with pytest.raises(TimeoutError):
        await theirs.receive(0.01)
    ours.send(b"late")
    assert await theirs.receive(5) == b"late"


async def test_receive_hears_of_the_end(nodes: Nodes) -> None:
    ours, theirs = await nodes.pair()
    ours.close(CloseReason.INVALID_PROOF, "no proof")
    with pytest.raises(LinkClosed, match="no proof") as caught:
        await theirs.receive(5)
    assert caught.value.code == CloseReason.INVALID_PROOF


async def test_close_sends_what_was_queued_and_says_why(nodes: Nodes) -> None:
    ours, theirs = await nodes.pair()
    received, ended, closed = collect(theirs, 50), ending(theirs), ending(ours)
    for n in range(50):
        ours.send(bytes([n]) * 50_000)
    ours.close(CloseReason.NOT_ALLOWED, "go away")
    ours.close(CloseReason.SUCCESS, "twice does nothing")
    ours.send(b"into the void")
    assert ours.closed
    assert len(await received) == 50
    assert await ended == (CloseReason.NOT_ALLOWED, "go away", False)
    assert await closed == (CloseReason.NOT_ALLOWED, "go away", False)


async def test_closing_from_within_a_frame_handler(nodes: Nodes) -> None:
    ours, theirs = await nodes.pair()
    seen: list[bytes] = []

    def on_frame(frame: bytes) -> None:
        seen.append(frame)
        theirs.close(CloseReason.TIMEOUT, "enough")

    theirs.on_frame = on_frame
    ended = ending(ours)
    for _ in range(10):
        ours.send(b"x")
    assert await ended == (CloseReason.TIMEOUT, "enough", False)
    assert seen == [b"x"], "nothing is delivered after this side closed"


@pytest.mark.parametrize("error", [ProtocolViolation("nonsense"), CodecError("nonsense")])
async def test_a_handler_that_refuses_a_frame_ends_the_link(
    nodes: Nodes, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = await nodes.pair()

    def on_frame(frame: bytes) -> None:
        raise error

    theirs.on_frame = on_frame
    ended = ending(ours)
    ours.send(b"x")
    assert await ended == (CloseReason.PROTOCOL_VIOLATION, "nonsense", False)
    assert "broke the protocol: nonsense" in caplog.text


async def test_a_bug_in_a_handler_is_reported_and_ends_the_link(nodes: Nodes) -> None:
    ours, theirs = await nodes.pair()
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda loop, context: reported.append(context["exception"])
    )
    bug = ZeroDivisionError("a bug")

    def on_frame(frame: bytes) -> None:
        raise bug

    theirs.on_frame = on_frame
    ended = ending(ours)
    ours.send(b"x")
    assert (await ended)[0] == CloseReason.UNEXPECTED_CLOSE
    assert reported == [bug]


async def test_the_expected_peer_must_answer(nodes: Nodes) -> None:
    server = await nodes.start(ignore)
    client = await nodes.start(ignore)
    expected = SecretKey.generate().peer
    with pytest.raises(DialError, match=f"answered at .* not {expected.short}"):
        await client.dial(server.addresses[0], "p", expect=expected)


async def test_another_network_is_refused(nodes: Nodes) -> None:
    accepted: list[Link] = []
    server = await nodes.start(accepted.append)
    client = await nodes.start(ignore, network=Digest("elsewhere"))
    with pytest.raises(DialError, match="another network"):
        await client.dial(server.addresses[0], "p")
    assert accepted == []


async def test_nobody_listens(nodes: Nodes) -> None:
    server = await nodes.start(ignore)
    client = await nodes.start(ignore)
    await server.close()
    with pytest.raises(DialError):
        await client.dial(server.addresses[0], "p")


async def test_an_address_is_listened_on_once(nodes: Nodes) -> None:
    secret = SecretKey.generate()
    first = await nodes.start(ignore, secret)
    if nodes.kind == "memory":
        with pytest.raises(BindError, match="in use"):
            await nodes.make(secret).start(ignore)
    else:
        from mosaik.transport import TlsTransport

        second = TlsTransport(secret, Digest("n"), listen=first.addresses[0])
        with pytest.raises(
            BindError, match=rf"{first.addresses[0]}: Address already in use.*port 0"
        ):
            await second.start(ignore)
        await second.close()


async def test_closing_the_transport_ends_its_links(nodes: Nodes) -> None:
    ours, theirs = await nodes.pair()
    here, there = ending(ours), ending(theirs)
    await nodes.started[0].close()
    assert (await here) == (CloseReason.GRACEFUL_SHUTDOWN, "the node shut down", False)
    assert (await there)[0] == CloseReason.GRACEFUL_SHUTDOWN
    await nodes.started[0].close()


async def test_a_link_says_what_it_is(nodes: Nodes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    ours, _ = await nodes.pair()
    assert f"-> {ours.remote.short} test/1 open" in repr(ours)
    ours.close()
    assert "closed 200" in repr(ours)
