"""The group key: where it comes from, that it stays hidden, and what it proves."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from mosaik.groups import GroupKey
from mosaik.primitives.digest import PeerId
from mosaik.primitives.errors import ConfigError


def test_reveal_and_from_secret_are_inverse() -> None:
    key = GroupKey.generate()
    again = GroupKey.from_secret(key.reveal())
    assert again == key
    assert hash(again) == hash(key)
    assert again.fingerprint == key.fingerprint
    assert GroupKey.generate() != key


def test_it_never_shows_itself() -> None:
    key = GroupKey.generate()
    secret = key.reveal()
    for shown in (repr(key), str(key), f"{key}", f"{key!r}", repr([key]), repr({"key": key})):
        assert secret not in shown
        assert secret[:8] not in shown
    assert key.fingerprint.hex() != secret
    with pytest.raises(TypeError, match="reveal"):
        pickle.dumps(key)
    assert copy.copy(key) == copy.deepcopy(key) == key


def test_text_and_passphrases_make_different_keys() -> None:
    word = "correct horse"
    assert GroupKey.from_secret(word) == GroupKey.from_secret(word.encode())
    slow = GroupKey.from_passphrase(word)
    assert slow != GroupKey.from_secret(word)
    assert slow == GroupKey.from_passphrase(word)
    assert slow != GroupKey.from_passphrase(word, salt="another group")


@pytest.mark.parametrize("make", [GroupKey.from_secret, GroupKey.from_passphrase])
def test_nothing_is_no_secret(make: Any) -> None:
    with pytest.raises(ConfigError):
        make("")
    with pytest.raises(ConfigError, match="zero"):
        GroupKey.from_secret("00" * 32)


def test_a_validator_makes_a_key() -> None:
    class Validator:
        signature = b"rules"

    class Other:
        signature = b"other rules"

    assert GroupKey.from_validator(Validator()) == GroupKey.from_validator(Validator())
    assert GroupKey.from_validator(Validator()) != GroupKey.from_validator(Other())


def test_a_file_must_be_its_owner_s_alone(tmp_path: Path) -> None:
    key = GroupKey.generate()
    path = tmp_path / "group.key"
    path.touch(0o600)
    path.write_text(key.reveal() + "\n")
    assert GroupKey.from_file(path) == key
    for mode in (0o640, 0o604, 0o660):
        path.chmod(mode)
        with pytest.raises(ConfigError, match=f"chmod 600 {path}"):
            GroupKey.from_file(path)
    path.chmod(0o600)
    path.write_bytes(os.urandom(5000))
    with pytest.raises(ConfigError, match="longer"):
        GroupKey.from_file(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        GroupKey.from_file(tmp_path / "nowhere")


FIELDS: dict[str, Any] = {
    "binding": bytes(32),
    "initiator": PeerId.from_bytes(b"a" * 32),
    "acceptor": PeerId.from_bytes(b"b" * 32),
    "by_initiator": True,
    "network": b"n" * 32,
    "group": b"g" * 32,
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_proof_is_of_no_use_anywhere_else(field: str) -> None:
    """Another link, another peer, the other role, another network or group: another proof."""
    key = GroupKey.generate()
    value = FIELDS[field]
    changed = dict(FIELDS)
    changed[field] = not value if isinstance(value, bool) else b"z" + value[1:]
    assert key.proof(**FIELDS) == key.proof(**FIELDS)
    assert key.proof(**changed) != key.proof(**FIELDS)
    assert GroupKey.generate().proof(**FIELDS) != key.proof(**FIELDS)


def test_a_proof_has_fields_of_fixed_width_only() -> None:
    with pytest.raises(ConfigError):
        GroupKey.generate().proof(**dict(FIELDS, binding=b"short"))
