"""Where replicas part: what is digested of a state, and what is said of the first difference."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mosaik.machines import Counter, Map
from mosaik.machines.machine import ApplyContext
from mosaik.primitives.cursor import Cursor
from mosaik.testing.agreement import first_difference
from mosaik.testing.trail import Trail, digest_of, read_trail


class Point(msgspec.Struct):
    x: int


@dataclass
class Cart:
    items: list[Any] = field(default_factory=list[Any])


class Opaque:
    __slots__ = ()


def test_equal_values_have_equal_digests() -> None:
    def build() -> list[object]:
        return [
            1,
            "a",
            b"b",
            1.5,
            None,
            (1, 2),
            {"k": [1]},
            Point(1),
            Cart([Point(2)]),
            Opaque(),
            str,
            len,
        ]

    assert digest_of(build()) == digest_of(build())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        ("1", 1),
        ([1, 2], [2, 1]),
        (
            {"a": 1, "b": 2},
            {"b": 2, "a": 1},
        ),  # the order of a dictionary is the order of what was done
        (Point(1), Point(2)),
        (Cart([1]), Cart([2])),
        ({1, 2}, {1, 3}),
    ],
)
def test_others_do_not(one: object, other: object) -> None:
    assert digest_of(one) != digest_of(other)


def test_the_order_of_a_set_does_not_count() -> None:
    """It differs between processes, and means nothing as long as nobody asks for it."""
    program = (
        "from mosaik.testing.trail import digest_of\n"
        "print(digest_of({'words': {str(n) for n in range(50)}}), list({str(n) for n in range(50)})[:9])"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split(maxsplit=1)
        for seed in ("1", "2")
    ]
    assert said[0][1] != said[1][1], "the sets are in different orders"
    assert said[0][0] == said[1][0]


def context(index: int) -> ApplyContext:
    return ApplyContext(Cursor(1, index), 0, b"")


def test_a_trail_is_written_for_each_command_and_begins_again_with_the_machine(
    tmp_path: Path,
) -> None:
    trail = Trail(Counter(), tmp_path)
    assert read_trail(tmp_path) == {}
    assert trail.apply(Counter.Increment(5), context(3)) == 5
    assert trail.apply_batch(
        [(Counter.Increment(1), context(4)), (Counter.Increment(1), context(6))]
    ) == [6, 7]
    assert trail.query(Counter.Value()) == 7
    steps = read_trail(tmp_path)
    assert list(steps) == [3, 4, 6]
    assert steps[4].answer == "6"
    assert "Increment" in steps[4].command
    assert all(step.state for step in steps.values())
    trail.reset()
    assert trail.apply(Counter.Increment(5), context(3)) == 5
    assert read_trail(tmp_path) == {3: steps[3]}
    trail.reset()


class Batched(Counter):
    def apply_batch(self, commands: Any) -> list[Any]:
        return [self.apply(command, context) for command, context in commands]


def test_a_batch_that_the_machine_applies_at_once_stays_one(tmp_path: Path) -> None:
    trail = Trail(Batched(), tmp_path)
    trail.apply_batch([(Counter.Increment(1), context(1)), (Counter.Increment(1), context(2))])
    steps = read_trail(tmp_path)
    assert [bool(step.state) for step in steps.values()] == [False, True]
    trail.reset()


def trails(tmp_path: Path, *machines: Any) -> dict[str, dict[int, Any]]:
    found: dict[str, dict[int, Any]] = {}
    for number, machine in enumerate(machines):
        directory = tmp_path / str(number)
        directory.mkdir()
        trail = Trail(machine, directory)
        for index in range(1, 6):
            trail.apply(Map.Insert(f"key-{index}", index), context(index))
        found[f"node-{number}"] = read_trail(directory)
        trail.reset()
    return found


class Forgetful(Map[str, int]):
    def apply(self, command: Any, context: ApplyContext) -> Any:
        answer = super().apply(command, context)
        if context.cursor.index == 3:
            self._items.clear()
        return answer


class Wrong(Map[str, int]):
    def apply(self, command: Any, context: ApplyContext) -> Any:
        answer = super().apply(command, context)
        return answer if context.cursor.index != 4 else "wrong"


def test_machines_that_agree_have_no_difference(tmp_path: Path) -> None:
    assert first_difference(trails(tmp_path, Map(str, int), Map(str, int))) is None


def test_the_first_state_that_differs_is_named(tmp_path: Path) -> None:
    found = first_difference(trails(tmp_path, Map(str, int), Forgetful(str, int)))
    assert found is not None
    assert found.index == 3
    assert "the replicas part at entry 3, _Insert(key='key-3', value=3)" in str(found)
    assert "the answers agree, and the states differ" in str(found)


def test_the_first_answer_that_differs_is_named(tmp_path: Path) -> None:
    found = first_difference(trails(tmp_path, Map(str, int), Map(str, int), Wrong(str, int)))
    assert found is not None
    assert found.index == 4
    assert "node-2 answered 'wrong'" in str(found)
    assert "node-1 answered None" in str(found)


def test_one_that_is_behind_does_not_differ(tmp_path: Path) -> None:
    both = trails(tmp_path, Map(str, int), Map(str, int))
    del both["node-1"][5]
    assert first_difference(both) is None
