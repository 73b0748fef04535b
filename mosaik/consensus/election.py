"""Elections: who stands, who votes for whom, and when (thesis §3.4, §4.2.3, §9.6).

Theory of operation
-------------------
A voter whose election timer runs out first asks whether it *could* win (a pre-vote, which changes
nobody's term) and only then enters a new term. A voter that heard from a leader within the shortest
election timeout refuses both, without even looking at the term: a replica that merely cannot hear the
leader disturbs nobody.

A leader's process that dies closes its sockets, and that is evidence, not silence. A voter that sees
it stops shielding that leader and stands after a rank-dependent moment instead of a full timeout; when
the vote splits, it tries again after a short random one. Those who still hear the leader go on
refusing, so that one broken link changes nothing.
"""

from __future__ import annotations

from typing import Final

from mosaik.consensus import floors, genesis, replication
from mosaik.consensus.core import Core, Standing
from mosaik.consensus.messages import TimeoutNow, Vote, VoteReply, VoteRequest
from mosaik.consensus.quorum import Outcome, vote_outcome
from mosaik.consensus.status import status_of
from mosaik.primitives.cursor import Cursor
from mosaik.primitives.membership import Replica

__all__ = [
    "become_candidate",
    "leader_died",
    "may_grant",
    "on_timeout_now",
    "on_vote_reply",
    "on_vote_request",
    "shields_leader",
    "start_pre_vote",
    "tick",
]

#: A voter that saw the leader die waits its rank times this before it stands, in seconds.
RANK_DELAY: Final = 0.015
#: After a split, such a voter tries again after a random time in this range, in seconds.
HURRY_RETRY: Final = (0.020, 0.080)


def may_stand(core: Core) -> bool:
    """Only a voter of its own log's configuration stands, and only with a store it can vouch for."""
    return core.able and core.is_voter and not (core.lost or core.left or core.pristine)


def tick(core: Core) -> None:
    """Stands when the election timer has run out."""
    if core.is_leader or core.now < core.election_due:
        return
    if not may_stand(core):
        core.election_due = float("inf")
        return
    start_pre_vote(core)


def arm(core: Core) -> None:
    """Starts the election timer of a voter that has none running."""
    if core.election_due == float("inf") and not core.is_leader and may_stand(core):
        core.reset_election_timer()


def start_pre_vote(core: Core) -> None:
    """Asks every voter whether it would vote for this one in the next term."""
    core.become_follower(None)
    p = core.parameters
    if core.now > core.leaderless_since + 2 * (p.election_timeout + p.election_timeout_jitter):
        core.lose_quorum("no leader could be elected")
    core.standing = Standing.PRE_CANDIDATE
    core.votes = {core.me: True}
    _schedule_retry(core)
    _ask(core, VoteRequest(core.term + 1, core.log.last_cursor, pre=True))
    _count(core)


def become_candidate(core: Core, *, forced: bool = False) -> None:
    """Enters a new term and votes for itself (thesis §3.4)."""
    core.adopt_term(core.term + 1)
    core.standing = Standing.CANDIDATE
    core.voted_for = core.me
    core.votes = {core.me: True}
    _schedule_retry(core)
    _ask(core, VoteRequest(core.term, core.log.last_cursor, forced=forced))
    _count(core)


def _schedule_retry(core: Core) -> None:
    if core.now < core.hurry_until:
        low, high = HURRY_RETRY
        core.election_due = core.now + low + (high - low) * core.rng.random()
    else:
        core.reset_election_timer()


def _ask(core: Core, request: VoteRequest) -> None:
    for voter in core.configuration.voters:
        if voter != core.me:
            core.send(voter, request)


def shields_leader(core: Core) -> bool:
    """Whether this replica has heard from a living leader too recently to help replace it."""
    if core.is_leader:
        return True
    return core.leader is not None and (
        core.now < core.leader_heard + core.parameters.election_timeout
    )


def may_grant(core: Core, candidate: Replica, request: VoteRequest) -> bool:
    """Whether the rules of thesis §3.4 and §3.6.1 let this replica vote for the candidate."""
    free = request.pre or core.voted_for in (None, candidate)
    return free and not request.last.is_behind(core.vouched)


def on_vote_request(core: Core, sender: Replica, request: VoteRequest) -> None:
    """Answers a candidate or pre-candidate."""
    if not request.forced and shields_leader(core):
        _reply(core, sender, request, Vote.DENIED, "hears a leader")
        if core.configuration.find(sender) is None:
            # Nobody else speaks to one that was removed: it learns from this whom to ask.
            core.send_peer(sender.peer, status_of(core))
        return
    if request.pre:
        if request.term <= core.term:
            _reply(core, sender, request, Vote.DENIED, "term has passed")
        elif core.quarantine:
            _reply(core, sender, request, Vote.ABSTAINED, "store was rolled back")
        elif may_grant(core, sender, request):
            _reply(core, sender, request, Vote.GRANTED)
        else:
            _refuse(core, sender, request, "log is behind")
        return
    if request.term > core.term:
        core.adopt_term(request.term)
    if request.term < core.term:
        _reply(core, sender, request, Vote.DENIED, "term has passed")
    elif core.quarantine:
        _reply(core, sender, request, Vote.ABSTAINED, "store was rolled back")
    elif core.standing is Standing.FOLLOWER and may_grant(core, sender, request):
        _grant(core, sender)
        _reply(core, sender, request, Vote.GRANTED)
    else:
        _refuse(core, sender, request, "voted, or log is behind")


def _refuse(core: Core, sender: Replica, request: VoteRequest, reason: str) -> None:
    """A replica that misses a tail cannot say how its log compares; whoever asks may want to know."""
    if core.suspect:
        _reply(core, sender, request, Vote.ABSTAINED, "store is suspect")
    else:
        _reply(core, sender, request, Vote.DENIED, reason)


def _grant(core: Core, candidate: Replica) -> None:
    if core.voted_for != candidate:
        core.voted_for = candidate
        core.mark_dirty()
    core.raise_floor(candidate, Cursor(core.term, 0))
    core.reset_election_timer()


def _reply(core: Core, sender: Replica, request: VoteRequest, vote: Vote, reason: str = "") -> None:
    # A granted pre-vote speaks of the term it was asked about; everything else of our own.
    term = request.term if request.pre and vote is Vote.GRANTED else core.term
    core.send(sender, VoteReply(term, vote, request.pre, reason))


def on_vote_reply(core: Core, sender: Replica, reply: VoteReply) -> None:
    """Counts an answer to our own candidacy."""
    granted_pre = reply.pre and reply.vote is Vote.GRANTED
    if reply.term > core.term and not granted_pre:
        core.adopt_term(reply.term)
        return
    if granted_pre:
        expected = core.standing is Standing.PRE_CANDIDATE and reply.term == core.term + 1
    else:
        standing = Standing.PRE_CANDIDATE if reply.pre else Standing.CANDIDATE
        expected = core.standing is standing and reply.term == core.term
    if not expected:
        return
    if reply.vote is Vote.GRANTED and not reply.pre:
        core.raise_floor(sender, Cursor(reply.term, 0))
    count_vote(core, sender, reply.vote is Vote.GRANTED)


def count_vote(core: Core, voter: Replica, granted: bool) -> None:
    """Records one vote and acts on the outcome.

    Not that of a store that was rolled back: it may have voted for, or held, what it forgot.
    """
    if core.doubtful(voter):
        floors.object_to(core, voter)  # it is wrong if an old status came late; then it says so
        return
    if core.votes.get(voter) is not True:
        core.votes[voter] = granted
    _count(core)


def _count(core: Core) -> None:
    voters = core.configuration.voters
    if vote_outcome(voters, core.votes) is not Outcome.WON:
        # A lost or split vote waits for its retry: standing down at once would gain nothing.
        return
    if core.standing is Standing.PRE_CANDIDATE:
        become_candidate(core)
    elif core.standing is Standing.CANDIDATE:
        replication.become_leader(core)


def on_timeout_now(core: Core, sender: Replica, message: TimeoutNow) -> None:
    """The leader asks this replica to stand at once (thesis §3.10)."""
    if message.term == core.term and sender == core.leader and may_stand(core):
        become_candidate(core, forced=True)


def leader_died(core: Core) -> None:
    """The leader's process was seen to die: stand after a moment that depends on our rank."""
    dead, core.leader_heard = core.leader, float("-inf")
    core.hurry_until = core.now + core.parameters.election_timeout
    core.online = False
    if may_stand(core):
        remaining = sorted(voter for voter in core.configuration.voters if voter != dead)
        rank = remaining.index(core.me)
        core.election_due = core.now + rank * RANK_DELAY * core.parameters.reluctance


def stand_for_genesis(core: Core) -> None:
    """The proposer of an attempt is a candidate of term 1, in which every acceptance is a vote."""
    core.standing = Standing.CANDIDATE
    core.votes = {core.me: True}
    core.reset_election_timer()
    genesis.propose_to_all(core)
    _count(core)
