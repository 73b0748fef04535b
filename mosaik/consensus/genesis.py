"""How a history begins, when nobody lists the members.

Theory of operation
-------------------
Pristine replicas that can see each other propose *attempts*: a set of founders and the history's first
entry, which is their configuration. Accepting an attempt is one synced write that makes the store a
founder with that entry as its log, in term 1, having voted for the proposer. A store accepts at most
one attempt in a life.

From there ordinary elections run among the founders, by a majority of entry 1. Whoever leads a log
that holds entry 1 only appends one of two things:

* ``FOUNDED``, when *every* founder is known to have accepted. Once committed, the history lives.
* ``DISSOLVE``, when that takes too long. Once committed, every founder erases this life.

A founder that knows an attempt can never be founded, because its own life is past the cited one or is
bound elsewhere, says ``DEAD``; a pristine founder that is asked to give up first ends its life, and
then says so. ``DEAD`` is a proof, and whoever hears it erases this life at once. Any majority of the
founders can decide, and a crashed minority locks nothing. Why two founded histories never share a
store is argued in ``docs/membership.md``.

Who proposes, and when, is only a matter of liveness: ranks by peer id stagger the proposals.
"""

from __future__ import annotations

from mosaik.consensus import election, lives
from mosaik.consensus.core import Core, Standing
from mosaik.consensus.effects import Notice
from mosaik.consensus.landmarks import Landmarks
from mosaik.consensus.messages import Phase, Propose, ProposeReply, ProposeVerdict
from mosaik.primitives.cursor import Cursor
from mosaik.primitives.durable import Anchor
from mosaik.primitives.entry import Damage, EntryKind, seal, unseal
from mosaik.primitives.errors import CodecError
from mosaik.primitives.membership import (
    Attempt,
    Configuration,
    Member,
    Replica,
    Role,
    configuration_codec,
)

__all__ = [
    "NOWHERE",
    "accept",
    "decide",
    "give_up",
    "lead",
    "on_propose",
    "on_propose_reply",
    "propose_to_all",
    "tick",
]

#: The payload of a ``DISSOLVE`` entry that gives an attempt up, instead of naming another history.
NOWHERE = b""


def tick(core: Core) -> None:
    """Proposes, when the time has come; pushes an attempt forward, when there is one."""
    if not core.able or core.lost:
        return
    if core.pristine:
        _consider(core)
    elif core.attempt is not None and not core.founded:
        _push(core)


# -- proposing --------------------------------------------------------------------------------------


def _consider(core: Core) -> None:
    """Proposes an attempt once the conditions have held for as long as our rank asks."""
    if core.parameters.observer or core.now < core.quiet_until or _must_wait(core):
        core.eligible_since = None
        return
    candidates = _pristine_around(core)
    if len(candidates) < core.parameters.bootstrap_expect:
        core.eligible_since = None
        return
    if core.eligible_since is None:
        core.eligible_since = core.now
    candidates.sort(key=lambda member: member.replica.peer)
    rank = [member.replica for member in candidates].index(core.me)
    if core.now >= core.eligible_since + rank * core.parameters.election_timeout:
        _propose(core, candidates[: core.parameters.max_voters])


def _must_wait(core: Core) -> bool:
    """Whether a neighbour belongs to a history, or to an attempt that may still become one."""
    for neighbour in core.neighbours.values():
        status = neighbour.status
        if status is None:
            continue
        if status.founded or status.phase is Phase.MEMBER or status.lost:
            return True
        if status.phase is Phase.ATTEMPT:
            since = core.seen_attempts.setdefault(neighbour.history, core.now)
            if core.now < since + core.parameters.genesis_timeout:
                return True
    return False


def _pristine_around(core: Core) -> list[Member]:
    """This replica and every bonded one that could found with it."""
    members = [core.member(Role.VOTER)]
    for neighbour in core.neighbours.values():
        status, replica = neighbour.status, neighbour.replica
        if status is None or replica is None or status.observer:
            continue
        if status.phase is Phase.PRISTINE:
            members.append(
                Member(
                    replica=replica,
                    role=Role.VOTER,
                    volatile=status.volatile,
                    reluctance=max(1, status.reluctance),
                )
            )
    return members


def _propose(core: Core, founders: list[Member]) -> None:
    if core.me not in [member.replica for member in founders]:
        # The founders are the lowest ids, itself included: the proposer takes the last place.
        founders = [*founders[:-1], core.member(Role.VOTER)]
    configuration = Configuration(tuple(sorted(founders, key=lambda member: member.replica)))
    payload = configuration_codec.encode(configuration)
    entry = seal(EntryKind.CONFIG, 1, 1, core.wall_ms, payload, 0)
    nonce = core.rng.randbytes(16)
    history = Attempt.history_id(core.parameters.group, entry.sealed, core.me, nonce)
    attempt = Attempt(configuration, core.me, nonce, entry.sealed, bytes(history))
    accept(core, attempt)
    election.stand_for_genesis(core)


def propose_to_all(core: Core, *, giving_up: bool = False) -> None:
    """Asks every founder that is not known to have accepted, or is known to live on without us.

    Whoever slept while the others gave the attempt up hears of it this way: a founder in a later life
    answers with the proof.
    """
    attempt = core.attempt
    if attempt is None:
        return
    for founder in attempt.founders.voters:
        neighbour = core.neighbours.get(founder.peer)
        if founder == core.me or neighbour is None:
            continue
        if founder in core.accepts and neighbour.replica in (None, founder):
            continue
        neighbour.proposed = core.now
        core.send(founder, Propose(attempt, giving_up))


def _push(core: Core) -> None:
    """Asks again once a heartbeat; after the genesis timeout, asks the undecided to give up."""
    overdue = core.now >= core.attempt_since + core.parameters.genesis_timeout
    if core.now >= core.propose_due:
        core.propose_due = core.now + core.parameters.heartbeat_interval
        propose_to_all(core, giving_up=overdue)
    decide(core)


# -- accepting --------------------------------------------------------------------------------------


def accept(core: Core, attempt: Attempt) -> None:
    """Binds this life to an attempt: entry 1, term 1 and the vote, in one write."""
    entry = unseal(attempt.entry, expected=1)
    core.history = attempt.history
    core.attempt = attempt
    core.attempt_since = core.now
    core.propose_due = core.now + core.parameters.heartbeat_interval
    core.accepts = {core.me, attempt.proposer}
    core.term = 1
    core.voted_for = attempt.proposer
    core.log.reset(Anchor())
    core.marks = Landmarks()
    core.extend([entry])
    core.mark_dirty()
    core.become_follower(None)
    core.announce()


def well_formed(core: Core, attempt: Attempt) -> bool:
    """Whether an attempt is what its history id says, and is one that this group could make."""
    try:
        entry = unseal(attempt.entry, expected=1)
        configuration = configuration_codec.decode(entry.payload)
    except (Damage, CodecError):
        return False
    voters = configuration.voters
    named = Attempt.history_id(
        core.parameters.group, attempt.entry, attempt.proposer, attempt.nonce
    )
    return (
        entry.kind is EntryKind.CONFIG
        and entry.term == 1
        and entry.previous == 0
        and configuration == attempt.founders
        and len(voters) == len(configuration.members)
        and len({voter.peer for voter in voters}) == len(voters)
        and attempt.proposer in voters
        and core.parameters.bootstrap_expect <= len(voters) <= core.parameters.max_voters
        and attempt.history == named
    )


def on_propose(core: Core, sender: Replica, message: Propose) -> None:
    """Answers whether this store accepts, or never will."""
    attempt = message.attempt
    mine = [f for f in attempt.founders.voters if (f.peer, f.store) == core.me[:2]]
    if not mine or not well_formed(core, attempt):
        return
    cited = mine[0].life
    if attempt.history in core.dissolved:
        into = core.dissolved[attempt.history]
        core.send(sender, ProposeReply(attempt.history, ProposeVerdict.DISSOLVED, into))
    elif core.history == attempt.history and cited == core.me.life:
        # A proposal is itself the proposer's acceptance, and a founder's who passes it on.
        if sender in attempt.founders.voters:
            core.accepts.add(sender)
        core.send(sender, ProposeReply(attempt.history, ProposeVerdict.ACCEPTED))
    elif cited > core.me.life:
        _went_back(core, cited)
    elif cited < core.me.life or not core.pristine:
        core.send(sender, ProposeReply(attempt.history, ProposeVerdict.DEAD))
    elif message.giving_up:
        # The life ends, durably, before the answer leaves (`Core.send` waits for the write).
        lives.end_life(core)
        core.send(sender, ProposeReply(attempt.history, ProposeVerdict.DEAD))
    elif not core.able or core.parameters.observer:
        core.send(sender, ProposeReply(attempt.history, ProposeVerdict.BUSY))
    else:
        accept(core, attempt)
        core.send(sender, ProposeReply(attempt.history, ProposeVerdict.ACCEPTED))


def _went_back(core: Core, cited: int) -> None:
    core.quarantine = True
    core.mark_dirty()
    core.report(
        Notice.QUARANTINED, f"this store once was in life {cited}, and now is in {core.me.life}"
    )
    core.become_follower(None)
    core.announce()


def on_propose_reply(core: Core, sender: Replica, reply: ProposeReply) -> None:
    """A founder of our attempt answered."""
    attempt = core.attempt
    if attempt is None or reply.history != core.history or sender.peer == core.me.peer:
        return
    if reply.verdict is ProposeVerdict.ACCEPTED:
        if sender in attempt.founders.voters:
            _accepted(core, attempt, sender)
    elif reply.verdict is ProposeVerdict.DEAD:
        give_up(core)
    elif reply.verdict is ProposeVerdict.DISSOLVED and not core.founded:
        lives.end_life(core, reply.into)


def _accepted(core: Core, attempt: Attempt, founder: Replica) -> None:
    core.accepts.add(founder)
    core.raise_floor(founder, Cursor(1, 0))
    if core.standing is Standing.CANDIDATE and core.term == 1 and attempt.proposer == core.me:
        election.count_vote(core, founder, True)
    decide(core)


def give_up(core: Core) -> None:
    """A founder proved that the attempt can never be founded: this life of ours is over."""
    if core.founded:
        core.report(Notice.BUG, "a founded history was declared dead")
        return
    lives.end_life(core)


# -- deciding ---------------------------------------------------------------------------------------


def lead(core: Core) -> None:
    """Takes office over a log that holds entry 1 only."""
    propose_to_all(core)
    decide(core)


def decide(core: Core) -> None:
    """At the leader of an attempt: founds it, or gives it up, as soon as either is right."""
    attempt = core.attempt
    if attempt is None or not core.is_leader or core.log.last_index != 1:
        return
    if core.accepts.issuperset(attempt.founders.voters):
        core.append(EntryKind.FOUNDED, [b""])
        core.report(Notice.FOUNDED, core.history.hex())
    elif core.now >= max(core.attempt_since, core.led_since) + core.parameters.genesis_timeout:
        core.append(EntryKind.DISSOLVE, [NOWHERE])
