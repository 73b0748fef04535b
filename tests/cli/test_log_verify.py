"""``mosaik log verify`` and ``dump``: every bad entry by name, and the good ones to read."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mosaik.cli import main
from mosaik.cli.payload import decoded, shown
from mosaik.primitives.entry import Entry, EntryKind, seal
from mosaik.storage import open_storage
from tests.cli.stores import damage, made, said
from tests.storage.support import PEER, entries, identity
from tests.storage.test_transfer import IDENTITY

Capsys = pytest.CaptureFixture[str]


# -- verify -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["sqlite", "lmdb", "rocksdb"])
def test_a_good_store_is_said_to_be_good(backend: str, tmp_path: Path, capsys: Capsys) -> None:
    url = made(backend, tmp_path)
    found = said(capsys, "log", "verify", url)
    assert found["good"] is True
    assert found["logs"] == [{"group": IDENTITY.group.hex(), "entries": 1000, "findings": []}]
    assert main(["log", "verify", url]) == 0
    assert "1,000 entries, all of them good" in capsys.readouterr().out


def test_every_bad_entry_is_named(tmp_path: Path, capsys: Capsys) -> None:
    url = made("sqlite", tmp_path)
    damage(tmp_path, 3, 500, 501, 1000)
    found = said(capsys, "log", "verify", url, status=1)
    assert found["good"] is False
    (log,) = found["logs"]
    assert [(each["first"], each["last"]) for each in log["findings"]] == [
        (3, 3),
        (500, 501),
        (1000, 1000),
    ]
    assert main(["log", "verify", url]) == 1
    output = capsys.readouterr().out
    assert "entries 500 to 501: its checksum does not match its content" in output
    assert "entry 1000:" in output


def test_damage_of_the_store_itself_is_named(tmp_path: Path, capsys: Capsys) -> None:
    url = made("lmdb", tmp_path)
    (tmp_path / "lmdb" / "data.mdb").write_bytes(b"rot" * 5000)
    assert "LMDB" in said(capsys, "log", "verify", url, status=1)["damage"]


def test_a_store_without_logs_is_good(tmp_path: Path, capsys: Capsys) -> None:
    open_storage("sqlite", peer=PEER, data_dir=tmp_path).close()
    assert main(["log", "verify", "sqlite", "--data-dir", str(tmp_path)]) == 0
    assert "holds no logs" in capsys.readouterr().out


def test_a_terminal_gets_a_bar_and_a_pipe_does_not(tmp_path: Path) -> None:
    pytest.importorskip("rich")
    url = made("sqlite", tmp_path)
    command = [sys.executable, "-m", "mosaik", "log", "verify", url]
    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            command,
            stderr=theirs,
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=50,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
        )
        assert b"1000/1000" in os.read(ours, 65536)
    finally:
        os.close(ours)
        os.close(theirs)
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=50)
    assert (done.stderr, done.stdout.count("\n")) == ("", 1)


# -- dump -------------------------------------------------------------------------------------------


def commands(*payloads: bytes) -> list[Entry[Any]]:
    made: list[Entry[Any]] = []
    for index, payload in enumerate(payloads, 1):
        previous = made[-1].checksum if made else 0
        made.append(seal(EntryKind.COMMAND, index, 1, 1_790_000_000_000, payload, previous))
    return made


def test_entries_are_printed_one_a_line(tmp_path: Path, capsys: Capsys) -> None:
    raw = b"\xc1 not MessagePack"
    value = {"colour": "rot\x1b[31m\x9b", "n": [1, 2.5, None, True], "raw": b"\0\1"}
    with closing(open_storage("sqlite", peer=PEER, data_dir=tmp_path)) as environment:
        environment.log(identity()).append(commands(msgspec.msgpack.encode(value), raw, b""))
    arguments = ["log", "dump", "sqlite", "--data-dir", str(tmp_path)]
    assert main(arguments) == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == (
        "       1  term 1    2026-09-21T14:13:20.000Z  command  "
        '{"colour":"rot\\u001b[31m\\x9b","n":[1,2.5,null,true],"raw":"0x0001"}'
    )
    assert second.endswith(f"command  {raw.hex()}")
    assert third.endswith("command")
    assert main([*arguments, "--json"]) == 0
    one, two, three = map(json.loads, capsys.readouterr().out.splitlines())
    assert one["payload"] == {**value, "raw": "0x0001"}
    assert (one["index"], one["term"], one["kind"]) == (1, 1, "command")
    assert two["hex"] == raw.hex()
    assert "payload" not in two
    assert (three["payload"], three["size"]) == (None, 0)


def test_a_part_of_one_group_is_dumped(tmp_path: Path, capsys: Capsys) -> None:
    url = made("sqlite", tmp_path)
    with closing(open_storage(url, peer=PEER)) as environment:
        environment.log(identity("other")).append(entries(5))
    group = IDENTITY.group.hex()
    assert main(["log", "dump", url, "--group", group[:10], "--from", "998"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [[group[:10], str(n)] for n in (998, 999, 1000)]
    assert main(["log", "dump", url, "--from", "4", "--to", "6"]) == 0
    found = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    other = identity("other").group.hex()[:10]
    assert sorted(found) == sorted(
        [[group[:10], "4"], [group[:10], "5"], [group[:10], "6"], [other, "4"], [other, "5"]]
    )
    assert main(["log", "dump", url, "--group", "ffff"]) == 1
    assert "no group of the store begins with 'ffff'" in capsys.readouterr().err


def test_members_are_named(tmp_path: Path, capsys: Capsys) -> None:
    assert main(["log", "dump", made("sqlite", tmp_path), "--to", "2"]) == 0
    config, founding = capsys.readouterr().out.splitlines()
    assert "config   voter 6f6f6f6f6f/6f7468.0, voter 7070707070/666972.3" in config
    assert founding.endswith("founded")


def test_what_cannot_be_read_says_so_in_its_place(tmp_path: Path, capsys: Capsys) -> None:
    url = made("sqlite", tmp_path)
    damage(tmp_path, 500, 1000)
    assert main(["log", "dump", url, "--from", "499"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "entry 500: its checksum does not match its content"
    assert lines[-1] == "entry 1000: acknowledged, and missing or damaged"
    assert len(lines) == 1000 - 498
    assert main(["log", "dump", url, "--from", "499", "--to", "501", "--json"]) == 1
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["index"] for each in found] == [499, 500, 501]
    assert "checksum" in found[1]["damage"]


@pytest.mark.parametrize(
    "payload",
    [
        b"\x91" * 100_000,  # arrays in arrays, deeper than anybody reads
        b"\xcb\x7f\xf0" + bytes(6),  # infinity
        b"\xc7\x01\x05x",  # an extension that only its writer knows
        b"\x81\x90\xc0",  # a key that is a list
        b"\xa2\xff\xfe",  # text that is none
    ],
)
def test_what_has_no_meaning_here_is_shown_in_hex(payload: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be shown"):
        decoded(payload)
    text = shown(commands(payload)[0], 40)
    assert text.startswith(payload.hex()[:40])
    assert len(text) <= 40 + len("... (100,000 bytes)")


def test_a_long_payload_is_cut() -> None:
    (entry,) = commands(msgspec.msgpack.encode("x" * 1000))
    assert shown(entry, 10) == '"xxxxxxxxx... (1,003 bytes)'
