"""An answer is about the very question that was asked, and proves what it seems to prove.

Each case is also played with the bug in place, to see that the test would tell.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import msgspec
import pytest

from mosaik.consensus import Received, reads, replication, step
from mosaik.consensus.core import Core
from mosaik.consensus.messages import AppendReply, Envelope, ReadIndex, Target
from mosaik.primitives.membership import Replica
from tests.consensus.simulation import Violation
from tests.consensus.transcript import Transcript

Plant = Callable[[pytest.MonkeyPatch], None]


def do(transcript: Transcript, *commands: str) -> list[str]:
    return [line.strip() for command in commands for line in transcript.execute(command)]


def group(*numbers: int, more: str = "") -> Transcript:
    """A founded group with a leader, n1."""
    transcript = Transcript()
    names = " ".join(map(str, numbers))
    do(transcript, f"node {names} expect={len(numbers)} {more}", "bond all", "run 1")
    return transcript


def differs(case: Callable[[], object], plant: Plant) -> None:
    """The case comes out well, and not so with the bug in place."""
    assert case()
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        with contextlib.suppress(Violation):
            assert not case()


# -- reads ------------------------------------------------------------------------------------------


def an_older_round() -> bool:
    """A read is not answered by answers to a round that began before it was asked."""
    transcript = group(1, 2, 3)
    do(transcript, "tick 0.26", "deliver 1>2 1>3")
    lines = do(transcript, "read 1", "deliver 2>1 3>1")
    answered = [line for line in lines if line.startswith("n1 answers: may read")]
    assert "n1 answers: may read at 2" in lines + do(transcript, "deliver")
    return not answered


def any_round_will_do(patch: pytest.MonkeyPatch) -> None:
    def on_append_reply(core: Core, sender: Replica, reply: AppendReply) -> None:
        before(core, sender, msgspec.structs.replace(reply, round=core.round))

    before = replication.on_append_reply
    patch.setitem(step._HANDLERS, AppendReply, on_append_reply)


def test_6_4_only_a_later_round_confirms_a_read() -> None:
    differs(an_older_round, any_round_will_do)


def an_earlier_process() -> bool:
    """A restarted process does not take the answer to its predecessor's read for one to its own."""
    transcript = group(1, 2, 3)
    do(transcript, "submit 1 a", "deliver", "run 0.5", "read 2", "deliver 2>1", "drop 1>2 1>3")
    do(transcript, "crash 2", "start 2", "bond 1 2", "bond 2 3", "deliver 2>1 1>2")
    do(transcript, "deliver 2>1 1>2 persist=2 2>1 1>2", "tick 0.26", "deliver 1>2")
    do(transcript, "submit 1 b", "deliver persist=1 1>3 persist=3 3>1")
    lines = do(transcript, "read 2", "deliver 1>2")
    return "n2 answers: may read at 3" not in lines


def tokens_as_nonces(patch: pytest.MonkeyPatch) -> None:
    def on_read(core: Core, token: int) -> None:
        if core.is_leader or core.leader is None:
            before(core, token)
            return
        core.reads_remote[token] = (token, core.leader)
        core.send(core.leader, ReadIndex(token))

    before = reads.on_read
    patch.setattr(reads, "on_read", on_read)


def test_a_read_is_not_confirmed_by_an_answer_to_an_earlier_process() -> None:
    differs(an_earlier_process, tokens_as_nonces)


# -- commits ----------------------------------------------------------------------------------------


def an_earlier_term() -> bool:
    """An acknowledgement from an earlier term says nothing of the log of this one."""
    transcript = group(1, 2, 3)
    do(transcript, "cut 1/2,3", "submit 1 a b", "run 3", "mend", "bond all", "run 3")
    leader = next(
        n for n in transcript.nodes.values() if n.core is not None and n.core.view.leading
    )
    assert leader.core is not None
    others = [n for n in transcript.nodes.values() if n is not leader]
    do(transcript, f"submit {leader.name[1:]} c", f"deliver persist={leader.name[1:]}")
    core = leader.core._core
    late = AppendReply(core.term - 1, True, core.log.last_index, 0)
    me = core.me
    envelope = Envelope(core.history, others[0].replica, Target(me.store, me.life), late)
    transcript.step(leader, (Received(envelope),))
    return leader.core.view.commit < core.log.last_index


def every_term_counts(patch: pytest.MonkeyPatch) -> None:
    def on_append_reply(core: Core, sender: Replica, reply: AppendReply) -> None:
        before(core, sender, msgspec.structs.replace(reply, term=max(reply.term, core.term)))

    before = replication.on_append_reply
    patch.setitem(step._HANDLERS, AppendReply, on_append_reply)


def test_3_5_an_acknowledgement_of_an_earlier_term_is_not_counted() -> None:
    differs(an_earlier_term, every_term_counts)


# -- requests ---------------------------------------------------------------------------------------


def before_the_founding() -> bool:
    """Commands that arrive before the history is founded are taken once it is."""
    transcript = Transcript()
    do(transcript, "node 1 2 expect=2", "bond all", "tick 1")
    do(transcript, "deliver persist=1 1>2 persist=2 2>1")
    lines: list[str] = []
    for _ in range(20):
        core = transcript._one("1").core
        assert core is not None
        if core.view.leading and not core.view.founded:
            lines += do(transcript, "submit 1 a")
            break
        do(transcript, "deliver persist=1 1>2 persist=2 2>1")
    lines += do(transcript, "deliver", "run 1")
    return any(line.startswith("n1 answers: accepted at") for line in lines)


def forgetful(patch: pytest.MonkeyPatch) -> None:
    def resubmit(core: Core) -> None:
        core.submitted_early = []

    patch.setattr(step, "_resubmit", resubmit)


def test_commands_wait_for_the_founding() -> None:
    differs(before_the_founding, forgetful)


def test_the_removal_of_another_is_not_taken_for_ones_own() -> None:
    """n2 asks for n4's removal and then for its own; the answer to the first says nothing of the second."""
    transcript = group(1, 2, 3, 4)
    do(transcript, "remove 2 4", "deliver 2>1", "tick 0.01", "leave 2", "deliver 2>1")
    lines = do(transcript, "deliver persist=1 1>3 1>2 persist=3 persist=2 3>1 2>1 1>2")
    assert "n2 reports: left" not in lines
    assert "n2 reports: left" in lines + do(transcript, "deliver", "run 1")
