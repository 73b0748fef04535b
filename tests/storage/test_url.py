"""URLs and their options."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from mosaik.primitives.errors import ConfigError
from mosaik.storage import Size, StorageURL, SyncMode
from mosaik.storage.url import read_options


class Options(msgspec.Struct, frozen=True):
    map_size: Size = Size(1024)
    sync: SyncMode = SyncMode.FULL
    flag: bool = False
    count: int = 1


class Needy(msgspec.Struct, frozen=True):
    must: str


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("lmdb", None),
        ("memory://", None),
        ("lmdb:///", None),
        ("sqlite:///var/lib/app/raft.db", "/var/lib/app/raft.db"),
        ("lmdb:///with%20space?sync=os", "/with space"),
    ],
)
def test_paths(text: str, path: str | None) -> None:
    assert StorageURL.parse(text).file_path() == (Path(path) if path else None)


@pytest.mark.parametrize(
    "text",
    [
        "lmdb",
        "sqlite:///a/b%20c.db",
        "lmdb:///a?map_size=8GiB&sync=os",
        "postgresql://me@[::1]:5432/db",
        "postgresql://host/db",
    ],
)
def test_text_round_trips(text: str) -> None:
    assert StorageURL.parse(text).text() == text


def test_passwords_are_hidden() -> None:
    url = StorageURL.parse("postgresql://me:s%40cret@host:5432/db?x=1")
    assert (url.user, url.password, url.host, url.port) == ("me", "s@cret", "host", 5432)
    assert "cret" not in f"{url} {url!r}"
    assert url.text(password=True) == "postgresql://me:s%40cret@host:5432/db?x=1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "LMDB",
        "a b",
        "/var/lib",
        "./raft",
        "lmdb:relative",
        "lmdb:///a?b",
        "lmdb:///a?x=1&x=2",
        *("sql://host:port/", "9p:///a", "x" * 9000),
    ],
)
def test_what_is_no_url_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        StorageURL.parse(text)


def test_two_slashes_are_explained() -> None:
    with pytest.raises(ConfigError, match="lmdb:///var/lib"):
        StorageURL.parse("lmdb://var/lib").file_path()


def test_options_have_types() -> None:
    url = StorageURL.parse("x:///a?map_size=8GiB&sync=os&flag=true&count=3")
    assert read_options(url, Options) == Options(Size(8 << 30), SyncMode.OS, flag=True, count=3)
    assert read_options(StorageURL.parse("x"), Options) == Options()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("map_sise=1", "did you mean map_size"),
        ("zzz=1", "there are: count, flag, map_size, sync"),
        ("map_size=lots", "not a size"),
        ("sync=never", "never"),
        ("count=two", "int"),
    ],
)
def test_wrong_options_are_explained(query: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_options(StorageURL.parse(f"x:///a?{query}"), Options)


def test_a_required_option_is_missed() -> None:
    with pytest.raises(ConfigError, match="needs the option 'must'"):
        read_options(StorageURL.parse("x"), Needy)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("4096", 4096), ("1KiB", 1024), ("1.5 MiB", 3 << 19), ("2GB", 2 * 10**9)],
)
def test_sizes(text: str, size: int) -> None:
    assert Size.parse(text) == size


@pytest.mark.parametrize("text", ["", "-1", "1.5.2", "GiB", "1 parsec"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        Size.parse(text)


def test_paths_of_urls_are_absolute() -> None:
    assert StorageURL.of_path("lmdb", Path("/a"), {"sync": "os"}).text() == "lmdb:///a?sync=os"
    with pytest.raises(ConfigError, match="absolute"):
        StorageURL.of_path("lmdb", Path("a"))
