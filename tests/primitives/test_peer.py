"""Signed peer entries: nobody speaks for another, nothing is changed on the way."""

from __future__ import annotations

import pickle

import pytest

from mosaik.primitives import peer as module
from mosaik.primitives.digest import Digest
from mosaik.primitives.errors import CodecError, FrameTooLarge, IdentityError
from mosaik.primitives.peer import (
    CarriedTicket,
    PeerEntry,
    PeerVersion,
    SecretKey,
    SignedPeerEntry,
    verify,
)

NETWORK = Digest("net")
SECRET = SecretKey.from_bytes(bytes(range(32)))


def entry(**changes: object) -> PeerEntry:
    fields: dict[str, object] = {
        "network": NETWORK,
        "version": PeerVersion(1000, 1000),
        "peer": SECRET.peer,
        "addresses": ("127.0.0.1:4433",),
        "tags": frozenset({Digest("a"), Digest("b")}),
        "groups": frozenset({Digest("g")}),
        "tickets": (CarriedTicket(Digest("t"), Digest("class"), b"data"),),
    }
    return PeerEntry(**(fields | changes))  # type: ignore[arg-type]  # fields by name, for brevity


def test_a_signed_entry_survives_the_wire() -> None:
    signed = entry().sign(SECRET)
    again = SignedPeerEntry.decode(signed.raw)
    assert again.entry == entry()
    assert again == signed
    assert hash(again) == hash(signed)


def test_the_signed_bytes_do_not_depend_on_set_order() -> None:
    many = [Digest(str(n)) for n in range(50)]
    one = entry(groups=frozenset(many)).sign(SECRET)
    two = entry(groups=frozenset(reversed(many))).sign(SECRET)
    assert one.raw == two.raw


def test_every_flipped_byte_is_refused() -> None:
    raw = entry().sign(SECRET).raw
    for position in range(len(raw)):
        damaged = bytearray(raw)
        damaged[position] ^= 1
        with pytest.raises(CodecError):
            SignedPeerEntry.decode(bytes(damaged))


def test_a_signature_of_somebody_else_is_refused() -> None:
    claimed = entry()
    encoded = claimed._encode()
    forged = SecretKey.generate().sign(module._ENTRY_CONTEXT + encoded)
    raw = module._wire_signed.encode(module._WireSigned(encoded, forged))
    with pytest.raises(CodecError, match="was not signed by that peer"):
        SignedPeerEntry.decode(raw)
    assert SignedPeerEntry.peek(raw) == claimed, "peek says what it claims to be, unchecked"


def test_the_forgery_passes_where_nobody_verifies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted bug: without `verify` the forgery of the test above would be believed."""

    def believe(peer: bytes, message: bytes, signature: bytes) -> bool:
        return True

    monkeypatch.setattr(module, "verify", believe)
    encoded = entry()._encode()
    raw = module._wire_signed.encode(module._WireSigned(encoded, bytes(64)))
    assert SignedPeerEntry.decode(raw).entry.peer == SECRET.peer


def test_a_node_signs_only_for_itself() -> None:
    with pytest.raises(IdentityError, match="signs only for itself"):
        entry().sign(SecretKey.generate())


@pytest.mark.parametrize(
    "changes",
    [
        {"addresses": ("x" * 256,)},
        {"addresses": ("a:1",) * 17},
        {"groups": frozenset(Digest(str(n)) for n in range(1025))},
        {"tickets": (CarriedTicket(Digest("t"), Digest("c"), bytes(16 * 1024 + 1)),)},
        {"version": PeerVersion(-1, 0)},
    ],
)
def test_what_others_would_refuse_is_not_signed(changes: dict[str, object]) -> None:
    with pytest.raises(CodecError):
        entry(**changes).sign(SECRET)


def test_an_entry_has_a_longest_size() -> None:
    tickets = tuple(
        CarriedTicket(Digest.from_int(n), Digest("c"), bytes(16 * 1024)) for n in range(5)
    )
    with pytest.raises(FrameTooLarge):
        entry(tickets=tickets).sign(SECRET)
    with pytest.raises(FrameTooLarge):
        SignedPeerEntry.decode(bytes(module.MAX_ENTRY_SIZE + 200))


def test_versions_are_ordered_by_start_then_update() -> None:
    first = entry()
    assert not first.is_newer_than(first)
    assert first.revised(0).is_newer_than(first)
    assert entry(version=PeerVersion(1001, 1)).is_newer_than(first.revised(5000))


def test_the_version_grows_even_if_the_clock_does_not() -> None:
    now = entry()
    for clock in (5000, 5000, 10, 5001):
        later = now.revised(clock, tags=frozenset())
        assert later.version > now.version
        assert later.version.start_ms == now.version.start_ms
        now = later


def test_a_secret_is_not_shown() -> None:
    text = repr(SECRET) + str(SECRET)
    assert SECRET.reveal().hex()[:8] not in text
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(SECRET)
    with pytest.raises(IdentityError, match="32 bytes"):
        SecretKey.from_bytes(b"short")


def test_verify_takes_any_bytes() -> None:
    signature = SECRET.sign(b"m")
    assert verify(SECRET.peer, b"m", signature)
    assert not verify(SECRET.peer, b"n", signature)
    assert not verify(SECRET.peer, b"m", b"short")
