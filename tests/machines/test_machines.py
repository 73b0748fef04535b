"""The machines that come with mosaik, driven as a replica drives them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mosaik.machines import ApplyContext, Counter, Map, NoOp
from mosaik.machines.machine import StateMachine
from mosaik.primitives.codec import Codec
from mosaik.primitives.cursor import Cursor
from mosaik.primitives.errors import ConfigError


def run(machine: StateMachine[Any, Any, Any], *commands: Any) -> list[Any]:
    """Applies commands after a trip through their encoding, as every node does."""
    codec: Codec[Any] = Codec(machine.command_type)
    return machine.apply_batch(
        [
            (codec.decode(codec.encode(command)), ApplyContext(Cursor(1, index), 0, bytes(32)))
            for index, command in enumerate(commands, 1)
        ]
    )


def test_a_counter_counts_and_starts_over() -> None:
    counter = Counter()
    assert run(counter, Counter.Increment(5), Counter.Increment(-2), Counter.Reset(7)) == [5, 3, 7]
    assert counter.query(Counter.Value()) == 7
    counter.reset()
    assert counter.query(Counter.Value()) == 0


def test_a_counter_never_leaves_what_can_be_encoded() -> None:
    counter = Counter()
    assert run(counter, Counter.Reset(2**63 - 1), Counter.Increment(1)) == [2**63 - 1, -(2**63)]
    Codec[int](counter.result_type).encode(counter.query(Counter.Value()))


def test_a_map_answers_what_was_there() -> None:
    table = Map(str, int)
    commands = [
        Map.Insert("a", 1),
        Map.Insert("a", 2),
        Map.Remove("b"),
        Map.Exchange("a", 1, 9),
        Map.Exchange("a", 2, 3),
        Map.Exchange("b", None, 4),
    ]
    assert run(table, *commands) == [None, 1, None, False, True, True]
    assert table.query(Map.Items()) == {"a": 3, "b": 4}
    assert table.query(Map.Get("a")) == 3
    assert run(table, Map.Exchange("b", 4, None), Map.Clear()) == [True, 1]
    assert table.query(Map.Size()) == 0


def test_a_map_checks_types_on_the_way_in() -> None:
    codec: Codec[Any] = Codec(Map(str, int).command_type)
    with pytest.raises(ValueError, match="Expected `int`"):
        codec.decode(msgspec.msgpack.encode([1, "a", "not a number"]))


def test_what_a_map_gives_out_is_a_copy() -> None:
    table = Map(str, int)
    run(table, Map.Insert("a", 1))
    table.query(Map.Items())["a"] = 2
    assert table.query(Map.Get("a")) == 1


@pytest.mark.parametrize("key", [list, dict, set, object])
def test_a_map_refuses_keys_that_cannot_be_keys(key: Any) -> None:
    with pytest.raises(ConfigError):
        Map(key, int)


def test_signatures_tell_machines_apart() -> None:
    machines: list[StateMachine[Any, Any, Any]] = [
        NoOp(),
        Counter(),
        Map(str, int),
        Map(str, bytes),
        Map(int, str),
    ]
    assert len({machine.signature() for machine in machines}) == len(machines)
    assert Map(str, int).signature() == Map(str, int).signature()


def test_noop_takes_none() -> None:
    assert run(NoOp(), None, None) == [None, None]
