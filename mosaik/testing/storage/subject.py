"""The store that is tried: what its author tells the kit."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from hashlib import blake2s
from pathlib import Path
from typing import Final

from mosaik.storage import Description, StorageEnvironment, open_storage

__all__ = ["PEER", "Subject", "data_dir"]

#: The node as which the kit opens stores.
PEER = b"k" * 32
#: What stands between a URL's user and its host.
_PASSWORD: Final = re.compile(r"(://[^/?:@]*:)[^/?]*@")


def data_dir(url: str, place: str | Path) -> str | Path | None:
    """The node's data directory: the place, if the URL means a store that lies in it.

    What a node notes there of a store on a server is not that store.
    """
    return place if "://" not in url or str(place) in url else None


class Subject:
    """A backend, named by the URL of a store in a directory that the kit chooses.

    ``Subject("mine://{place}/store")`` is all that a store in files needs. A store elsewhere, on a server
    say, overrides the hooks.

    Args:
        url: a template; ``{place}`` becomes the absolute path of a directory that exists and is empty,
            ``{name}`` an identifier that no other trial uses. The same place and name give the same data.
    """

    def __init__(self, url: str) -> None:
        self.template = url

    def url(self, place: Path, query: str = "") -> str:
        """Where the store of this place is, with more options in its query."""
        name = blake2s(str(place).encode(), digest_size=10).hexdigest()
        text = self.template.replace("{place}", str(place)).replace("{name}", f"kit{name}")
        return text + ("&" if "?" in text else "?") * bool(query) + query

    @property
    def shown(self) -> str:
        """The template, without a password."""
        return _PASSWORD.sub(r"\1***@", self.template)

    def open(self, place: Path, *, peer: bytes = PEER, query: str = "") -> StorageEnvironment:
        """Opens the store of this place, making it the first time."""
        url = self.url(place, query)
        return open_storage(url, peer=peer, data_dir=data_dir(url, place))

    def describe(self) -> Description:
        """What an opened store says of itself; that is what the kit holds it to."""
        with tempfile.TemporaryDirectory(prefix="mosaik-kit-") as scratch:
            place = Path(scratch).resolve()
            environment = self.open(place)
            try:
                return environment.describe()
            finally:
                environment.close()
                self.remove(place)

    def files(self, place: Path) -> Sequence[Path]:
        """Every file that the store of this place consists of; none for a store elsewhere."""
        return sorted(path for path in place.rglob("*") if path.is_file())

    def corrupt(self, place: Path, seed: int) -> str | None:
        """Damages one stored entry of a closed store that has no files; answers what was damaged.

        None, the default, says that this cannot be done.
        """
        del place, seed
        return None

    def kill_server(self) -> bool:
        """Kills the server that holds the data, without warning, and starts it again; answers False when
        there is none."""
        return False

    def remove(self, place: Path) -> None:
        """Removes what the store of this place keeps outside the place."""
        del place

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.shown!r})"
