"""A group of real cores, to which recorded wishes are put.

Nobody commands a group of ours from outside: whoever wants to count is started and asks, and whoever
wants to be rid of it leaves. So a wish becomes what its node would do:

``v1``  its process is started, as one that can vote; if it runs, it is started again and asks once more
``l1``  the same as an observer, which is what stays a learner here
``r1``  it leaves; if it is no member, it asks once more to be removed, as after a lost answer
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from mosaik.consensus import (
    Bonded,
    Effects,
    Input,
    Outgoing,
    Received,
    Refused,
    Unbonded,
    View,
)
from mosaik.consensus.messages import (
    Envelope,
    JoinReply,
    JoinRequest,
    LeaveReply,
    LeaveRequest,
    Target,
)
from mosaik.primitives.membership import Configuration, Member, Replica, Role
from tests.consensus.recorded.changes import State
from tests.consensus.simulation import Property
from tests.consensus.simulation.node import SimNode
from tests.consensus.transcript import Transcript

__all__ = ["NO_HISTORY", "Group"]

#: Virtual seconds within which everything that is wished has come about: to be promoted takes ten
#: heartbeats of 0.25 s, and whoever is left out asks to join again after 2 s.
LONG: Final = 6.0

#: What came of a wish that nobody answers.
NO_HISTORY: Final = "no history was founded"
NOT_ADMITTED: Final = "it was not admitted"
OTHER_ROLE: Final = "it is a member, and not what it wished to be"
UNANSWERED: Final = "there was no answer"


class Group(Transcript):
    """Real cores, disks that work, and links that lose nothing; see `Transcript`.

    Attributes:
        configurations: each that was in force at a leader, in order.
    """

    def __init__(self, ignored: frozenset[Property] = frozenset()) -> None:
        super().__init__(ignored)
        self.configurations: list[Configuration] = []
        self._answers: list[tuple[SimNode, object]] = []
        self._sent: list[Outgoing] = []
        #: Who was there once, by number.
        self._gone: dict[int, Replica] = {}

    def observe(
        self, node: SimNode, inputs: Sequence[Input], before: View, effects: Effects
    ) -> None:
        super().observe(node, inputs, before, effects)
        assert node.core is not None
        view = node.core.view
        if view.leading and self.configurations[-1:] != [view.configuration]:
            self.configurations.append(view.configuration)
        self._answers += [(node, answer) for answer in effects.answers]
        self._sent += effects.send

    # -- what there is --------------------------------------------------------------------------------

    def _running(self) -> list[tuple[SimNode, View]]:
        return [(node, node.core.view) for node in self.nodes.values() if node.core is not None]

    @property
    def _leader(self) -> SimNode | None:
        """Whoever leads, in the highest term."""
        leading = [(view.term, node) for node, view in self._running() if view.leading]
        return max(leading, key=lambda pair: pair[0])[1] if leading else None

    @property
    def _configuration(self) -> Configuration:
        leader = self._leader
        if leader is None or leader.core is None:
            return Configuration()
        return leader.core.view.configuration

    @property
    def state(self) -> State:
        """The configuration in force at the leader."""
        return State(
            frozenset(replica.peer[0] for replica in self._configuration.voters),
            frozenset(replica.peer[0] for replica in self._configuration.learners),
        )

    @property
    def settled(self) -> bool:
        """Whether that configuration is committed, and is what every running member knows.

        Without a leader, whether nobody believes in any.
        """
        leader, configuration = self._leader, self._configuration
        if leader is not None and leader.core is not None:
            core = leader.core._core
            if core.config_index > core.commit:
                return False
        peers = {member.replica.peer for member in configuration.members}
        return all(
            view.configuration == configuration
            for node, view in self._running()
            if node.peer in peers or leader is None
        )

    def _member(self, number: int) -> Member | None:
        return self._configuration.of_peer(peer_of(number))

    # -- how it begins --------------------------------------------------------------------------------

    def found(self, state: State, waiting: frozenset[int] = frozenset()) -> None:
        """Makes a group that is in this state.

        Args:
            state: the founders, and who joined as a learner after them.
            waiting: learners that will be voters as soon as they kept up for ten heartbeats.
        """
        if not state.voters:
            return
        founders = " ".join(map(str, sorted(state.voters)))
        self._do(f"node {founders} expect={len(state.voters)}", "bond all", "run 2")
        # Those that wait come last: by then, the others are where they stay.
        for learner in sorted(state.learners, key=lambda number: (number in waiting, number)):
            self._start(learner, observer=learner not in waiting)
            self._do("run 1")

    def _do(self, *commands: str) -> None:
        for command in commands:
            self.execute(command)

    def _start(self, number: int, *, observer: bool) -> None:
        kind = " observer" if observer else ""
        self._do(f"node {number} expect=1{kind}", "bond all")

    # -- wishes ---------------------------------------------------------------------------------------

    def wish(self, *wishes: str) -> list[str]:
        """Puts wishes to the group, all of them before anything comes of one.

        Returns:
            Why something that was wished did not come about; nothing for what did.
        """
        self._answers, self._sent = [], []
        asked = [self._express(wish[0], int(wish[1:])) for wish in wishes]
        self._do(f"run {LONG}")
        return [reason for outcome in asked if (reason := outcome())]

    def _express(self, kind: str, number: int) -> Callable[[], str]:
        """Asks; what is returned tells, once time has passed, why it was in vain."""
        member = self._member(number)
        if kind == "r" and member is not None:
            self._do(f"leave {number}")
            self._gone[number] = member.replica
            return lambda: self._reason_of_leave(number)
        if kind == "r":
            replica = self._gone.get(number, Replica(peer_of(number), bytes(16), 0))
            return self._tell(replica, LeaveRequest(replica))
        if member is None:
            self._start(number, observer=kind == "l")
            return lambda: self._reason_of_absence(number, kind)
        waits = member.role is Role.LEARNER and not member.observer
        assert kind == "l" or member.role is Role.VOTER or waits, "an observer never votes"
        if kind == "v" and waits:
            return lambda: self._reason_of_absence(number, kind)
        return self._ask_again(number, kind, member)

    def _ask_again(self, number: int, kind: str, member: Member) -> Callable[[], str]:
        """Starts a member again, which then asks for what it has."""
        self._do(f"crash {number}", f"start {number}", "bond all", f"run {LONG}")
        leader = self._leader
        if leader is None or leader.peer == member.replica.peer:
            # A leader has nobody to ask.
            return lambda: self._reason_of_absence(number, kind)
        role = Role.VOTER if kind == "v" else Role.LEARNER
        return self._tell(
            member.replica, JoinRequest(Member(member.replica, role, observer=kind == "l"))
        )

    def _tell(self, replica: Replica, body: JoinRequest | LeaveRequest) -> Callable[[], str]:
        """Has the leader hear this of a replica, whether or not that one is there."""
        leader = self._leader
        assert leader is not None
        assert leader.core is not None
        bonded = replica.peer in leader.bonds
        me = leader.core.replica
        envelope = Envelope(leader.history, replica, Target(me.store, me.life), body)
        if not bonded:
            self.step(leader, (Bonded(replica.peer),))
        self.step(leader, (Received(envelope),))
        if not bonded:
            self.settle()
            self.step(leader, (Unbonded(replica.peer),))
        return lambda: self._reason_of_reply(replica)

    def _reason_of_leave(self, number: int) -> str:
        given = [answer for node, answer in self._answers if node.peer == peer_of(number)]
        if not given:
            return UNANSWERED
        (answer,) = given
        return answer.reason if isinstance(answer, Refused) else ""

    def _reason_of_reply(self, replica: Replica) -> str:
        replies = [
            outgoing.envelope.body
            for outgoing in self._sent
            if outgoing.peer == replica.peer
            and isinstance(outgoing.envelope.body, JoinReply | LeaveReply)
        ]
        if not replies:
            return UNANSWERED
        (reply,) = replies
        return "" if reply.index else reply.reason

    def _reason_of_absence(self, number: int, kind: str) -> str:
        member = self._member(number)
        if member is None:
            return NOT_ADMITTED if self._leader is not None else NO_HISTORY
        return "" if member.role is (Role.VOTER if kind == "v" else Role.LEARNER) else OTHER_ROLE


def peer_of(number: int) -> bytes:
    """The peer that `Transcript` makes for a number."""
    return bytes([number]) * 32
