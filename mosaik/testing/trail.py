"""What a node's state machine did at each entry, for finding where replicas part.

A `Trail` stands in front of a machine in a node that a test started, and writes a line for each command:
its index, what it was, what it was answered, and a digest of the state after it. Machines that depend
on nothing but the log write the same lines everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from mosaik.machines.machine import ApplyContext, StateMachine
from mosaik.primitives.digest import Digest
from mosaik.testing.digesting import digest_of, parts_of

__all__ = ["FILE", "Part", "Step", "Trail", "read_trail"]

#: In the node's data directory.
FILE: Final = "mosaik.trail"
#: So much of a command, an answer or a part of the state is written out.
_SHOWN: Final = 200


class Part(msgspec.Struct, frozen=True, array_like=True):
    """One part of a machine's state, such as an attribute.

    Attributes:
        digest: of what it was.
        shown: the same in words.
    """

    digest: str
    shown: str


class Step(msgspec.Struct, frozen=True, array_like=True):
    """One command that was applied.

    Attributes:
        answered: a digest of the answer.
        state: the parts of the machine's state after it, by name; None within a batch that it applied
            at once.
        command, answer: in words.
    """

    index: int
    answered: str
    state: Mapping[str, Part] | None
    command: str
    answer: str


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Step).decode


class Trail(StateMachine[Any, Any, Any]):
    """A machine that keeps a trail, and is otherwise the one behind it.

    Args:
        machine: that one.
        data_dir: where the trail is written.
    """

    def __init__(
        self, machine: StateMachine[Any, Any, Any], data_dir: str | os.PathLike[str]
    ) -> None:
        self._machine: Final = machine
        self._path: Final = Path(data_dir) / FILE
        self._file: BinaryIO | None = None
        self._at_once: Final = (
            type(machine).apply_batch is not StateMachine[Any, Any, Any].apply_batch
        )

    @property
    def command_type(self) -> Any:
        return self._machine.command_type

    @property
    def query_type(self) -> Any:
        return self._machine.query_type

    @property
    def result_type(self) -> Any:
        return self._machine.result_type

    def signature(self) -> Digest:
        return self._machine.signature()

    def query(self, query: Any) -> Any:
        return self._machine.query(query)

    def reset(self) -> None:
        self._machine.reset()
        self._close()

    def apply(self, command: Any, context: ApplyContext) -> Any:
        result = self._machine.apply(command, context)
        self._write(command, context, result, self._state())
        return result

    def apply_batch(self, commands: Sequence[tuple[Any, ApplyContext]]) -> list[Any]:
        if not self._at_once:
            return super().apply_batch(commands)
        results = self._machine.apply_batch(commands)
        last = len(commands) - 1
        for number, ((command, context), result) in enumerate(zip(commands, results, strict=True)):
            state = self._state() if number == last else None
            self._write(command, context, result, state)
        return results

    def _state(self) -> Mapping[str, Part]:
        return {
            name: Part(digest_of(part), _shown(part))
            for name, part in parts_of(self._machine).items()
        }

    def _write(
        self,
        command: Any,
        context: ApplyContext,
        result: Any,
        state: Mapping[str, Part] | None,
    ) -> None:
        if self._file is None:
            self._file = self._path.open("wb", buffering=0)
        words = _shown(command), _shown(result)
        step = Step(context.cursor.index, digest_of(result), state, *words)
        self._file.write(_encode(step) + b"\n")

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _shown(value: Any) -> str:
    try:
        shown = repr(value)
    except Exception:  # noqa: BLE001 - a class that cannot show itself is no reason to end a node
        return f"<{type(value).__qualname__}>"
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"


def read_trail(data_dir: str | os.PathLike[str]) -> dict[int, Step]:
    """What the machine of the node in this directory did since the node was started, by index."""
    try:
        lines = (Path(data_dir) / FILE).read_bytes().split(b"\n")
    except FileNotFoundError:
        return {}
    # The last piece is empty, or a line that is being written.
    return {step.index: step for step in map(_decode, lines[:-1])}
