"""``mosaik log inspect``: what a closed store holds, and what is wrong with it as far as that shows."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from mosaik.cli import main
from mosaik.cli.table import field_lines, printable
from mosaik.storage import open_storage
from mosaik.storage.lock import StoreLock
from mosaik.storage.registry import storage_size
from tests.cli.stores import lose_last_row, made, said
from tests.storage.stores import place_of
from tests.storage.support import PEER, identity
from tests.storage.test_transfer import HISTORY, IDENTITY, ME

Capsys = pytest.CaptureFixture[str]


@pytest.mark.parametrize("backend", ["sqlite", "lmdb", "rocksdb"])
def test_a_store_shows_all_that_its_logs_are(backend: str, tmp_path: Path, capsys: Capsys) -> None:
    url = made(backend, tmp_path)
    with closing(open_storage(url, peer=PEER)) as environment:
        log = environment.log(IDENTITY)
        log.prune_prefix(3)
        tail = log.tail
    found = said(capsys, "log", "inspect", url)
    assert found["url"] == f"{backend}://{place_of(backend, tmp_path)}"
    assert found["peer"] == PEER.hex()
    assert found["bytes"] > 1000 * 200
    assert (found["sync"], found["damage"], found["boot"]) == ("full", "", "")
    assert "power-safe" in found["capabilities"]
    last = {"term": tail.term, "index": 1000, "checksum": f"{tail.checksum:08x}"}
    (shown,) = found["logs"]
    assert shown["pruned"]["index"] == 3
    assert shown.pop("pruned")
    assert shown == {
        "group": IDENTITY.group.hex(),
        "peer": PEER.hex(),
        "key": IDENTITY.key.hex(),
        "parts": {"speed": "1"},
        "store": ME.store.hex(),
        "life": 3,
        "history": HISTORY.hex(),
        "term": 5,
        "vote": str(ME),
        "last": last,
        "watermark": last,
        "entries": 997,
        "suspect": None,
        "quarantine": False,
        "damage": "",
    }


def test_people_read_it_on_80_columns(tmp_path: Path, capsys: Capsys) -> None:
    url = made("sqlite", tmp_path)
    assert main(["log", "inspect", url]) == 0
    output = capsys.readouterr().out
    for line in (f"group {IDENTITY.group.hex()[:10]}", "1,000 (1 to 1000)", str(ME)):
        assert line in output
    assert max(map(len, output.splitlines()[1:])) <= 80


def test_a_store_in_a_data_directory_is_named_by_its_backend(
    tmp_path: Path, capsys: Capsys
) -> None:
    made("sqlite", tmp_path)
    found = said(capsys, "log", "inspect", "sqlite", "--data-dir", str(tmp_path))
    assert found["logs"][0]["entries"] == 1000


def test_all_of_a_store_s_files_count(tmp_path: Path) -> None:
    url = made("sqlite", tmp_path)
    before = storage_size(url)
    (tmp_path / "sqlite.db-wal").write_bytes(bytes(1 << 20))
    (tmp_path / "sqlite.dbx").write_bytes(bytes(1 << 20))
    assert storage_size(url) == before + (1 << 20)
    assert storage_size("memory") == 0


def test_a_store_that_does_not_sync_tells_the_start_of_the_machine(
    tmp_path: Path, capsys: Capsys
) -> None:
    url = f"{made('sqlite', tmp_path)}sync=os"
    open_storage(url, peer=PEER).close()
    found = said(capsys, "log", "inspect", url)
    assert found["sync"] == "os"
    assert len(found["boot"]) == 32


def test_an_end_that_is_gone_is_damage(tmp_path: Path, capsys: Capsys) -> None:
    url = made("sqlite", tmp_path)
    last = lose_last_row(tmp_path) - 1
    (log,) = said(capsys, "log", "inspect", url, status=1)["logs"]
    assert log["last"]["index"] == last
    assert log["damage"] == f"it ends at {last}, and 1000 entries were acknowledged"
    assert main(["log", "inspect", url]) == 1
    assert "1000 entries were acknowledged" in capsys.readouterr().out


def test_a_store_that_cannot_be_opened_says_why(tmp_path: Path, capsys: Capsys) -> None:
    url = made("lmdb", tmp_path)
    (tmp_path / "lmdb" / "data.mdb").write_bytes(b"rot" * 5000)
    found = said(capsys, "log", "inspect", url, status=1)
    assert "not an LMDB data file" in found["damage"]
    assert found["bytes"]
    assert main(["log", "inspect", url]) == 1
    assert "not an LMDB data file" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_a_password_is_never_shown(command: str, tmp_path: Path, capsys: Capsys) -> None:
    made("lmdb", tmp_path)
    (tmp_path / "lmdb" / "data.mdb").write_bytes(b"rot" * 5000)
    url = f"lmdb://me:secret@{tmp_path}/lmdb"
    assert "***" in said(capsys, "log", command, url, status=1)["url"]
    assert main(["log", command, url]) == 1
    assert "secret" not in "".join(capsys.readouterr())


def test_one_damaged_record_hides_no_other_log(tmp_path: Path, capsys: Capsys) -> None:
    import sqlite3

    url = made("sqlite", tmp_path)
    with closing(open_storage(url, peer=PEER)) as environment:
        environment.log(identity("other"))
    with closing(sqlite3.connect(place_of("sqlite", tmp_path))) as connection, connection:
        connection.execute(
            "UPDATE mosaik_meta SET record = x'00' WHERE log = ?", [identity("other").group]
        )
    logs = {log["group"]: log for log in said(capsys, "log", "inspect", url, status=1)["logs"]}
    assert "cut short" in logs[identity("other").group.hex()]["damage"]
    assert logs[IDENTITY.group.hex()]["entries"] == 1000


@pytest.mark.parametrize("command", ["inspect", "verify", "dump"])
@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:///nowhere/at/all.db", "there is no store"),
        ("sqlite", "--data-dir"),
        ("slqite:///x", "did you mean sqlite"),
        ("sqlite:///x?colour=red", "no option 'colour'"),
        ("memory", "there is no store"),
    ],
)
def test_what_names_no_store_is_one_line(
    command: str, url: str, message: str, capsys: Capsys
) -> None:
    if message == "--data-dir":
        message = "give the node a data_dir, or a URL"
    assert main(["log", command, url]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize("command", ["inspect", "verify", "dump"])
def test_a_store_that_is_open_names_its_holder(
    command: str, tmp_path: Path, capsys: Capsys
) -> None:
    import os

    url = made("sqlite", tmp_path)
    lock = StoreLock(tmp_path / "sqlite.db.lock")
    assert main(["log", command, url]) == 1
    assert f"process {os.getpid()} has this store open" in capsys.readouterr().err
    lock.release()
    assert main(["log", command, url]) == 0


def test_long_values_go_on_below_themselves() -> None:
    assert field_lines([("a", 1), ("bcd", "")]) == ["  a    1", "  bcd"]
    lines = field_lines([("name", "word " * 30)])
    assert [len(line) <= 80 for line in lines] == [True, True, True]
    assert lines[1].startswith("        word")


def test_a_terminal_is_told_nothing() -> None:
    assert printable("grün €") == "grün €"
    assert printable("a\x1b[2Jb\x9bc\u202ed") == "a\\x1b[2Jb\\x9bc\\u202ed"
