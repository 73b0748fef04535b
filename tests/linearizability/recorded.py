"""Histories that others recorded, as kept with Porcupine: where they are, and how they are read."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mosaik.testing.linearizability import (
    ABSENT,
    Append,
    CompareExchange,
    History,
    Operation,
    Read,
    Write,
)

__all__ = ["data", "read_jepsen", "read_kv", "verdicts"]

ROOT = Path(__file__).resolve().parent.parent.parent


def data() -> Path | None:
    """The directory with the histories; None when it is not on this machine."""
    place = (
        Path(os.environ.get("MOSAIK_SHARED_DATA", ROOT.parent / "shared" / "data")) / "porcupine"
    )
    return place if place.is_dir() else None


def verdicts() -> dict[Path, bool]:
    """Each history and whether it is linearizable."""
    place = data()
    if place is None:
        return {}
    lines = (place / "jepsen" / "expected.tsv").read_text().splitlines()
    found = {
        place / "jepsen" / name: verdict == "linearizable"
        for name, verdict in (line.split() for line in lines)
    }
    return found | {path: path.stem.endswith("ok") for path in (place / "kv").glob("*.txt")}


_EVENT = re.compile(r"(\d+)\s+:(invoke|ok|fail|info)\s+:(read|write|cas)\s+(.*)")


def read_jepsen(path: Path) -> list[Operation]:
    """One register, read, written, and compared and exchanged."""
    history, running = History(), dict[str, int]()
    for line in path.read_text().splitlines():
        match = _EVENT.search(line)
        if match is None:
            continue
        process, kind, what, value = match.groups()
        if kind == "invoke":
            running[process] = history.begin("register", _asked(what, value), client=process)
        elif kind == "ok":
            output = _value(value) if what == "read" else True if what == "cas" else None
            history.end(running.pop(process), output)
        elif kind == "info":
            history.lose(running.pop(process))
        elif what == "cas":
            # The comparison failed, which is an answer.
            history.end(running.pop(process), False)
        else:
            history.drop(running.pop(process))
    return history.operations()


def _asked(what: str, value: str) -> object:
    if what == "cas":
        expected, new = map(int, value.strip("[]").split())
        return CompareExchange(expected, new)
    return Read() if what == "read" else Write(int(value))


def _value(text: str) -> object:
    return ABSENT if text == "nil" else int(text)


_PAIR = re.compile(
    r":process (\d+), :type :(\w+), :f :(\w+), :key \"(.*?)\", :value (nil|\"(.*)\")"
)


def read_kv(path: Path) -> list[Operation]:
    """Texts under keys, got, put and appended to; a text that was never put is empty."""
    history, running = History(), dict[str, int]()
    for line in path.read_text().splitlines():
        match = _PAIR.search(line)
        assert match is not None, line
        process, kind, what, key, _, value = match.groups()
        if kind == "invoke":
            asked = {"get": Read(), "put": Write(value), "append": Append(value)}[what]
            running[process] = history.begin(key, asked, client=process)
        else:
            history.end(running.pop(process), value if what == "get" else None)
    return history.operations()
