"""A digest of any value, equal in every process for what is equal there.

Objects are taken apart by the protocol of `pickle` (``__reduce_ex__``), which knows what belongs to one:
attributes, slots, items, and the state of what is written in C. So a class says by ``__getstate__`` what of
it is state. No address and no order of a set counts; the order of a dictionary does, as it is that of what
was done. What cannot be taken apart, such as a lock, counts by its type alone.

Values that refer to each other are no trouble: each is visited once, and by a stack of our own, so that a
list of linked nodes may be longer than Python's.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from copyreg import __newobj__  # type: ignore[attr-defined]  # what an object without ways of its own is made by
from hashlib import blake2b
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Final, TypeGuard

__all__ = ["digest_of", "parts_of"]

_SIZE: Final = 8
_PROTOCOL: Final = 4
_ATOMS: Final = frozenset({type(None), bool, int, float, complex, str, bytes, type(...)})
#: Code is no state.
_CODE: Final = (type, FunctionType, BuiltinFunctionType, ModuleType)
#: Asks for the digest of a part; is sent it.
_Visit = Generator[Any, bytes, bytes]


def digest_of(value: Any) -> str:
    """Equal for equal values, in whatever process they are."""
    return _Digester().digest(value).hex()


def parts_of(value: object) -> dict[str, Any]:
    """What an object consists of, by name: its attributes, unless its class says otherwise."""
    made = _reduced(value)
    state = made[2] if len(made) > 2 else None
    # With slots there are two dictionaries: attributes and slots.
    halves = state if _is_pair(state) else (state,)
    parts: dict[str, Any] = {}
    has_items = any(items is not None for items in made[3:5])
    if made[:1] != (__newobj__,) or has_items or not all(map(_is_attributes, halves)):
        parts["itself"] = _taken_apart(value)  # made in a way of its own
    else:
        for half in halves:
            parts.update(half or {})
    return parts


class _Digester:
    """Digests one value.

    Attributes:
        _done: digests of what was visited, by address; `_kept` sees to it that no address is used again.
        _open: how deep what is being visited lies.
    """

    def __init__(self) -> None:
        self._done: dict[int, bytes] = {}
        self._open: dict[int, int] = {}
        self._kept: list[Any] = []

    def digest(self, value: Any) -> bytes:
        """The value's digest."""
        visits: list[tuple[int, _Visit]] = []
        part, known = value, self._known(value)
        while True:
            if known is None:
                self._open[id(part)] = len(visits)
                self._kept.append(part)
                visits.append((id(part), _visit(part)))
            elif not visits:
                return _hashed("value", [known])
            try:
                part = visits[-1][1].send(known)  # type: ignore[arg-type]  # None begins a visit
                known = self._known(part)
            except StopIteration as end:
                address, _ = visits.pop()
                del self._open[address]
                known = self._done[address] = end.value

    def _known(self, value: Any) -> bytes | None:
        if type(value) in _ATOMS:
            return f"{type(value).__name__} {value!r}".encode(errors="surrogatepass")
        if isinstance(value, _CODE):
            return f"code {value.__name__}".encode()
        above = self._open.get(id(value))
        if above is not None:  # it contains itself
            return b"above %d" % (len(self._open) - above)
        return self._done.get(id(value))


def _visit(value: Any) -> _Visit:
    """The digest of a value, made of those of its parts."""
    kind = _class_of(value)
    found: list[bytes] = []
    if kind is dict or kind is list or kind is tuple:
        for part in _flat(value.items()) if kind is dict else value:
            found.append((yield part))  # noqa: PERF401 - what is yielded is not what is kept
        return _hashed(kind.__qualname__, found)
    if _is_set(value):
        for part in value:
            found.append((yield part))  # noqa: PERF401
        found.sort()
        if kind is set or kind is frozenset:
            return _hashed("set", found)
        found.append((yield getattr(value, "__dict__", None)))
        return _hashed(kind.__qualname__, found)
    if isinstance(value, MethodType):
        found.append((yield value.__func__))
        found.append((yield value.__self__))
        return _hashed("method", found)
    for part in _taken_apart(value):
        found.append((yield part))  # noqa: PERF401
    return _hashed(kind.__qualname__, found)


def _taken_apart(value: Any) -> Iterable[Any]:
    made = _reduced(value)
    if made:
        # Items are given by iterators.
        return [*made[:3], *(list(items) for items in made[3:5] if items is not None)]
    if _is_mapping(value):
        return _flat(value.items())
    return list(value) if _is_sequence(value) else []


def _reduced(value: object) -> tuple[Any, ...]:
    """What pickle would keep; empty when it cannot."""
    try:
        made = value.__reduce_ex__(_PROTOCOL)
    except Exception:  # noqa: BLE001 - whatever a class says against it, it has no state to be shown
        return ()
    return (made,) if isinstance(made, str) else made


def _flat(pairs: Iterable[tuple[Any, Any]]) -> list[Any]:
    return [each for pair in pairs for each in pair]


def _hashed(name: str, parts: Iterable[bytes]) -> bytes:
    digest = blake2b(name.encode(), digest_size=_SIZE)
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.digest()


# Told by functions: what `isinstance` finds is of unknown parts.


def _class_of(value: object) -> type[object]:
    return type(value)


def _is_pair(value: object) -> TypeGuard[tuple[Any, Any]]:
    return type(value) is tuple and len(value) == 2  # pyright: ignore[reportUnknownArgumentType]


def _is_attributes(value: object) -> TypeGuard[dict[str, Any] | None]:
    return value is None or type(value) is dict


def _is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


def _is_set(value: object) -> TypeGuard[AbstractSet[Any]]:
    return isinstance(value, AbstractSet)


def _is_sequence(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence)
