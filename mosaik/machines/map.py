"""A replicated dictionary."""

from __future__ import annotations

from typing import Any, Final, Generic, TypeAlias, TypeVar

import msgspec

from mosaik.machines.machine import ApplyContext, StateMachine
from mosaik.primitives.digest import Digest
from mosaik.primitives.errors import ConfigError

__all__ = ["Map", "MapCommand", "MapQuery"]

K = TypeVar("K")
V = TypeVar("V")

_SIGNATURE: Final = Digest("mosaik.machines.Map")
_UNHASHABLE: Final = (msgspec.inspect.ListType, msgspec.inspect.DictType, msgspec.inspect.SetType)


class _Insert(msgspec.Struct, Generic[K, V], frozen=True, array_like=True, tag=1):
    """Puts a value under a key; answers the value that was there before, or None."""

    key: K
    value: V


class _Remove(msgspec.Struct, Generic[K], frozen=True, array_like=True, tag=2):
    """Takes a key out; answers the value that it had, or None."""

    key: K


class _Exchange(msgspec.Struct, Generic[K, V], frozen=True, array_like=True, tag=3):
    """Replaces a value if it is ``expected`` (None: absent) by ``new`` (None: remove it).

    Answers whether it did.
    """

    key: K
    expected: V | None
    new: V | None


class _Clear(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Takes every key out; answers how many there were."""


class _Get(msgspec.Struct, Generic[K], frozen=True, array_like=True, tag=1):
    """Asks for the value of a key; None when it is absent."""

    key: K


class _Size(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Asks how many keys there are."""


class _Items(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Asks for a copy of the whole dictionary."""


MapCommand = _Insert[K, V] | _Remove[K] | _Exchange[K, V] | _Clear
MapQuery = _Get[K] | _Size | _Items


def _of(generic: Any, *types: Any) -> Any:
    """A generic with types that are known at run time only."""
    return generic[types]


class Map(StateMachine["MapCommand[K, V]", "MapQuery[K]", Any], Generic[K, V]):
    """A dictionary from ``key`` to ``value``, which may be any types that msgspec encodes.

    The result type is ``Any`` since each command and query answers something else; each says what.

    Args:
        key: the type of the keys; it must be hashable.
        value: the type of the values.

    Raises:
        ConfigError: msgspec cannot encode one of them, or keys would not be hashable.
    """

    Insert = _Insert
    Remove = _Remove
    Exchange = _Exchange
    Clear: TypeAlias = _Clear
    Get = _Get
    Size: TypeAlias = _Size
    Items: TypeAlias = _Items

    def __init__(self, key: type[K], value: type[V]) -> None:
        self._key: Any = key
        self._value: Any = value
        self._items: dict[K, V] = {}
        try:
            shapes = [msgspec.json.schema(each) for each in (self._key, self._value)]
            hashable = not isinstance(msgspec.inspect.type_info(self._key), _UNHASHABLE)
        except TypeError as error:
            raise ConfigError(f"Map({key!r}, {value!r}): {error}") from error
        if not hashable:
            raise ConfigError(f"Map({key!r}, {value!r}): keys of that type are not hashable")
        # A schema names a type's shape and not its module, which differs between a script and its import.
        self._signature = _SIGNATURE.derive(msgspec.json.encode(shapes, order="sorted"))

    @property
    def command_type(self) -> Any:
        both = (self._key, self._value)
        return _of(_Insert, *both) | _of(_Remove, self._key) | _of(_Exchange, *both) | _Clear

    @property
    def query_type(self) -> Any:
        return _of(_Get, self._key) | _Size | _Items

    @property
    def result_type(self) -> Any:
        return Any

    def signature(self) -> Digest:
        return self._signature

    def apply(self, command: MapCommand[K, V], context: ApplyContext) -> Any:
        match command:
            case _Insert():
                before = self._items.get(command.key)
                self._items[command.key] = command.value
                return before
            case _Remove():
                return self._items.pop(command.key, None)
            case _Exchange():
                return self._exchange(command)
            case _Clear():
                count = len(self._items)
                self._items.clear()
                return count

    def _exchange(self, command: _Exchange[K, V]) -> bool:
        if self._items.get(command.key) != command.expected:
            return False
        if command.new is None:
            self._items.pop(command.key, None)
        else:
            self._items[command.key] = command.new
        return True

    def query(self, query: MapQuery[K]) -> Any:
        match query:
            case _Get():
                return self._items.get(query.key)
            case _Size():
                return len(self._items)
            case _Items():
                return dict(self._items)

    def reset(self) -> None:
        self._items.clear()
