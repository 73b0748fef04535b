"""What a node's state machine did at each entry, for finding where replicas part.

A `Trail` stands in front of a machine in a node that a test started, and writes a line for each command:
its index, what it was, what it was answered, and a digest of the state after it. Machines that depend
on nothing but the log write the same lines everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeGuard

import msgspec

from mosaik.machines.machine import ApplyContext, StateMachine
from mosaik.primitives.digest import Digest

__all__ = ["FILE", "Step", "Trail", "digest_of", "read_trail"]

#: In the node's data directory.
FILE: Final = "mosaik.trail"
#: So much of a command or an answer is written out.
_SHOWN: Final = 200
_DEEPEST: Final = 50


class Step(msgspec.Struct, frozen=True, array_like=True):
    """One command that was applied.

    Attributes:
        answered: a digest of the answer.
        state: a digest of the machine's state after it; empty within a batch that it applied at once.
        command, answer: in words.
    """

    index: int
    answered: str
    state: str
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
        self._write(command, context, result, digest_of(vars(self._machine)))
        return result

    def apply_batch(self, commands: Sequence[tuple[Any, ApplyContext]]) -> list[Any]:
        if not self._at_once:
            return super().apply_batch(commands)
        results = self._machine.apply_batch(commands)
        last = len(commands) - 1
        for number, ((command, context), result) in enumerate(zip(commands, results, strict=True)):
            state = digest_of(vars(self._machine)) if number == last else ""
            self._write(command, context, result, state)
        return results

    def _write(self, command: Any, context: ApplyContext, result: Any, state: str) -> None:
        if self._file is None:
            self._file = self._path.open("wb", buffering=0)
        words = repr(command)[:_SHOWN], repr(result)[:_SHOWN]
        step = Step(context.cursor.index, digest_of(result), state, *words)
        self._file.write(_encode(step) + b"\n")

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def read_trail(data_dir: str | os.PathLike[str]) -> dict[int, Step]:
    """What the machine of the node in this directory did since the node was started, by index."""
    try:
        lines = (Path(data_dir) / FILE).read_bytes().split(b"\n")
    except FileNotFoundError:
        return {}
    # The last piece is empty, or a line that is being written.
    return {step.index: step for step in map(_decode, lines[:-1])}


def digest_of(value: Any) -> str:
    """Equal for equal values, in whatever process they are: no address and no order of a set counts."""
    return blake2b(repr(_plain(value, 0)).encode(), digest_size=8).hexdigest()


def _plain(value: Any, depth: int) -> Any:
    if depth > _DEEPEST or isinstance(value, str | bytes | int | float | None):
        return value if depth <= _DEEPEST else type(value).__name__
    if isinstance(value, type) or callable(value):
        return getattr(value, "__qualname__", type(value).__qualname__)  # code is no state
    deeper = depth + 1
    if _is_mapping(value):
        return [(_plain(key, deeper), _plain(held, deeper)) for key, held in value.items()]
    if _is_set(value):
        return sorted((_plain(each, deeper) for each in value), key=repr)
    if _is_sequence(value):
        return [_plain(each, deeper) for each in value]
    return _plain_object(value, deeper)


def _plain_object(value: Any, deeper: int) -> Any:
    fields: Any = getattr(value, "__struct_fields__", None) or getattr(value, "__dict__", None)
    name = type(value).__qualname__
    if fields is None:
        # The default `repr` has an address, which says nothing of the state.
        shown: Any = type(value).__repr__
        return name if shown is object.__repr__ else repr(value)
    return [name, [(field, _plain(getattr(value, field), deeper)) for field in fields]]


# Told by functions: what `isinstance` finds is of unknown parts.


def _is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


def _is_set(value: object) -> TypeGuard[AbstractSet[Any]]:
    return isinstance(value, AbstractSet)


def _is_sequence(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence)
