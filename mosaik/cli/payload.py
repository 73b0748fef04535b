"""An entry's payload, as people and programs can read it without the state machine that wrote it."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from mosaik.cli.table import printable
from mosaik.primitives.digest import short
from mosaik.primitives.entry import Entry, EntryKind
from mosaik.primitives.errors import CodecError
from mosaik.primitives.membership import configuration_codec
from mosaik.primitives.session import SessionOp, unwrap

__all__ = ["decoded", "shown"]


def shown(entry: Entry[Any], limit: int) -> str:
    """The payload in one line of so many characters at most, and nothing that a terminal would obey."""
    payload = entry.payload
    if not payload:
        return ""
    try:
        if entry.kind is EntryKind.CONFIG:
            text = _members(payload)
        elif (header := entry.session) is not None:
            of_machine = header.op is SessionOp.COMMAND
            text = f"{header}: {_text(decoded(payload))}" if of_machine else str(header)
        else:
            text = _text(decoded(payload))
    except (ValueError, CodecError):
        # Two digits are one byte, so no more than half as many bytes can be shown.
        text = f"{payload[: limit // 2 + 1].hex()}"
    if len(text) > limit:
        return f"{text[:limit]}... ({len(payload):,} bytes)"
    return text


def decoded(payload: bytes) -> Any:
    """What MessagePack's bytes mean, made of what JSON knows; bytes become text in hex after ``0x``.

    Of a session's payload it is the command.

    Raises:
        ValueError: they are not MessagePack, or mean what cannot be shown.
    """
    _, command = unwrap(payload)
    if not command:
        return None
    try:
        plain = msgspec.to_builtins(
            msgspec.msgpack.decode(command), str_keys=True, builtin_types=(bytes,)
        )
        # There and back: what is left of JSON's limits shows now.
        return json.loads(json.dumps(plain, default=_hex, allow_nan=False))
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError, OverflowError) as error:
        raise ValueError(f"it cannot be shown: {error}") from error


def _text(value: Any) -> str:
    return printable(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _hex(value: object) -> str:
    if isinstance(value, bytes):
        return f"0x{value.hex()}"
    raise TypeError(f"{type(value).__name__} is nothing that JSON knows")


def _members(payload: bytes) -> str:
    members = configuration_codec.decode(payload).members
    return ", ".join(
        f"{member.role.name.lower()} {short(member.replica.peer)}/{member.replica.store[:3].hex()}"
        f".{member.replica.life}"
        for member in members
    )
