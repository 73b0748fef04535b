"""The socket of a running node: for its owner alone, and nothing that is asked there stalls the node."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import msgspec
import pytest

from mosaik.cli import main, node_server, node_wire
from mosaik.cli.node_ask import _lines, _report, _write
from mosaik.cli.node_server import serving_operator
from mosaik.cli.node_socket import NAME, connected_socket, listening_socket
from mosaik.cli.node_wire import NodeReport
from mosaik.groups.inspection import GroupReport, LogReport, MemberReport
from mosaik.primitives.errors import DialError, IdentityError, StorageUnavailable
from tests.storage.support import PEER

Capsys = pytest.CaptureFixture[str]

REPORT = GroupReport(
    group="ab" * 32,
    parts={},
    history="",
    founded=False,
    online=True,
    lost=False,
    quarantined=False,
    role="leader",
    leader=None,
    term=3,
    committed=7,
    applied=7,
    last=9,
    members=(),
    bonds=(),
    log=None,
)


class Group:
    """Answers what it was told to, as fast as it is asked."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces
        self.error: Exception | None = None
        self.ended = asyncio.Event()

    async def inspect(self) -> GroupReport:
        return REPORT

    async def stream_backup(self) -> AsyncGenerator[bytes, None]:
        try:
            for piece in self.pieces:
                yield piece
            if self.error is not None:
                raise self.error
        finally:
            self.ended.set()


def served(directory: Path, group: Group) -> AbstractAsyncContextManager[None]:
    return serving_operator(directory, group, PEER, lambda: ("127.0.0.1:1",))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Deeper than a socket's address is long."""
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    return deep


def somebody(*_: object) -> int:
    """Another user."""
    return 12345


def counted(_: int) -> None:
    """Nobody looks."""


# -- what is asked ----------------------------------------------------------------------------------


async def test_a_node_tells_where_it_stands(directory: Path) -> None:
    async with served(directory, Group()):
        found = await _report(directory)
    assert found.group == REPORT
    assert (found.peer, found.pid, found.addresses) == (PEER.hex(), os.getpid(), ("127.0.0.1:1",))


async def test_a_backup_arrives_as_it_was_sent(directory: Path, tmp_path: Path) -> None:
    pieces = (b"a", b"b" * 3_000_000, b"c" * (1 << 20), b"d")
    done: list[int] = []
    async with served(directory, Group(*pieces)):
        target, size = await _write(directory, tmp_path / "file", done.append)
    assert target.read_bytes() == b"".join(pieces)
    assert size == sum(done) == sum(map(len, pieces))
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


async def test_a_backup_that_fails_leaves_nothing_behind(directory: Path, tmp_path: Path) -> None:
    group = Group(b"x" * 1000)
    group.error = StorageUnavailable("the log was closed")
    async with served(directory, group):
        with pytest.raises(StorageUnavailable, match="the log was closed"):
            await _write(directory, tmp_path / "file", counted)
    assert not list(tmp_path.glob("file*"))


async def test_a_node_that_ends_in_the_middle_leaves_nothing_behind(
    directory: Path, tmp_path: Path
) -> None:
    begun = asyncio.Event()

    class Hanging(Group):
        async def stream_backup(self) -> AsyncGenerator[bytes, None]:
            try:
                yield b"x" * 1000
                begun.set()
                await asyncio.Event().wait()
            finally:
                self.ended.set()

    group = Hanging()
    async with served(directory, group):
        writing = asyncio.create_task(_write(directory, tmp_path / "file", counted))
        await begun.wait()
    assert group.ended.is_set()
    with pytest.raises(DialError, match="ended before its answer had"):
        await writing
    assert not list(tmp_path.glob("file*"))


async def test_whoever_hangs_up_ends_the_backup(directory: Path) -> None:
    group = Group(*[b"x" * 1_000_000] * 1000)
    async with served(directory, group):
        connection = await asyncio.to_thread(connected_socket, directory)
        connection.sendall(b'{"op": "backup"}\n')
        await asyncio.to_thread(connection.recv, 1)
        assert not group.ended.is_set()
        connection.close()
        await asyncio.wait_for(group.ended.wait(), 10)


def test_it_works_on_uvloop(directory: Path) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def both() -> None:
        async with served(directory, Group()):
            assert (await _report(directory)).group == REPORT

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(both())


# -- who may ask, and how much ----------------------------------------------------------------------


async def test_the_socket_is_its_owner_s_alone(directory: Path) -> None:
    before = os.umask(0)
    try:
        async with served(directory, Group()):
            assert stat.S_IMODE((directory / NAME).stat().st_mode) == 0o600
    finally:
        os.umask(before)
    assert not list(directory.iterdir())


async def ask(directory: Path, request: bytes) -> bytes:
    """Whatever the node answers to these bytes, until it hangs up."""
    connection = await asyncio.to_thread(connected_socket, directory)
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()
        await writer.wait_closed()


async def test_another_user_is_refused(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_server, "peer_uid", somebody)
    async with served(directory, Group()):
        assert b"user 12345 may not ask" in await ask(directory, b'{"op": "inspect"}\n')


@pytest.mark.parametrize(
    "request_",
    [b"\n", b"[]\n", b'{"op": "shutdown"}\n', b'{"op": "inspect", "x": 1}\n', b"x" * 10_000],
    ids=["empty", "array", "unknown", "more", "long"],
)
async def test_what_is_no_request_is_refused(directory: Path, request_: bytes) -> None:
    async with served(directory, Group()):
        assert b"does not understand" in await ask(directory, request_)
        assert (await _report(directory)).group == REPORT


async def test_who_asks_nothing_is_given_up(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_server, "_PATIENCE", 0.05)
    async with served(directory, Group()):
        assert await ask(directory, b'{"op"') == b""


async def test_who_takes_no_answer_is_given_up(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_server, "_PATIENCE", 0.2)
    group = Group(*[b"x" * 1_000_000] * 1000)
    async with served(directory, group):
        connection = await asyncio.to_thread(connected_socket, directory)
        connection.sendall(b'{"op": "backup"}\n')
        await asyncio.wait_for(group.ended.wait(), 10)
        connection.close()


async def test_few_are_answered_at_a_time(directory: Path) -> None:
    async with served(directory, Group()):
        waiting = [await asyncio.to_thread(connected_socket, directory) for _ in range(4)]
        assert b"answering others" in await ask(directory, b'{"op": "inspect"}\n')
        for each in waiting:
            each.sendall(b'{"op": "inspect"}\n')
            assert await asyncio.to_thread(each.recv, 1)
            each.close()


# -- what lies in its place -------------------------------------------------------------------------


async def test_what_a_killed_node_left_is_replaced(directory: Path) -> None:
    listening_socket(directory).close()
    assert (directory / NAME).is_socket()
    with pytest.raises(DialError, match="no node runs"):
        await _report(directory)
    async with served(directory, Group()):
        assert (await _report(directory)).group == REPORT


@pytest.mark.parametrize("kind", ["file", "link"])
async def test_nothing_else_is_replaced_or_followed(kind: str, directory: Path) -> None:
    place = directory / NAME
    if kind == "file":
        place.write_text("precious")
    else:
        (directory / "elsewhere").mkdir()
        listening_socket(directory / "elsewhere").close()
        place.symlink_to(directory / "elsewhere" / NAME)
    with pytest.raises(IdentityError, match="is not a socket"):
        async with served(directory, Group()):
            pass
    assert place.read_text() == "precious" if kind == "file" else place.is_symlink()
    with pytest.raises(DialError, match="is not a socket"):
        connected_socket(directory)


async def test_another_user_s_socket_is_neither_replaced_nor_asked(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listening_socket(directory).close()
    monkeypatch.setattr("mosaik.cli.node_socket._owner", somebody)
    with pytest.raises(IdentityError, match="belongs to user 12345"):
        async with served(directory, Group()):
            pass
    assert (directory / NAME).is_socket()
    with pytest.raises(DialError, match="no node of ours made it"):
        connected_socket(directory)


async def test_a_socket_that_another_user_serves_is_not_believed(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(directory, Group()):
        monkeypatch.setattr("mosaik.cli.node_socket.peer_uid", somebody)
        with pytest.raises(DialError, match="a process of user 12345 answers"):
            connected_socket(directory)


async def test_a_file_system_without_sockets_stops_no_node(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(node_server, "listening_socket", refuse)
    async with served(directory, Group()):
        pass
    assert "will not work" in caplog.text


# -- the commands -----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["inspect"], ["backup", "file"]])
def test_where_no_node_runs_nothing_is_done(
    command: list[str], tmp_path: Path, capsys: Capsys
) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        assert main(["node", *command, "--data-dir", str(place)]) == 1
        assert f"no node runs in {place}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_node_is_found_by_its_settings(
    tmp_path: Path, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "mosaik.toml"
    settings.write_text('[network]\ndata_dir = "here"\n')
    for arguments in (
        ["node", "inspect", "--config", str(settings)],
        ["node", "--config", str(settings), "inspect"],
    ):
        assert main(arguments) == 1
        assert f"no node runs in {tmp_path}/here" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    settings.write_text("")
    assert main(["node", "inspect"]) == 1
    assert "--data-dir" in capsys.readouterr().err


def test_a_listener_that_says_nonsense_is_named(tmp_path: Path) -> None:
    async def speak(nonsense: bytes) -> None:
        listening = listening_socket(tmp_path)

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(nonsense)
            writer.close()

        server = await asyncio.start_unix_server(answer, sock=listening)
        try:
            await _report(tmp_path)
        finally:
            server.close()

    frame = node_wire.frame
    for nonsense, message in [
        (b"\xff\xff\xff\xff\x02", "a frame of 4294967295 bytes"),
        (frame(node_wire.Kind.VALUE, b"{}") + frame(node_wire.Kind.END), "does not understand"),
        (frame(node_wire.Kind.END), "does not understand"),
        (b"\0\0\0\0\x09", "ended before"),
        (b"", "ended before"),
    ]:
        with pytest.raises(DialError, match=message):
            asyncio.run(speak(nonsense))


def test_the_report_fits_80_columns() -> None:
    member = MemberReport(
        peer=PEER.hex(), store="cd" * 16, life=1, role="voter", bonded=True, leads=True
    )
    log = LogReport(
        url="sqlite:///var/lib/app/raft.db",
        engine="SQLite 3",
        sync="full",
        capabilities=("kill-safe",),
        settings={},
        pruned=0,
        last=9,
        suspect=(8, 9),
    )
    group = msgspec.structs.replace(REPORT, members=(member,), log=log, quarantined=True)
    report = NodeReport(peer=PEER.hex(), pid=1, version="1", addresses=("a:1",), group=group)
    text = "\n".join(_lines(report))
    assert "7070707070 (this)  cdcdcdcdcd.1  voter  yes     yes" in text
    assert "8 to 9: damaged" in text
    assert "takes no part" in text
    assert max(map(len, text.splitlines())) <= 80
    assert json.dumps(msgspec.to_builtins(report))
