"""Finding backends: entry points of real distributions on the path, and every way they can be wrong."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from mosaik.primitives.errors import ConfigError, StorageUnavailable, UnknownScheme
from mosaik.storage import Capability, list_backends, open_storage, registry
from tests.storage.conftest import OpenBackend
from tests.storage.support import PEER, entries, identity

TOY = """
import msgspec
from mosaik.storage import EnginePlugin
from mosaik.storage.memory import MemoryEngine

class Options(msgspec.Struct, frozen=True):
    colour: str = "red"

def connect(place, options):
    return MemoryEngine(f"toy:{place.path.name}:{options.colour}")

plugin = EnginePlugin("toy", Options, connect, install="pip install toy")

def needs_a_driver(place, options):
    import no_such_driver

driverless = EnginePlugin(
    "toy", Options, needs_a_driver, drivers=("no_such_driver",), install="pip install toy[driver]"
)
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a distribution with one backend on the path, as pip would."""

    def add(
        distribution: str,
        module: str,
        source: str = TOY,
        *,
        scheme: str = "toy",
        name: str = "plugin",
    ) -> None:
        site = tmp_path / distribution
        info = site / f"{distribution.replace('-', '_')}-1.2.dist-info"
        info.mkdir(parents=True)
        info.joinpath("METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n"
        )
        info.joinpath("entry_points.txt").write_text(
            f"[mosaik.storage]\n{scheme} = {module}:{name}\n"
        )
        site.joinpath(f"{module}.py").write_text(source)
        monkeypatch.syspath_prepend(str(site))  # pyright: ignore[reportUnknownMemberType]

    return add


def test_a_backend_of_another_package_works_like_ours(install: Install, tmp_path: Path) -> None:
    install("toy-store", "toy_a")
    environment = open_storage(f"toy://{tmp_path}/data?colour=blue", peer=PEER)
    assert environment.describe().url == "toy:data:blue"
    log = environment.log(identity())
    log.append(entries(2))
    assert log.last().index == 2
    environment.close()
    with pytest.raises(ConfigError, match="did you mean colour"):
        open_storage(f"toy://{tmp_path}/data?color=blue", peer=PEER)
    (found,) = [backend for backend in list_backends() if backend.scheme == "toy"]
    assert (found.distribution, found.version) == ("toy-store", "1.2")
    assert found.importable
    assert found.problem == ""


def test_two_packages_with_one_scheme_are_both_named(install: Install) -> None:
    install("toy-one", "toy_b")
    install("toy-two", "toy_c")
    with pytest.raises(ConfigError, match="offered by toy-one and by toy-two"):
        open_storage("toy", peer=PEER)
    assert [b.distribution for b in list_backends() if b.scheme == "toy"] == ["toy-one", "toy-two"]


def test_a_misspelt_scheme_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownScheme, match=r"known are .*memory.*did you mean memory"):
        open_storage("memori://", peer=PEER)
    with pytest.raises(UnknownScheme, match=r"entry point in the group 'mosaik\.storage'"):
        open_storage("etcd:///x", peer=PEER)


def test_a_scheme_of_ours_that_is_not_registered_says_what_adds_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none_at_all(**_: str) -> list[EntryPoint]:
        return []

    monkeypatch.setattr(registry, "entry_points", none_at_all)
    with pytest.raises(UnknownScheme, match=r"pip install 'mosaik-raft\[lmdb\]'"):
        open_storage("lmdb", peer=PEER)


def test_a_missing_driver_is_named_with_what_adds_it(install: Install, tmp_path: Path) -> None:
    install("toy-store", "toy_d", name="driverless")
    with pytest.raises(
        StorageUnavailable, match=r"'no_such_driver'.*pip install toy\[driver\]"
    ) as e:
        open_storage("toy", peer=PEER, data_dir=tmp_path / "node")
    assert isinstance(e.value.__cause__, ImportError)
    (found,) = [backend for backend in list_backends() if backend.scheme == "toy"]
    assert not found.importable
    assert "pip install toy[driver]" in found.problem


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_module", "cannot be loaded"),
        ("", "cannot be loaded"),
        ("plugin = 3", "not a storage plugin: it lacks scheme, options"),
        (TOY + "plugin.api_version = 99", "for version 99"),
        (TOY + "plugin.scheme = 'tiy'", "says that it is 'tiy'"),
    ],
)
def test_a_broken_plugin_is_named(
    install: Install, source: str, message: str, request: pytest.FixtureRequest
) -> None:
    module = f"toy_broken_{abs(hash(request.node.name))}"
    install("toy-store", module, source)
    with pytest.raises(StorageUnavailable, match=message) as caught:
        open_storage("toy", peer=PEER)
    assert "toy-store" in str(caught.value)
    (found,) = [backend for backend in list_backends() if backend.scheme == "toy"]
    assert not found.importable


def test_a_bare_name_needs_a_data_directory(install: Install) -> None:
    install("toy-store", "toy_e")
    with pytest.raises(ConfigError, match="data_dir"):
        open_storage("toy", peer=PEER)


def test_an_open_store_is_given_back() -> None:
    environment = open_storage("memory", peer=PEER)
    assert open_storage(environment, peer=PEER) is environment
    log = environment.log(identity())
    assert open_storage(log, peer=PEER) is log.environment
    environment.close()


def test_a_directory_without_permission_is_named(install: Install, tmp_path: Path) -> None:
    install("toy-store", "toy_f")
    tmp_path.joinpath("file").write_text("in the way")
    with pytest.raises(StorageUnavailable, match="cannot be made"):
        open_storage(f"toy://{tmp_path}/file/store", peer=PEER)


def test_a_peer_id_has_its_length() -> None:
    with pytest.raises(ConfigError, match="32 bytes"):
        open_storage("memory", peer=b"short")


def test_a_store_says_what_it_gives(opened: OpenBackend, backend: str) -> None:
    described = opened().describe()
    assert described.url.startswith(backend)
    assert (Capability.KILL_SAFE in described.capabilities) == (backend != "memory")
