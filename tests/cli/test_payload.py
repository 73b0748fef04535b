"""What a log's entry is, in one line: also a session's."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mosaik.cli.log_dump import _fields
from mosaik.cli.payload import shown
from mosaik.primitives.entry import Entry, EntryKind, seal
from mosaik.primitives.session import SessionHeader, SessionOp, wrap

COMMAND = msgspec.msgpack.encode(["Insert", "colour", "red"])
TEXT = '["Insert","colour","red"]'


def entry(payload: bytes) -> Entry[Any]:
    return seal(EntryKind.COMMAND, 9, 1, 0, payload, 0)


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (COMMAND, TEXT),
        (wrap(SessionHeader(SessionOp.COMMAND, 7, 3, 2), COMMAND), f"session 7, number 3: {TEXT}"),
        (wrap(SessionHeader(SessionOp.OPEN, 7)), "opens session 7"),
        (wrap(SessionHeader(SessionOp.CLOSE, 7)), "closes session 7"),
        (b"\xc1\x02", "c102"),
    ],
)
def test_a_payload_is_one_line(payload: bytes, text: str) -> None:
    assert shown(entry(payload), 200) == text


def test_json_names_the_session_beside_the_command() -> None:
    fields = _fields(entry(wrap(SessionHeader(SessionOp.COMMAND, 7, 3, 2), COMMAND)))
    assert fields["session"] == {"op": "command", "session": 7, "number": 3, "floor": 2}
    assert fields["payload"] == ["Insert", "colour", "red"]
    assert "session" not in _fields(entry(COMMAND))
    newer = _fields(entry(b"\xc1\x02"))
    assert newer["hex"] == "c102"
