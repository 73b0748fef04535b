"""The checker: small histories whose answer anybody can see, and all small ones, against a slow oracle."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaik.testing.linearizability import (
    ABSENT,
    REFUSED,
    UNKNOWN,
    CompareExchange,
    History,
    NotLinearizable,
    Operation,
    Read,
    Register,
    Write,
    assert_linearizable,
    check_linearizable,
    checker,
)

K = "k"


def op(asked: Any, output: Any, call: float, ended: float | None, key: str = K) -> Operation:
    return Operation(key, asked, output, call, ended)


def test_one_after_the_other() -> None:
    assert_linearizable(
        [
            op(Read(), ABSENT, 0, 1),
            op(Write(1), None, 2, 3),
            op(Read(), 1, 4, 5),
            op(CompareExchange(1, 2), True, 6, 7),
            op(CompareExchange(1, 3), False, 8, 9),
            op(Read(), 2, 10, 11),
        ],
        Register(),
    )


def test_a_stale_read_is_named() -> None:
    history = [op(Write(1), None, 0, 1), op(Write(2), None, 2, 3), op(Read(), 1, 4, 5)]
    with pytest.raises(
        NotLinearizable, match=r"the state is 2, and this one does not fit"
    ) as raised:
        assert_linearizable(history, Register())
    (failure,) = raised.value.failures
    assert (failure.key, failure.blocked, failure.state) == (K, history[2], 2)
    assert list(failure.ordered) == history[:2]
    assert "[4-5] 'k' Read() -> 1" in str(failure)


def test_what_runs_at_once_may_come_in_any_order() -> None:
    write = op(Write(1), None, 0, 9)
    assert_linearizable([write, op(Read(), ABSENT, 1, 2), op(Read(), 1, 3, 4)], Register())
    backwards = [write, op(Read(), 1, 1, 2), op(Read(), ABSENT, 3, 4)]
    assert check_linearizable(backwards, Register())


def test_calls_and_ends_at_one_time_overlap() -> None:
    assert_linearizable([op(Write(1), None, 0, 5), op(Read(), ABSENT, 5, 6)], Register())


def test_an_unknown_outcome_may_be_seen_late_or_never() -> None:
    lost = op(Write(1), UNKNOWN, 0, None)
    for later in (ABSENT, 1):
        assert_linearizable([lost, op(Read(), ABSENT, 1, 2), op(Read(), later, 5, 6)], Register())
    assert check_linearizable([lost, op(Read(), 1, 1, 2), op(Read(), ABSENT, 5, 6)], Register())
    assert check_linearizable(
        [op(Read(), 1, 1, 2)], Register()
    )  # dropped, it would explain nothing


def test_keys_know_nothing_of_each_other() -> None:
    history = [
        op(Write(1), None, 0, 1, "a"),
        op(Read(), ABSENT, 2, 3, "b"),
        op(Read(), ABSENT, 2, 3, "a"),
    ]
    (failure,) = check_linearizable(history, Register())
    assert failure.key == "a"


def test_ten_thousand_operations_on_a_hundred_keys() -> None:
    """And then one read among them is made stale."""
    history = History()
    running: list[tuple[int, Any]] = []
    for number in range(10_000):
        key = number % 100
        asked = Read() if number % 3 == 0 else Write(number)
        running.append((history.begin(key, asked), None))
        if len(running) == 20:
            done, _ = running.pop(0)
            history.end(done, None)
    operations = history.operations()
    values: dict[Any, Any] = {}
    answered: list[Operation] = []
    for each in operations:  # in the order of their calls, which is one that they may have
        values[each.key] = (
            each.input.value if isinstance(each.input, Write) else values.get(each.key, ABSENT)
        )
        answered.append(each._replace(output=values[each.key]))
    seen: list[int] = []
    assert check_linearizable(answered, Register(), progress=seen.append) == []
    assert sum(seen) == 10_000
    at = next(n for n in range(9_000, 10_000) if isinstance(answered[n].input, Read))
    answered[at] = answered[at]._replace(output=-1, ended=answered[at].call + 1)
    (failure,) = check_linearizable(answered, Register())
    assert failure.blocked.output == -1


# -- against an oracle that tries every order -----------------------------------------------------------


def oracle(history: list[Operation]) -> bool:
    """Herlihy and Wing's definition, word for word."""
    must = [each for each in history if each.ended is not None]
    may = [each for each in history if each.ended is None]
    model = Register()
    for count in range(len(may) + 1):
        for chosen in permutations(may, count):
            for order in permutations([*must, *chosen]):
                if _in_time(order) and _fits(order, model):
                    return True
    return False


def _in_time(order: tuple[Operation, ...]) -> bool:
    return not any(
        later.ended is not None and later.ended < earlier.call
        for at, earlier in enumerate(order)
        for later in order[at + 1 :]
    )


def _fits(order: tuple[Operation, ...], model: Register) -> bool:
    state = model.initial(K)
    for each in order:
        state = model.step(state, each.input, each.output)
        if state is REFUSED:
            return False
    return True


values = st.integers(0, 2)


@st.composite
def operations(draw: st.DrawFn, endless: int = 1) -> Operation:
    """Any; so many of six have no end."""
    asked = draw(
        st.one_of(
            st.just(Read()),
            st.builds(Write, values),
            st.builds(CompareExchange, values, values),
        )
    )
    call = draw(st.integers(0, 12))
    if draw(st.integers(0, 5)) < endless:
        return op(asked, UNKNOWN, call, None)
    outputs = {
        Read: st.one_of(values, st.just(ABSENT)),
        Write: st.none(),
        CompareExchange: st.booleans(),
    }
    return op(asked, draw(outputs[type(asked)]), call, call + draw(st.integers(1, 6)))


histories = st.lists(operations(), max_size=6)


@settings(max_examples=600, deadline=None)
@given(histories)
def test_it_agrees_with_the_definition(history: list[Operation]) -> None:
    assert (check_linearizable(history, Register()) == []) == oracle(history)


@settings(max_examples=600, deadline=None)
@given(st.lists(operations(endless=3), max_size=6))
def test_it_agrees_where_many_outcomes_are_unknown(history: list[Operation]) -> None:
    assert (check_linearizable(history, Register()) == []) == oracle(history)


def test_many_unknown_outcomes_take_no_time() -> None:
    """Thirty of them could have happened in a billion ways."""
    lost = [op(Write(1000 + n), UNKNOWN, n, None) for n in range(30)]
    seen = [op(Read(), 1000 + n, 100 + 2 * n, 101 + 2 * n) for n in range(0, 30, 3)]
    written = [op(Write(n), None, 200 + 2 * n, 201 + 2 * n) for n in range(200)]
    assert check_linearizable([*lost, *seen, *written], Register()) == []
    never = op(Read(), 77, 700, 701)
    assert check_linearizable([*lost, *seen, *written, never], Register()) != []


def disagrees(history: list[Operation]) -> bool:
    return (check_linearizable(history, Register()) == []) != oracle(history)


def test_planted_bugs_disagree_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropping unknown outcomes; not minding how many of them were used; ends before calls of the same time;
    forgetting to take a choice back."""
    seen_later = [op(Write(1), UNKNOWN, 0, None), op(Read(), 1, 1, 2)]
    touching = [op(Write(1), None, 0, 5), op(Read(), ABSENT, 5, 6)]
    used_up = [
        op(Write(0), UNKNOWN, 1, None),
        op(CompareExchange(0, 1), UNKNOWN, 1, None),
        op(Write(1), UNKNOWN, 3, None),
        op(Read(), 1, 2, 3),
        op(Read(), 0, 6, 9),
    ]
    wrong_first = [
        op(Write(1), None, 0, 9),
        op(Write(2), None, 0, 9),
        op(Read(), 2, 10, 11),
    ]
    for history in (
        seen_later,
        used_up,
        touching,
        wrong_first,
        wrong_first[1::-1] + wrong_first[2:],
    ):
        assert not disagrees(history)
    linked, check, is_new = checker._linked, checker._check, checker._Memory.is_new

    def dropping(key: Any, given_: Any, model: Any) -> Any:
        return check(key, [each for each in given_ if each.ended is not None], model)

    with monkeypatch.context() as patch:
        patch.setattr(checker, "_check", dropping)
        assert disagrees(seen_later)

    def careless(memory: Any, done: int, state: Any, used: int) -> bool:
        del used
        return is_new(memory, done, state, 0)

    with monkeypatch.context() as patch:
        patch.setattr(checker._Memory, "is_new", careless)
        assert disagrees(used_up)

    def never(taken: Any, operation: Any, after: Any, model: Any) -> bool:
        del operation, after, model
        return taken.event is not None

    with monkeypatch.context() as patch:
        patch.setattr(checker._Taken, "needed", never)
        assert disagrees(seen_later)

    def forgetful(_: object) -> None:
        """Leaves the event where it is not."""

    def early(given_: Any) -> Any:
        return linked([each._replace(ended=each.ended - 0.5) for each in given_])

    with monkeypatch.context() as patch:
        patch.setattr(checker, "_linked", early)
        assert disagrees(touching)
    with monkeypatch.context() as patch:
        patch.setattr(checker._Event, "unlift", forgetful)
        assert any(disagrees(h) for h in (wrong_first, wrong_first[1::-1] + wrong_first[2:]))


# -- recording --------------------------------------------------------------------------------------------


def test_a_history_keeps_what_nobody_ended() -> None:
    history = History()
    done, lost, undone, running = (history.begin(K, Write(n), client=n) for n in range(4))
    history.end(done, None)
    history.lose(lost)
    history.drop(undone)
    found = history.operations()
    assert [(each.input.value, each.ended is None, each.output) for each in found] == [
        (0, False, None),
        (1, True, UNKNOWN),
        (3, True, UNKNOWN),
    ]
    assert len(history) == 3
    history.end(running, None)
    assert history.operations()[-1].ended is not None
