"""A backend that is really foreign: a distribution of its own, installed, and held to every rule there is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mosaik.machines import Counter
from mosaik.network import Network
from mosaik.storage import Capability, list_backends, open_storage
from mosaik.testing.storage import Mark, Outcome, Rule, Subject, rules, try_rule
from tests.groups.test_durable import join
from tests.storage import foreign
from tests.storage.support import PEER, entries, identity

RULES = rules()
#: What a new file for every commit makes harder.
HARDER = rules(Mark.POWER_SAFE)


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    site = tmp_path_factory.mktemp("site")
    foreign.install(site)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))  # pyright: ignore[reportUnknownMemberType]
        paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))  # for the processes that the kit starts
        yield site
    for name in [name for name in sys.modules if name.startswith("mosaik_storage_file")]:
        del sys.modules[name]


def require_kept(rule: Rule, url: str) -> None:
    result = try_rule(rule, Subject(url))
    if result.outcome is Outcome.NOT_ATTESTED:
        pytest.skip(result.detail)
    assert result.outcome in {Outcome.KEPT, Outcome.NOT_APPLICABLE}, result.detail


@pytest.mark.parametrize("rule", RULES, ids=[rule.id for rule in RULES])
def test_every_rule_is_kept(rule: Rule) -> None:
    require_kept(rule, foreign.URL)


@pytest.mark.parametrize("rule", HARDER, ids=[rule.id for rule in HARDER])
def test_a_new_file_for_every_commit_breaks_no_rule(rule: Rule) -> None:
    require_kept(rule, foreign.ALWAYS_ANEW)


def test_it_claims_all_four_marks(tmp_path: Path) -> None:
    store = open_storage(f"file://{tmp_path}/store.log", peer=PEER)
    assert store.describe().capabilities == frozenset(Capability)
    store.close()


def test_it_is_listed_with_the_package_that_it_comes_from() -> None:
    (found,) = [each for each in list_backends() if each.scheme == "file"]
    assert (found.distribution, found.importable) == ("mosaik-storage-file", True)


def test_it_is_its_owner_s_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.log"
    store = open_storage(f"file://{path}", peer=PEER)
    store.log(identity()).append(entries(3))
    store.close()
    assert path.stat().st_mode & 0o077 == 0


async def test_a_group_keeps_its_log_in_it(tmp_path: Path) -> None:
    for start in range(3):
        async with Network("test", data_dir=tmp_path) as network, join(network, "file") as group:
            await group.when().online()
            assert await group.query(Counter.Value()) == start * 10
            await group.execute_many([Counter.Increment(1)] * 10)
    assert tmp_path.joinpath("file.log").exists()


def test_its_own_tests_pass() -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/test_engine.py",
    ]
    done = subprocess.run(
        command, cwd=foreign.PACKAGE, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stdout


def test_it_needs_nothing_but_mosaik_and_the_standard_library(installed: Path) -> None:
    (metadata,) = installed.glob("mosaik_storage_file-*.dist-info/METADATA")
    required = [
        line for line in metadata.read_text().splitlines() if line.startswith("Requires-Dist")
    ]
    assert [line for line in required if "extra ==" not in line] == [
        "Requires-Dist: mosaik-raft>=0.1"
    ]
