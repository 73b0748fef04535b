"""What can be wrong with reading, and with who may open what."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from msgspec.structs import replace

from mosaik.primitives.durable import Anchor, HardState
from mosaik.primitives.errors import StorageClosed, StorageFull
from mosaik.storage import LogIdentity, environment, identity, opening
from mosaik.storage.environment import EngineEnvironment
from mosaik.storage.lmdb import LmdbEngine
from mosaik.storage.record import RecordCodec, log_record
from mosaik.storage.shared import SharedEnvironment
from mosaik.storage.watermark import Watermark

from .bug import Original, found_by

__all__: list[str] = []


@found_by("READ-02", "get of a closed store should", (SharedEnvironment, "close"))
def a_closed_store_stays_open(*_: object) -> None:
    """Nothing is closed."""


@found_by("READ-02", "should raise StorageClosed, and raised", (EngineEnvironment, "_usable"))
def a_closed_store_raises_what_happens(of: Original, *given: Any) -> Any:
    try:
        return of(*given)
    except StorageClosed as error:
        raise AttributeError("'NoneType' object has no attribute 'rows'") from error


@found_by("READ-02", "it is closed already", (SharedEnvironment, "close"))
def closing_twice_is_a_mistake(of: Original, store: SharedEnvironment) -> None:
    if store._opened is None:
        raise StorageClosed("it is closed already")
    of(store)


@found_by("READ-03", "it told of []", (environment, "verify"))
def verify_tells_nothing(of: Original, log: Any, url: str, _: object) -> None:
    of(log, url)


@found_by("READ-04", "has become", (EngineEnvironment, "describe"))
def the_description_follows_the_content(of: Original, store: EngineEnvironment) -> Any:
    return replace(of(store), settings={"logs": str(len(store.logs()))})


@found_by("READ-05", "entry 6 cannot follow 0", (opening, "share"))
def openings_are_not_shared(
    _: Original, _key: str, _options: object, open_: Callable[[], Any], **_named: object
) -> Any:
    return open_()


@found_by("ERR-08", "fit into a map", (LmdbEngine, "commit"))
def a_full_map_is_not_told(of: Original, *given: Any) -> None:
    with suppress(StorageFull):
        of(*given)


_IDENTITY = (environment, "check_identity")
_PARTS = (environment, "check_parts")
_STORE = (identity, "_check_store")


@found_by("IDENT-02", "another node's store", _STORE, _IDENTITY, _PARTS)
@found_by("IDENT-03", "opening a log for another node", _IDENTITY)
@found_by("IDENT-04", "other parameters", _PARTS)
@found_by("IDENT-06", "another node's files lie", _STORE, _IDENTITY, _PARTS)
def nobody_compares(*_: object) -> None:
    """Whatever is there is taken for what it should be."""


@found_by("IDENT-04", "the error says", (identity, "_difference"))
def another_parameter_is_named(*_: object) -> tuple[str, str, str]:
    return "machine", "0.5", "0.25"


@found_by("IDENT-05", "another key", (environment, "check_parts"))
def keys_are_not_compared(of: Original, asked: LogIdentity, stored: LogIdentity, url: str) -> None:
    if asked.group != stored.group:
        of(asked, stored, url)


@found_by("IDENT-07", "40 entries were acknowledged", (Watermark, "mark"))
def the_watermark_is_not_looked_at(*_: object) -> Anchor:
    return Anchor()


@found_by("IDENT-08", "a newer format", (RecordCodec, "decode"))
def formats_are_not_compared(of: Original, codec: Any, blob: bytes, **named: Any) -> Any:
    return of(codec, b"\0\1" + blob[2:], **named)


@found_by("IDENT-09", "after the machine restarted", (identity, "_outlived"))
def the_start_of_the_machine_is_not_compared(*_: object) -> bool:
    return False


@found_by("IDENT-09", "has kept its store id", (identity, "_emptied"))
def an_emptied_log_keeps_its_store_id(of: Original, engine: Any, key: bytes, *given: Any) -> bytes:
    old = log_record.decode(engine.meta(key), url="")
    fresh = log_record.decode(of(engine, key, *given), url="")
    kept = HardState(store=old.hard_state.store)
    return log_record.encode(replace(fresh, hard_state=kept))
