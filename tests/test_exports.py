"""The public surface, and what it costs to import."""

from __future__ import annotations

import subprocess
import sys
import time
from importlib import import_module

import pytest

import mosaik

HEAVY = (
    "alembic",
    "jwt",
    "rich",
    "sqlalchemy",
    "lmdb",
    "rocksdict",
    "uvloop",
    "pytest",
    "hypothesis",
)
PACKAGES = (
    "consensus",
    "discovery",
    "groups",
    "machines",
    "storage",
    "testing",
    "transport",
)


def loaded_after(program: str) -> set[str]:
    program += "\nimport sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return {module.partition(".")[0] for module in done.stdout.split()}


def test_every_public_name_is_there() -> None:
    for public in mosaik.__all__:
        assert getattr(mosaik, public) is not None
    assert set(mosaik.__all__) <= set(dir(mosaik))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = mosaik.nonsense


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_offers_what_it_lists(package: str) -> None:
    module = import_module(f"mosaik.{package}")
    assert module.__all__
    for public in module.__all__:
        assert hasattr(module, public), public


@pytest.mark.parametrize(
    "program",
    [
        "import mosaik",
        "import mosaik; [getattr(mosaik, name) for name in mosaik.__all__]",
        "import mosaik.cli",
    ],
)
def test_nothing_heavy_is_loaded(program: str) -> None:
    assert not loaded_after(program) & set(HEAVY)


def test_help_is_quick() -> None:
    # Bounded generously: a loaded machine is slow, and loading everything takes ten times as long.
    loaded = loaded_after("from mosaik.cli import main; main(['--help'])")
    assert not loaded & {"asyncio", "cryptography", *HEAVY}
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "mosaik", "--help"], capture_output=True, check=True)
    assert time.perf_counter() - started < 2.0


def test_the_version_is_the_distributions() -> None:
    from importlib.metadata import version

    assert mosaik.__version__ == version("mosaik-raft")
