"""The pytest plugin: what it costs, what it makes, and what it says of a cluster that was left running."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mosaik.testing import Cluster

ROOT = Path(__file__).resolve().parents[2]


def run(directory: Path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (directory / "test_it.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rA", *arguments]
    return subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_it_costs_nothing_when_it_is_not_used(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        "import sys\n"
        "def test_it(request):\n"
        "    assert request.config.pluginmanager.hasplugin('mosaik')\n"
        "    heavy = ('mosaik', 'cryptography', 'msgspec')\n"
        "    loaded = [name for name in sys.modules if name.startswith(heavy)]\n"
        "    assert sorted(loaded) == ['mosaik', 'mosaik.pytest_plugin'], loaded\n",
    )
    assert done.returncode == 0, done.stdout


def test_the_marker_is_registered_and_says_what_the_cluster_is(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        "import pytest\n"
        "@pytest.mark.mosaik(nodes=5, storage='lmdb', consensus={'election_timeout': 0.9})\n"
        "def test_it(cluster, tmp_path):\n"
        "    assert [node.storage for node in cluster.nodes] == ['switched+lmdb'] * 5\n"
        "    assert cluster.instrumented\n"
        "    assert cluster.settings['election_timeout'] == 0.9\n"
        "    assert cluster.settings['heartbeat_interval'] == 0.1\n"
        "    assert tmp_path in cluster.directory.parents\n",
        "--strict-markers",
    )
    assert done.returncode == 0, done.stdout
    asked = run(tmp_path, "", "--markers")
    assert "@pytest.mark.mosaik(nodes=3, storage='sqlite', machine=..." in asked.stdout


def test_what_a_tests_own_marker_leaves_open_its_module_says(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        "import pytest\n"
        "pytestmark = pytest.mark.mosaik(machine='bank:Bank', nodes=5, consensus={'max_voters': 3})\n"
        "@pytest.mark.mosaik(nodes=1, consensus={'election_timeout': 0.9})\n"
        "def test_it(cluster):\n"
        "    (node,) = cluster.nodes\n"
        "    assert node.settings['group']['machine'] == 'bank:Bank'\n"
        "    assert cluster.settings['election_timeout'] == 0.9\n"
        "    assert cluster.settings['max_voters'] == 3\n",
    )
    assert done.returncode == 0, done.stdout


def test_an_argument_without_a_name_is_an_error(tmp_path: Path) -> None:
    done = run(tmp_path, "import pytest\n@pytest.mark.mosaik(5)\ndef test_it(cluster): pass\n")
    assert "@pytest.mark.mosaik(5,) in test_it.py::test_it: its arguments have names" in done.stdout


def test_nodes_find_the_projects_modules(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = src\n")
    for place, name in ((".", "rooted"), ("tests", "beside"), ("src", "packed")):
        (tmp_path / place).mkdir(exist_ok=True)
        (tmp_path / place / f"{name}.py").write_text("from mosaik.machines import Counter as Tally")
    lines = [
        "import asyncio, pytest",
        "from mosaik.machines import Counter",
        "pytestmark = pytest.mark.mosaik(nodes=1, storage='memory')",
        "async def count(cluster):",
        "    async with cluster:",
        "        return await (await cluster.leader()).execute(Counter.Increment(7))",
    ]
    for name in ("rooted", "beside", "packed"):
        lines += [
            f"@pytest.mark.mosaik(machine='{name}:Tally')",
            f"def test_{name}(cluster): assert asyncio.run(count(cluster))[1] == 7",
        ]
    done = run(tmp_path / "tests", "\n".join(lines))
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_what_a_test_leaves_running_is_ended_and_an_error(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        "import asyncio, pytest\n"
        "@pytest.mark.mosaik(nodes=1, storage='memory')\n"
        "def test_it(cluster, capsys):\n"
        "    async def begin():\n"
        "        await cluster.start()\n"
        "        with capsys.disabled(): print('pid', cluster.nodes[0].process.pid)\n"
        "    asyncio.run(begin())\n",
    )
    assert done.returncode == 1, done.stdout
    assert "the test left node-1 running" in done.stdout
    pid = int(done.stdout.partition("pid ")[2].split()[0])
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.mosaik(nodes=1, storage="memory")
async def test_the_fixture_is_there_in_this_very_project(cluster: Cluster) -> None:
    async with cluster:
        leader = await cluster.leader()
        assert leader is cluster.nodes[0]
