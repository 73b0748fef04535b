"""The main job, small, on every durable backend."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mosaik.storage import list_backends


def demo(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mosaik", "demo", *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.timeout(110)
@pytest.mark.parametrize("backend", ["sqlite", "lmdb", "rocksdb"])
def test_nothing_is_lost(backend: str) -> None:
    row = next(each for each in list_backends() if each.scheme == backend)
    if not row.importable:
        pytest.skip(row.problem)
    done = demo("--backend", backend, "--kills", "2", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["lost"] == 0
    assert report["findings"] == []
    assert report["kills"] == 2
    assert report["acknowledged"] >= 1000
    assert len(report["failover"]) == 2


@pytest.mark.timeout(110)
def test_lines_from_standard_input(tmp_path: Path) -> None:
    text = "".join(f"line {number}\n" for number in range(300))
    done = demo("--input", "-", "--kills", "0", "--directory", str(tmp_path / "demo"), text=text)
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.splitlines()[-1] == "acknowledged=300 lost=0 unknown=0 kills=0 backend=sqlite"
    )
    assert (tmp_path / "demo" / "node-1").is_dir()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--backend", "sqllite"], "no storage backend is called 'sqllite'"),
        (["--backend", "sqlite:///nowhere?snyc=os"], "no option 'snyc'; did you mean sync?"),
        (["--directory", "/proc/nowhere"], "cannot be the demo's directory"),
    ],
)
def test_what_cannot_work_is_said_at_once(arguments: list[str], why: str) -> None:
    done = demo(*arguments)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("mosaik: ")
    assert why in last
