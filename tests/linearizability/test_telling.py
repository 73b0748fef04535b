"""A history that shows nothing is refused, and a stale read put into a good one is found."""

from __future__ import annotations

from typing import Any

import pytest

from mosaik.testing.linearizability import (
    UNKNOWN,
    CompareExchange,
    Operation,
    Read,
    Register,
    Vacuous,
    Write,
    assert_linearizable,
    check_linearizable,
    require_telling,
    with_stale_read,
)


def is_read(each: Operation) -> bool:
    return isinstance(each.input, Read)


def is_exchange(each: Operation) -> bool:
    return isinstance(each.input, CompareExchange)


def written(each: Operation) -> object | None:
    return each.input.value if isinstance(each.input, Write) and each.ended is not None else None


def op(input_: Any, output: Any, call: float, ended: float | None) -> Operation:
    return Operation("k", input_, output, call, ended)


#: Two clients, and an exchange that is under way while the leader changes.
GOOD = [
    op(Write(1), None, 1, 4),
    op(Read(), 1, 2, 5),
    op(Write(2), None, 6, 8),
    op(CompareExchange(2, 3), True, 9, 14),
    op(Read(), 3, 10, 16),
    op(Read(), 3, 15, 17),
]
CHANGES = [(11.0, 13.0)]


def test_a_good_one_is_telling_and_its_stale_copy_is_not_accepted() -> None:
    require_telling(GOOD, CHANGES, reads=is_read, exchanges=is_exchange)
    assert_linearizable(GOOD, Register())
    stale = with_stale_read(GOOD, reads=is_read, written=written)
    assert sum(one != other for one, other in zip(GOOD, stale, strict=True)) == 1
    assert stale[-1].output == 1
    assert check_linearizable(stale, Register())


@pytest.mark.parametrize(
    ("operations", "why"),
    [
        ([], "0 of 0 operations are reads"),
        ([each for each in GOOD if not is_read(each)] * 20, "0 of 60 operations are reads"),
        ([each for each in GOOD if not is_exchange(each)], "0 of 5 operations are exchanges"),
        (
            [each._replace(output=False) if is_exchange(each) else each for each in GOOD],
            "no exchange found what it expected",
        ),
        (
            [
                each._replace(call=number * 2, ended=number * 2 + 1)
                for number, each in enumerate(GOOD)
            ],
            "one at a time",
        ),
    ],
)
def test_too_little_of_something_is_vacuous(operations: list[Operation], why: str) -> None:
    with pytest.raises(Vacuous, match=why):
        require_telling(operations, CHANGES, reads=is_read, exchanges=is_exchange)


@pytest.mark.parametrize("changes", [[], [(5.2, 5.8)], [(18.0, 19.0)]])
def test_a_change_of_leaders_that_nothing_met_does_not_count(
    changes: list[tuple[float, float]],
) -> None:
    with pytest.raises(Vacuous, match="during any of"):
        require_telling(GOOD, changes, reads=is_read, exchanges=is_exchange)


def test_what_nobody_knows_the_end_of_is_not_a_write_that_was_overwritten() -> None:
    lost = [op(Write(1), UNKNOWN, 1, None), op(Write(2), None, 2, 3), op(Read(), 2, 4, 5)]
    with pytest.raises(Vacuous, match="no read can be made stale"):
        with_stale_read(lost, reads=is_read, written=written)
