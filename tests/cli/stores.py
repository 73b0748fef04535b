"""Closed stores for the commands to look into."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mosaik.cli import main
from mosaik.primitives.entry import HEADER_SIZE, split_sealed
from mosaik.storage import open_storage
from mosaik.storage.rows import HEAD_SIZE
from tests.storage.stores import place_of, require, url_of
from tests.storage.support import PEER
from tests.storage.test_transfer import founded

__all__ = ["damage", "lose_last_row", "made", "said"]


def made(backend: str, directory: Path, count: int = 1000) -> str:
    """The URL of a closed store with a log of a founded history."""
    if backend != "file":  # which a fixture installs
        require(backend)
    url = url_of(backend, directory)
    with closing(open_storage(url, peer=PEER)) as environment:
        founded(environment, count)
    return url


def damage(directory: Path, *indices: int) -> None:
    """Flips a bit in the payloads of these entries of an SQLite store, behind its back."""
    with closing(sqlite3.connect(place_of("sqlite", directory))) as connection, connection:
        for first, blob in connection.execute("SELECT first, entries FROM mosaik_rows").fetchall():
            changed, offset = bytearray(blob), HEAD_SIZE
            for entry in split_sealed(blob[HEAD_SIZE:], first=first):
                if entry.index in indices:
                    changed[offset + HEADER_SIZE + 1] ^= 1
                offset += len(entry.sealed)
            connection.execute(
                "UPDATE mosaik_rows SET entries = ? WHERE first = ?", [bytes(changed), first]
            )


def lose_last_row(directory: Path) -> int:
    """Removes the last row of an SQLite store's log; the index with which it began."""
    with closing(sqlite3.connect(place_of("sqlite", directory))) as connection, connection:
        first: int
        (first,) = connection.execute("SELECT max(first) FROM mosaik_rows").fetchone()
        connection.execute("DELETE FROM mosaik_rows WHERE first = ?", [first])
        return first


def said(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> Any:
    """What a command prints with ``--json``."""
    capsys.readouterr()
    assert main([*arguments, "--json"]) == status
    return json.loads(capsys.readouterr().out)
