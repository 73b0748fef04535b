"""MODEL: whatever is written in whatever order, the log is what a plain list would be.

Theory of operation
-------------------
Hypothesis draws a sequence of batches, closings, openings and kills, the store does them in a process of
its own, and after each the logs are held against `LogView`s, in which a log is a tuple. When they differ,
Hypothesis looks for the shortest sequence that still shows it, and that is what the rule reports.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final

from mosaik.primitives.durable import Anchor
from mosaik.testing.storage.ground import Ground, entries
from mosaik.testing.storage.history import LOGS, LogView, Part, encode_part, fingerprint
from mosaik.testing.storage.rule import Broken, Mark, NotAttested, rule

if TYPE_CHECKING:
    from hypothesis.stateful import RuleBasedStateMachine

__all__ = ["EXAMPLES", "STEPS", "try_sequences"]

#: Sequences that are tried, and the steps of each.
EXAMPLES: Final = 15
STEPS: Final = 15


@rule("MODEL-01", "Any sequence of batches leaves what it would leave of a plain list.")
def like_a_list(ground: Ground) -> None:
    try_sequences(ground, survives=False)


@rule(
    "MODEL-02",
    "So does any sequence in which the store is closed, opened and killed in between.",
    Mark.KILL_SAFE,
)
def like_a_list_that_survives(ground: Ground) -> None:
    try_sequences(ground, survives=True)


def try_sequences(
    ground: Ground, *, survives: bool, examples: int = EXAMPLES, steps: int = STEPS
) -> None:
    """Tries sequences of so many steps at most, which the ground's seed draws.

    Args:
        survives: the store is closed, opened and killed in between.

    Raises:
        Broken: after one the store differs from the lists; its steps are noted.
        NotAttested: Hypothesis is not installed.
    """
    try:
        from hypothesis import HealthCheck, Phase, seed, settings
        from hypothesis.stateful import run_state_machine_as_test
    except ImportError as error:
        raise NotAttested("hypothesis is not installed; it is in mosaik-raft[testing]") from error
    machine = _machine(ground, survives)
    seed(ground.seed)(machine)
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
    )
    run_state_machine_as_test(machine, settings=chosen)


class _Store:
    """A store in a process of its own, and what it should hold.

    Args:
        ground: where it is.
    """

    number: ClassVar[int] = 0

    def __init__(self, ground: Ground) -> None:
        _Store.number += 1
        self._ground = ground
        self._place = ground.quick(f"model-{_Store.number}")
        self._url = ground.subject.url(self._place)
        self.logs = [LogView() for _ in LOGS]
        self._drawn = 0
        self._begin()

    def _begin(self) -> None:
        self._worker = self._ground.fork()
        self._worker.do("open", self._url, str(self._place))

    def write(self, make: Callable[[LogView, str], Part], *chosen: int) -> None:
        """Commits a part for each of these logs."""
        self._drawn += 1
        parts = {at: make(self.logs[at], f"{self._drawn}.{at}:") for at in set(chosen)}
        self._worker.do("write", *((at, encode_part(part)) for at, part in parts.items()))  # type: ignore[arg-type]
        for at, part in parts.items():
            self.logs[at] = part.applied(self.logs[at])

    def compare(self, when: str = "") -> None:
        """Holds the store against the lists."""
        wanted = "shows " + " ".join(map(fingerprint, self.logs))
        answer = self._worker.ask("show")
        if answer != wanted:
            raise Broken(f"{when}the logs should be {wanted[6:]}, and the store {answer}")

    def reopen(self) -> None:
        self._worker.do("close")
        self._worker.do("open", self._url, str(self._place))
        self.compare("closed and opened again, ")

    def kill(self) -> None:
        self.end()
        self._begin()
        self.compare("killed and opened again, ")

    def end(self) -> None:
        self._worker.close()


def _machine(ground: Ground, survives: bool) -> type[RuleBasedStateMachine]:
    """The state machine; made here, since only it needs Hypothesis."""
    from hypothesis import strategies as st
    from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition
    from hypothesis.stateful import rule as step

    counts, sizes = st.integers(1, 6), st.sampled_from([0, 30, 2_000, 7_000])
    logs, part_of_log = st.integers(0, len(LOGS) - 1), st.floats(0, 1)

    def run(view: LogView, tag: str, count: int, size: int) -> tuple[Any, ...]:
        return tuple(
            entries(count, view.tail, term=max(1, view.tail.term, view.term), size=size, tag=tag)
        )

    def at(view: LogView, share: float) -> int:
        return view.anchor.index + round(share * (view.tail.index - view.anchor.index))

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.store = _Store(ground)

        @step(log=logs, count=counts, size=sizes)
        def append(self, log: int, count: int, size: int) -> None:
            self.store.write(lambda v, tag: Part(entries=run(v, tag, count, size)), log)

        @step(count=counts, size=sizes)
        def append_to_all(self, count: int, size: int) -> None:
            everywhere = range(len(LOGS))
            self.store.write(lambda v, tag: Part(entries=run(v, tag, count, size)), *everywhere)

        @step(log=logs, share=part_of_log)
        def truncate(self, log: int, share: float) -> None:
            self.store.write(lambda v, _: Part(truncate_from=at(v, share) + 1), log)

        @step(log=logs, share=part_of_log, count=counts)
        def overwrite(self, log: int, share: float, count: int) -> None:
            def make(view: LogView, tag: str) -> Part:
                part = Part(vote=tag.encode().ljust(32, b"v"), truncate_from=at(view, share) + 1)
                return part._replace(entries=run(part.applied(view), tag, count, 100))

            self.store.write(make, log)

        @step(log=logs, share=part_of_log)
        def prune(self, log: int, share: float) -> None:
            self.store.write(lambda v, _: Part(prune_to=at(v, share)), log)

        @step(log=logs, index=st.integers(0, 1 << 40), count=counts)
        def reset(self, log: int, index: int, count: int) -> None:
            def make(view: LogView, tag: str) -> Part:
                anchor = Anchor(view.tail.term if index else 0, index, index & 0xFFFF)
                part = Part(reset_to=anchor)
                return part._replace(entries=run(part.applied(view), tag, count, 50))

            self.store.write(make, log)

        @step(log=logs)
        def vote(self, log: int) -> None:
            self.store.write(lambda _, tag: Part(vote=tag.encode().ljust(32, b"v")), log)

        @precondition(lambda _: survives)
        @step()
        def close_and_open(self) -> None:
            self.store.reopen()

        @precondition(lambda _: survives)
        @step()
        def kill_and_open(self) -> None:
            self.store.kill()

        @invariant()
        def compare(self) -> None:
            self.store.compare()

        def teardown(self) -> None:
            self.store.end()

    return Machine
