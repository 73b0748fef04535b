"""What members of a group agree on: its parameters, and the id that is made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Final, Literal, Protocol, Self, runtime_checkable

import msgspec

from mosaik.consensus.parameters import Parameters
from mosaik.groups.key import GroupKey
from mosaik.primitives.digest import Digest
from mosaik.primitives.errors import ConfigError, MosaikError
from mosaik.primitives.nearest import did_you_mean
from mosaik.primitives.peer import PeerEntry

__all__ = [
    "ConsensusConfig",
    "GroupConfig",
    "LeadershipPreference",
    "Normal",
    "Observer",
    "Reluctant",
    "Seconds",
    "TicketValidator",
]

#: Durations are given in seconds or as a ``timedelta``, and kept as seconds.
Seconds = float | timedelta

_GROUP_ID: Final = b"mosaik group id 1"


def _seconds(name: str, value: object, *, least: float = 0.0) -> float:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{name} is a number of seconds or a timedelta, not {value!r}")
    if not least <= value <= 10**7:
        raise ConfigError(f"{name} is {value} s; it must be from {least} s to {10**7} s")
    return float(value)


def _whole(name: str, value: object, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{name} is a whole number, not {value!r}")
    if not least <= value <= most:
        raise ConfigError(f"{name} is {value}; it must be from {least} to {most}")
    return value


def _written(value: float | str) -> str:
    # Rounded, so that 0.1 + 0.2 and timedelta(seconds=0.3) name the same group.
    return f"{round(value, 6)!r} s" if isinstance(value, float) else str(value)


class Normal(msgspec.Struct, frozen=True):
    """May lead like anybody else."""


class Reluctant(msgspec.Struct, frozen=True):
    """May lead, but waits ``factor`` times as long before it stands for election.

    Raises:
        ConfigError: the factor is not a whole number of at least 1.
    """

    factor: int = 3

    def __post_init__(self) -> None:
        _whole("Reluctant.factor", self.factor, 1, 1000)


class Observer(msgspec.Struct, frozen=True):
    """Never a voter and never leads; it applies, asks and forwards commands like anybody else."""


#: How gladly a node leads. Its own matter: members of one group may differ in it.
LeadershipPreference = Normal | Reluctant | Observer

#: As a file of settings writes them.
_PREFERENCES: Final[Mapping[str, LeadershipPreference]] = {
    "normal": Normal(),
    "reluctant": Reluctant(),
    "observer": Observer(),
}


def _preference(value: object) -> LeadershipPreference:
    if value is None:
        return Normal()
    if isinstance(value, Normal | Reluctant | Observer):
        return value
    raise ConfigError(f"leadership is Normal(), Reluctant(n) or Observer(), not {value!r}")


@dataclass(frozen=True, init=False, slots=True)
class ConsensusConfig:
    """The parameters of a group's consensus.

    All but ``leadership`` enter the group's id: nodes that differ in one are in different groups.
    Times are kept as seconds.

    Attributes:
        heartbeat_interval: how often a leader speaks when it has nothing to say, and how often the
            two ends of a bond make sure of each other.
        heartbeat_jitter: at most this is taken off each bond heartbeat's interval, at random.
        max_missed_heartbeats: a bond is dead after so many silent intervals.
        election_timeout: the shortest silence after which a voter stands for election.
        election_timeout_jitter: at most this is added to it, at random.
        bootstrap_delay: how long a node without history listens before it proposes one.
        forward_timeout: how long a command may go unanswered by the leader.
        query_timeout: how long a strong query may take.
        bootstrap_expect: how many nodes must meet before a history begins.
        max_voters: at most so many members vote; the rest learn.
        dead_voter_timeout: a voter that is silent for so long gives its place to a learner.
        on_lost_history: what a group on memory storage does when a majority forgot: ``"block"``
            refuses writes until somebody decides; ``"forget"`` starts a new history, as a cache may.
        leadership: how gladly this node leads.
    """

    heartbeat_interval: float
    heartbeat_jitter: float
    max_missed_heartbeats: int
    election_timeout: float
    election_timeout_jitter: float
    bootstrap_delay: float
    forward_timeout: float
    query_timeout: float
    bootstrap_expect: int
    max_voters: int
    dead_voter_timeout: float
    on_lost_history: Literal["block", "forget"]
    leadership: LeadershipPreference

    def __init__(
        self,
        *,
        heartbeat_interval: Seconds = 0.5,
        heartbeat_jitter: Seconds | None = None,
        max_missed_heartbeats: int = 10,
        election_timeout: Seconds = 2.0,
        election_timeout_jitter: Seconds = 0.5,
        bootstrap_delay: Seconds = 3.0,
        forward_timeout: Seconds = 2.0,
        query_timeout: Seconds = 2.0,
        bootstrap_expect: int = 1,
        max_voters: int = 5,
        dead_voter_timeout: Seconds = 60.0,
        on_lost_history: Literal["block", "forget"] = "block",
        leadership: LeadershipPreference | None = None,
    ) -> None:
        """Every default is that of the table in ``docs/groups.md``.

        Args:
            heartbeat_jitter: when not given, 0.15 s, or less with short heartbeats.

        Raises:
            ConfigError: a value is out of range, or two contradict each other; names them.
        """
        interval = _seconds("heartbeat_interval", heartbeat_interval, least=0.001)
        jitter = min(0.15, 0.3 * interval) if heartbeat_jitter is None else heartbeat_jitter
        values: dict[str, Any] = {
            "heartbeat_interval": interval,
            "heartbeat_jitter": _seconds("heartbeat_jitter", jitter),
            "max_missed_heartbeats": _whole(
                "max_missed_heartbeats", max_missed_heartbeats, 1, 10**6
            ),
            "election_timeout": _seconds("election_timeout", election_timeout, least=0.001),
            "election_timeout_jitter": _seconds("election_timeout_jitter", election_timeout_jitter),
            "bootstrap_delay": _seconds("bootstrap_delay", bootstrap_delay),
            "forward_timeout": _seconds("forward_timeout", forward_timeout, least=0.001),
            "query_timeout": _seconds("query_timeout", query_timeout, least=0.001),
            "bootstrap_expect": _whole("bootstrap_expect", bootstrap_expect, 1, 1000),
            "max_voters": _whole("max_voters", max_voters, 1, 1000),
            "dead_voter_timeout": _seconds("dead_voter_timeout", dead_voter_timeout, least=0.001),
            "on_lost_history": on_lost_history,
            "leadership": _preference(leadership),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        self._validate()

    def _validate(self) -> None:
        if self.heartbeat_jitter >= self.heartbeat_interval:
            raise ConfigError(
                f"heartbeat_jitter ({self.heartbeat_jitter} s) must be shorter than "
                f"heartbeat_interval ({self.heartbeat_interval} s), which it shortens"
            )
        if self.election_timeout <= self.heartbeat_interval:
            raise ConfigError(
                f"election_timeout ({self.election_timeout} s) must be longer than "
                f"heartbeat_interval ({self.heartbeat_interval} s), or voters depose every leader"
            )
        if self.dead_voter_timeout <= self.election_timeout:
            raise ConfigError(
                f"dead_voter_timeout ({self.dead_voter_timeout} s) must be longer than "
                f"election_timeout ({self.election_timeout} s)"
            )
        if self.bootstrap_expect > self.max_voters:
            raise ConfigError(
                f"bootstrap_expect ({self.bootstrap_expect}) may not exceed max_voters "
                f"({self.max_voters}): every founder votes"
            )
        if self.on_lost_history not in ("block", "forget"):
            raise ConfigError(
                f'on_lost_history is "block" or "forget", not {self.on_lost_history!r}'
            )

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any]) -> Self:
        """The configuration that these settings name; the rest keeps its default.

        Raises:
            ConfigError: a name is unknown (the nearest right one is named) or a value out of range.
        """
        known = [field.name for field in fields(cls)]
        for name in settings:
            if name not in known:
                hint = did_you_mean(name, known)
                raise ConfigError(f"there is no consensus setting {name!r}; {hint}")
        leadership = settings.get("leadership")
        if isinstance(leadership, str):
            if leadership not in _PREFERENCES:
                hint = did_you_mean(leadership, _PREFERENCES)
                raise ConfigError(f"there is no leadership preference {leadership!r}; {hint}")
            settings = {**settings, "leadership": _PREFERENCES[leadership]}
        return cls(**settings)

    def with_leadership(self, preference: LeadershipPreference) -> Self:
        """This configuration with another preference; the group's id stays the same."""
        settings: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        settings["leadership"] = preference
        return type(self)(**settings)

    def deprioritize_leadership(self) -> Self:
        """This configuration for a node that would rather not lead: its timers are three times as long."""
        return self.with_leadership(Reluctant())

    def deprioritize_leadership_by(self, factor: int) -> Self:
        """The same with timers ``factor`` times as long.

        Raises:
            ConfigError: the factor is not a whole number of at least 1.
        """
        return self.with_leadership(Reluctant(factor))

    @property
    def parts(self) -> dict[str, str]:
        """Every parameter that members must agree on, as people write it, in a fixed order."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        del named["leadership"]
        return {name: _written(value) for name, value in named.items()}

    def parameters(self, group: bytes, *, volatile: bool) -> Parameters:
        """What the consensus core is told."""
        preference = self.leadership
        return Parameters(
            group=group,
            heartbeat_interval=self.heartbeat_interval,
            election_timeout=self.election_timeout,
            election_timeout_jitter=self.election_timeout_jitter,
            bootstrap_delay=self.bootstrap_delay,
            bootstrap_expect=self.bootstrap_expect,
            max_voters=self.max_voters,
            dead_voter_timeout=self.dead_voter_timeout,
            reluctance=preference.factor if isinstance(preference, Reluctant) else 1,
            observer=isinstance(preference, Observer),
            volatile=volatile,
            forget_lost_history=self.on_lost_history == "forget",
            # A follower verifies a message at once: this much takes it two or three milliseconds.
            message_bytes=64 * 1024,
        )


@runtime_checkable
class TicketValidator(Protocol):
    """Judges the tickets of one kind that peers carry in their entries."""

    @property
    def kind(self) -> bytes:
        """Which tickets it judges."""
        ...

    @property
    def signature(self) -> bytes:
        """Names its rules; enters the group's id."""
        ...

    def validate(self, ticket: bytes, entry: PeerEntry) -> Any:
        """Accepts a ticket of this peer by returning.

        Raises:
            MosaikError: it does not accept it.
        """
        ...


class GroupConfig:
    """A group's identity: its id and the named parts that the id is made of.

    The id is ``BLAKE3(tag, fingerprint of the key, then for each part: its name and its value, each
    preceded by its length as four big-endian bytes)``. The parts are, in this order: every parameter
    of `ConsensusConfig` but leadership (durations in seconds, rounded to microseconds), ``machine``,
    and ``ticket.0``, ``ticket.1``, … for the validators in the order in which they were required.

    Attributes:
        group_id: the id.
        key: the group key.
        consensus: the parameters.
        auth: the ticket validators, in order.
        parts: what the id is made of besides the key.
    """

    __slots__ = ("auth", "consensus", "group_id", "key", "parts")

    def __init__(
        self,
        key: GroupKey,
        consensus: ConsensusConfig,
        machine: Digest,
        auth: Sequence[TicketValidator] = (),
    ) -> None:
        self.key = key
        self.consensus = consensus
        self.auth = tuple(auth)
        tickets = {f"ticket.{n}": bytes(v.signature).hex() for n, v in enumerate(self.auth)}
        self.parts: Mapping[str, str] = {**consensus.parts, "machine": machine.hex(), **tickets}
        written = [text.encode() for part in self.parts.items() for text in part]
        lengths = [len(text).to_bytes(4, "big") for text in written]
        framed = [piece for pair in zip(lengths, written, strict=True) for piece in pair]
        self.group_id = Digest.hash(_GROUP_ID, key.fingerprint, *framed)

    def authorize_peer(self, entry: PeerEntry) -> bool:
        """Whether a peer's entry carries, for each validator, a ticket that it accepts."""
        return all(_satisfied(validator, entry) for validator in self.auth)

    def __str__(self) -> str:
        return f"group {self.group_id.short}"

    def __repr__(self) -> str:
        return f"GroupConfig({self.group_id.short})"


def _satisfied(validator: TicketValidator, entry: PeerEntry) -> bool:
    for ticket in entry.tickets:
        if ticket.kind == validator.kind:
            try:
                validator.validate(ticket.data, entry)
            except MosaikError:
                continue
            return True
    return False
