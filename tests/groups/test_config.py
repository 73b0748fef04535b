"""The parameters of a group, and the id that is made of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from mosaik.groups import ConsensusConfig, GroupConfig, GroupKey, Observer, Reluctant
from mosaik.machines import Counter, NoOp
from mosaik.primitives.digest import Digest
from mosaik.primitives.errors import CodecError, ConfigError, MosaikError
from mosaik.primitives.peer import CarriedTicket, PeerEntry, PeerVersion, SecretKey

KEY = GroupKey.from_secret("secret")
MACHINE = Counter().signature()


class Validator:
    """Accepts the ticket that names it."""

    def __init__(self, name: bytes, kind: bytes = b"k" * 32) -> None:
        self.signature = name
        self.kind = kind

    def validate(self, ticket: bytes, entry: PeerEntry) -> None:
        if ticket != self.signature:
            raise CodecError("not this one")


def group_id(config: ConsensusConfig | None = None, *auth: Any) -> Digest:
    return GroupConfig(KEY, config or ConsensusConfig(), MACHINE, auth).group_id


def test_the_defaults_are_those_of_the_table() -> None:
    config = ConsensusConfig()
    assert (config.heartbeat_interval, config.heartbeat_jitter) == (0.5, 0.15)
    assert config.max_missed_heartbeats == 10
    assert (config.election_timeout, config.election_timeout_jitter) == (2.0, 0.5)
    assert config.bootstrap_delay == 3.0
    assert (config.forward_timeout, config.query_timeout) == (2.0, 2.0)
    assert (config.bootstrap_expect, config.max_voters) == (1, 5)
    assert config.dead_voter_timeout == 60.0
    assert config.on_lost_history == "block"


def test_durations_are_seconds_or_timedeltas() -> None:
    assert ConsensusConfig(election_timeout=timedelta(seconds=3)) == ConsensusConfig(
        election_timeout=3
    )
    # Not the sum of two floats, but what it means, is what members agree on.
    assert group_id(ConsensusConfig(heartbeat_interval=0.1 + 0.2)) == group_id(
        ConsensusConfig(heartbeat_interval=timedelta(milliseconds=300))
    )


@pytest.mark.parametrize(
    "change",
    [
        {"heartbeat_interval": 0.4},
        {"heartbeat_jitter": 0.1},
        {"max_missed_heartbeats": 9},
        {"election_timeout": 3},
        {"election_timeout_jitter": 0.4},
        {"bootstrap_delay": 2},
        {"forward_timeout": 3},
        {"query_timeout": 3},
        {"bootstrap_expect": 3},
        {"max_voters": 3},
        {"dead_voter_timeout": 30},
        {"on_lost_history": "forget"},
    ],
)
def test_every_parameter_enters_the_id(change: dict[str, Any]) -> None:
    assert group_id(ConsensusConfig(**change)) != group_id()


def test_leadership_is_a_node_s_own_matter() -> None:
    config = ConsensusConfig()
    assert config.deprioritize_leadership().leadership == Reluctant(3)
    assert config.deprioritize_leadership_by(7).leadership == Reluctant(7)
    for other in (config.deprioritize_leadership(), config.with_leadership(Observer())):
        assert group_id(other) == group_id(config)
        assert other != config
    assert (
        config.deprioritize_leadership_by(7).parameters(bytes(32), volatile=False).reluctance == 7
    )
    assert config.with_leadership(Observer()).parameters(bytes(32), volatile=False).observer


def test_key_machine_and_tickets_enter_the_id() -> None:
    v, w = Validator(b"v"), Validator(b"w")
    ids = {
        group_id(),
        GroupConfig(GroupKey.generate(), ConsensusConfig(), MACHINE).group_id,
        GroupConfig(KEY, ConsensusConfig(), NoOp().signature()).group_id,
        group_id(None, v),
        group_id(None, v, w),
        group_id(None, w, v),
        group_id(None, v, v),
    }
    assert len(ids) == 7


def test_the_id_is_what_its_documentation_says() -> None:
    """Computed a second time from the words; a change here is a change of every group's id."""
    config = GroupConfig(KEY, ConsensusConfig(), MACHINE, [Validator(b"v")])
    written = b""
    for name, value in config.parts.items():
        for text in (name.encode(), value.encode()):
            written += len(text).to_bytes(4, "big") + text
    assert list(config.parts)[-2:] == ["machine", "ticket.0"]
    assert config.parts["election_timeout"] == "2.0 s"
    assert config.group_id == Digest.hash(b"mosaik group id 1", KEY.fingerprint, written)
    # And pinned, since logs on disks are named by it.
    assert group_id().hex() == PINNED


PINNED = "fabb3b65787f57091ee47d4028b6cdcc582fe92869866788bc77e9db6ae98e87"


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"heartbeat_interval": 0}, "heartbeat_interval"),
        ({"heartbeat_interval": -1}, "heartbeat_interval"),
        ({"heartbeat_interval": float("nan")}, "heartbeat_interval"),
        ({"heartbeat_interval": "1"}, "heartbeat_interval"),
        ({"heartbeat_jitter": 0.6}, "heartbeat_jitter"),
        ({"election_timeout": 0.5}, "election_timeout"),
        ({"max_missed_heartbeats": 0}, "max_missed_heartbeats"),
        ({"bootstrap_expect": 0}, "bootstrap_expect"),
        ({"bootstrap_expect": 6}, "max_voters"),
        ({"max_voters": 2.5}, "max_voters"),
        ({"max_voters": True}, "max_voters"),
        ({"dead_voter_timeout": 1}, "dead_voter_timeout"),
        ({"on_lost_history": "cry"}, "on_lost_history"),
        ({"leadership": "first"}, "leadership"),
    ],
)
def test_a_wrong_value_is_refused_by_name(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        ConsensusConfig(**wrong)


def test_settings_of_a_file() -> None:
    config = ConsensusConfig.from_mapping({"heartbeat_interval": 0.2, "leadership": "observer"})
    assert config == ConsensusConfig(heartbeat_interval=0.2, leadership=Observer())
    with pytest.raises(ConfigError, match="heartbeat_interval"):
        ConsensusConfig.from_mapping({"hartbeat_interval": 0.2})
    with pytest.raises(ConfigError, match="reluctant"):
        ConsensusConfig.from_mapping({"leadership": "reluctent"})


def test_reluctance_is_a_whole_number() -> None:
    with pytest.raises(ConfigError):
        ConsensusConfig().deprioritize_leadership_by(0)


def test_every_validator_wants_a_ticket_of_its_kind() -> None:
    def entry(*tickets: tuple[bytes, bytes]) -> PeerEntry:
        return PeerEntry(
            network=Digest("n"),
            version=PeerVersion(1, 1),
            peer=SecretKey.generate().peer,
            tickets=tuple(CarriedTicket(Digest(data), kind, data) for kind, data in tickets),
        )

    a, b = b"a" * 32, b"b" * 32
    config = GroupConfig(KEY, ConsensusConfig(), MACHINE, [Validator(b"v", a), Validator(b"w", b)])
    assert config.authorize_peer(entry((a, b"v"), (b, b"w")))
    assert config.authorize_peer(entry((a, b"x"), (a, b"v"), (b, b"w")))
    assert not config.authorize_peer(entry((a, b"v")))
    assert not config.authorize_peer(entry((b, b"v"), (a, b"w")))
    assert not config.authorize_peer(entry())
    assert GroupConfig(KEY, ConsensusConfig(), MACHINE).authorize_peer(entry())
    assert issubclass(CodecError, MosaikError)
