"""The group key: the one secret that members share, and how its possession is proven."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol, Self, runtime_checkable

from mosaik.primitives.digest import DIGEST_SIZE, Digest, PeerId
from mosaik.primitives.errors import ConfigError

__all__ = ["GroupKey", "Signed"]

_FINGERPRINT: Final = b"mosaik group key fingerprint 1"
_PROOF: Final = b"mosaik group key proof 1"
_SALT: Final = b"mosaik group key passphrase 1\0"
#: scrypt's cost: 32 MiB and about a tenth of a second for each guess (RFC 7914 §2).
_SCRYPT_N: Final = 2**15
_SCRYPT_MEMORY: Final = 64 * 1024 * 1024
_MAX_FILE: Final = 4096


@runtime_checkable
class Signed(Protocol):
    """Anything with a signature that two nodes agree on, as a ticket validator has."""

    @property
    def signature(self) -> bytes:
        """Names its kind and all that changes its meaning."""
        ...


class GroupKey:
    """A 32-byte secret. Whoever knows it may bond with the group's members.

    It never shows itself: not in ``repr`` or ``str``, and it refuses to be pickled. `reveal` is the
    one way out, and `from_secret` takes what it gave.
    """

    __slots__ = ("_secret", "fingerprint")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != DIGEST_SIZE:
            raise ConfigError(f"a group key has {DIGEST_SIZE} bytes, not {len(secret)}")
        if not any(secret):
            raise ConfigError("a group key of 32 zero bytes is no secret; use GroupKey.generate()")
        self._secret = bytes(secret)
        self.fingerprint: Final = Digest.hash(_FINGERPRINT, self._secret)
        """Names the key without giving it away; goes into the group's id."""

    @classmethod
    def generate(cls) -> Self:
        """A new random key. Hand `reveal`'s text to the other members over a channel you trust."""
        return cls(os.urandom(DIGEST_SIZE))

    @classmethod
    def from_secret(cls, secret: str | bytes) -> Self:
        """The key that `reveal` showed, or a key from any other secret that nobody can guess.

        64 hex digits are taken as they are; anything else is hashed once. A word that a person could
        think of belongs into `from_passphrase`: a group's id is public, and guessing is fast here.

        Raises:
            ConfigError: it is empty.
        """
        if not secret:
            raise ConfigError("a group key needs a secret; GroupKey.generate() makes one")
        return cls(Digest(secret))

    @classmethod
    def from_passphrase(cls, passphrase: str, *, salt: str = "") -> Self:
        """A key from words that a person remembers, made slow to guess with scrypt.

        It takes about a tenth of a second and blocks: call it before the event loop has work to do.

        Args:
            passphrase: the words; equal words and salt make equal keys.
            salt: anything that tells this group from others with the same words, such as its name.

        Raises:
            ConfigError: the passphrase is empty.
        """
        if not passphrase:
            raise ConfigError("an empty passphrase is no secret")
        derived = hashlib.scrypt(
            passphrase.encode(),
            salt=_SALT + salt.encode(),
            n=_SCRYPT_N,
            r=8,
            p=1,
            maxmem=_SCRYPT_MEMORY,
            dklen=DIGEST_SIZE,
        )
        return cls(derived)

    @classmethod
    def from_validator(cls, validator: Signed) -> Self:
        """A key that everybody derives who is configured with the same validator.

        It keeps groups apart; it is as secret as what the validator was made from. A public key or an
        issuer's name is public, so add `require_ticket` with the same validator.
        """
        return cls(Digest.hash(b"mosaik group key validator 1", bytes(validator.signature)))

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """The secret in a file, by the rule of `from_secret`; white space around it is ignored.

        Raises:
            ConfigError: it cannot be read, is empty, or others than its owner may read it.
        """
        path = Path(path)
        try:
            with path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                text = file.read(_MAX_FILE + 1)
        except OSError as error:
            raise ConfigError(f"the group key file {path} cannot be read: {error}") from error
        if mode & 0o077:
            raise ConfigError(
                f"the group key file {path} has mode {mode:04o}, so others can read it; "
                f"run: chmod 600 {path}"
            )
        if len(text) > _MAX_FILE:
            raise ConfigError(f"the group key file {path} is longer than {_MAX_FILE} bytes")
        return cls.from_secret(text.strip())

    def write_file(self, path: str | Path) -> None:
        """Writes the secret to a new file that `from_file` reads, readable by its owner alone.

        Raises:
            ConfigError: the file exists, or cannot be made.
        """
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise ConfigError(
                f"the group key file {path} cannot be made: {error.strerror}"
            ) from error
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{self.reveal()}\n")

    def reveal(self) -> str:
        """The secret as 64 hex digits, to store it or hand it to another member."""
        return self._secret.hex()

    def proof(
        self,
        *,
        binding: bytes,
        initiator: PeerId,
        acceptor: PeerId,
        by_initiator: bool,
        network: bytes,
        group: bytes,
    ) -> bytes:
        """What only a holder of this key can say, and only on this link.

        An HMAC-SHA256 over fields of fixed width, so no two sets of them read alike. ``binding`` is
        fresh for each link, and the role keeps a proof from being sent back to who made it.
        """
        fields = (binding, initiator, acceptor, network, group)
        if any(len(field) != DIGEST_SIZE for field in fields):
            raise ConfigError("every field of a group key proof has 32 bytes")
        role = b"\1" if by_initiator else b"\2"
        return hmac.digest(self._secret, b"".join((_PROOF, role, *fields)), "sha256")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GroupKey) and hmac.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        return f"GroupKey(fingerprint={self.fingerprint.short})"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a GroupKey is not pickled; send reveal() and use GroupKey.from_secret()")
