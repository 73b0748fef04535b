"""Where replicas part: what is digested of a state, and what is said of the first difference."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from threading import Lock
from typing import Any

import msgspec
import pytest

from mosaik.machines import Counter, Map
from mosaik.machines.machine import ApplyContext
from mosaik.primitives.cursor import Cursor
from mosaik.testing.agreement import first_difference
from mosaik.testing.digesting import digest_of, parts_of
from mosaik.testing.trail import Trail, read_trail


class Point(msgspec.Struct):
    x: int


@dataclass
class Cart:
    items: list[Any] = field(default_factory=list[Any])


class Opaque:
    __slots__ = ()


class Slotted:
    __slots__ = ("next", "previous", "value")

    def __init__(self, value: int, previous: Slotted | None = None) -> None:
        self.value = value
        self.previous = previous
        self.next: Slotted | None = None
        if previous is not None:
            previous.next = self


def linked(*values: int) -> Slotted:
    """The last of some nodes that know each other."""
    last: Slotted | None = None
    for value in values:
        last = Slotted(value, last)
    assert last is not None
    return last


class Register(dict[str, int]):
    """A dictionary with something beside it."""

    def __init__(self, owner: str) -> None:
        super().__init__()
        self.owner = owner


@dataclass(slots=True)
class Tagged:
    tags: set[str]


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
            "a".join,
            linked(1, 2, 3),
            Register("ann"),
            Random(1),
            deque([1, 2]),
            Lock(),
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
        (1, True),
        ([1, [2]], [[1], 2]),
        (linked(1, 2, 3), linked(1, 2, 4)),
        (linked(1, 2, 3), linked(0, 2, 3)),
        (Register("ann"), Register("ben")),
        (Random(1), Random(2)),
        (deque([1, 2]), deque([2, 1])),
    ],
)
def test_others_do_not(one: object, other: object) -> None:
    assert digest_of(one) != digest_of(other)


def test_the_order_of_a_set_does_not_count() -> None:
    """It differs between processes, and means nothing as long as nobody asks for it."""
    program = (
        "from tests.testing.test_trail import Tagged, digest_of\n"
        "words = {str(n) for n in range(50)}\n"
        "print(digest_of([words, Tagged(words)]), list(words)[:9])"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split(maxsplit=1)
        for seed in ("1", "2")
    ]
    assert said[0][1] != said[1][1], "the sets are in different orders"
    assert said[0][0] == said[1][0]


def test_what_refers_to_each_other_is_visited_once() -> None:
    """However long a list of nodes that know each other; each visited twice, thirty would take an hour."""
    assert digest_of(linked(*range(3000))) == digest_of(linked(*range(3000)))
    shared: list[Any] = [1]
    for _ in range(100):
        shared = [shared, shared]
    again: list[Any] = [1]
    for _ in range(100):
        again = [again, list(again)]
    assert digest_of(shared) == digest_of(again), (
        "what is equal has one digest, the same object or not"
    )


class Keeper(Counter):
    """With an attribute, a slot, and something that is no state."""

    __slots__ = ("slot",)

    def __init__(self) -> None:
        super().__init__()
        self.slot = [1]
        self.own = object()

    def __getstate__(self) -> object:
        state: Any = super().__getstate__()
        attributes: dict[str, object] = state[0]
        return {name: each for name, each in attributes.items() if name != "own"}, state[1]


class Queue(Counter):
    def __reduce__(self) -> tuple[Any, ...]:
        return (Queue, (self._value,))


def test_the_parts_of_a_machine_are_its_attributes_or_what_its_class_says() -> None:
    assert parts_of(Counter()) == {"_value": 0}
    assert parts_of(Keeper()) == {"_value": 0, "slot": [1]}
    assert digest_of(parts_of(Queue())) != digest_of(parts_of(Counter()))
    assert list(parts_of(Queue())) == ["itself"]


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
    assert [list(step.state or ()) for step in steps.values()] == [["_value"]] * 3
    assert [step.state["_value"].shown for step in steps.values() if step.state] == ["5", "6", "7"]
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
    assert [step.state is not None for step in steps.values()] == [False, True]
    trail.reset()


class Unshown:
    def __repr__(self) -> str:
        raise RuntimeError("not now")


def test_a_state_that_cannot_be_shown_is_no_reason_to_fail(tmp_path: Path) -> None:
    machine = Counter()
    vars(machine).update(odd=Unshown(), long=list(range(1000)))
    trail = Trail(machine, tmp_path)
    trail.apply(Counter.Increment(5), context(3))
    (step,) = read_trail(tmp_path).values()
    assert step.state is not None
    assert step.state["odd"].shown == "<Unshown>"
    assert step.state["long"].shown.endswith("…")
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
    assert found.parts == ["_items"]
    assert "the answers agree, and the states differ in _items" in str(found)
    assert "node-0 answered None\n    _items = {'key-1': 1, 'key-2': 2, 'key-3': 3}" in str(found)
    assert "node-1 answered None\n    _items = {}" in str(found)


def test_the_first_answer_that_differs_is_named(tmp_path: Path) -> None:
    found = first_difference(trails(tmp_path, Map(str, int), Map(str, int), Wrong(str, int)))
    assert found is not None
    assert found.index == 4
    assert "node-2 answered 'wrong'" in str(found)
    assert "node-1 answered None" in str(found)
    assert "the answers differ\n" in str(found)
    assert not found.parts


class ForgetfulBatches(Forgetful):
    def apply_batch(self, commands: Any) -> list[Any]:
        return [self.apply(command, context) for command, context in commands]


def test_where_within_a_batch_they_parted_is_not_claimed_to_be_known(tmp_path: Path) -> None:
    found: dict[str, Any] = {}
    for number, machine in enumerate((ForgetfulBatches(str, int), Map(str, int))):
        directory = tmp_path / str(number)
        directory.mkdir()
        trail = Trail(machine, directory)
        for first in (1, 2):
            indices = range(first, 3 * first - 1)
            trail.apply_batch([(Map.Insert(f"{i}", i), context(i)) for i in indices])
        found[f"node-{number}"] = read_trail(directory)
        trail.reset()
    # One at a time, the second one knows more; what they parted at is seen when the first one knows it too.
    assert [step.state is not None for step in found["node-0"].values()] == [
        *(True, False, False, True)
    ]
    difference = first_difference(found)
    assert difference is not None
    assert difference.index == 4
    assert "they may have parted since entry 2" in str(difference)


def test_one_that_is_behind_does_not_differ(tmp_path: Path) -> None:
    both = trails(tmp_path, Map(str, int), Map(str, int))
    del both["node-1"][5]
    assert first_difference(both) is None
