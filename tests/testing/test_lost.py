"""What was acknowledged is in each log where it was told, or it is said what is missing."""

from __future__ import annotations

from typing import Any

import pytest

from mosaik.machines import Map
from mosaik.primitives.codec import Codec
from mosaik.primitives.entry import Entry, EntryKind, seal, unseal
from mosaik.testing import Acknowledged, AcknowledgedLost, assert_nothing_lost

CODEC = Codec[Any](Map(str, int).command_type)
COMMANDS = [Map.Insert(f"key-{number}", number) for number in range(1, 6)]
TOLD = [Acknowledged(index, command) for index, command in enumerate(COMMANDS, 1)]


def log_of(*commands: object) -> list[Entry[Any]]:
    log: list[Entry[Any]] = []
    previous = 0
    for index, command in enumerate(commands, 1):
        sealed = seal(EntryKind.COMMAND, index, 1, 0, CODEC.encode(command), previous)
        log.append(unseal(sealed.sealed, decode=CODEC.decode))
        previous = sealed.checksum
    return log


def test_all_is_there() -> None:
    assert_nothing_lost(TOLD, {"one": log_of(*COMMANDS), "two": log_of(*COMMANDS, COMMANDS[0])})


def test_what_was_never_told_may_be_missing() -> None:
    assert_nothing_lost(TOLD[:3], {"one": log_of(*COMMANDS[:3]), "two": log_of(*COMMANDS[:4])})


def test_a_missing_one_is_named_with_its_replica() -> None:
    with pytest.raises(AcknowledgedLost) as error:
        assert_nothing_lost(TOLD, {"one": log_of(*COMMANDS), "two": log_of(*COMMANDS[:4])})
    assert "two lacks 1 of 5 acknowledged commands" in str(error.value)
    assert "5: " in str(error.value)
    assert "found: nothing" in str(error.value)


def test_a_changed_one_is_named_with_what_is_there() -> None:
    other = Map.Insert("another", 9)
    changed = log_of(COMMANDS[0], other, *COMMANDS[2:])
    with pytest.raises(AcknowledgedLost) as error:
        assert_nothing_lost(TOLD, {"one": changed})
    assert f"2: {COMMANDS[1]}; found: {other}" in str(error.value)


def test_an_index_that_was_told_twice_is_an_error() -> None:
    twice = [*TOLD, Acknowledged(2, Map.Insert("another", 9))]
    with pytest.raises(AcknowledgedLost, match="two callers were told index 2"):
        assert_nothing_lost(twice, {"one": log_of(*COMMANDS)})


def test_logs_that_part_are_an_error_although_nobody_was_told() -> None:
    one = log_of(*COMMANDS, Map.Insert("x", 1))
    two = log_of(*COMMANDS, Map.Insert("y", 2))
    with pytest.raises(AcknowledgedLost, match="one and two part at entry 6"):
        assert_nothing_lost(TOLD, {"one": one, "two": two})


@pytest.mark.parametrize("nothing", [([], {"one": []}), (TOLD, {})])
def test_what_would_show_nothing_is_refused(nothing: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="show nothing"):
        assert_nothing_lost(*nothing)
