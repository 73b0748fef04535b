"""The command line: quick, and one readable line for whatever goes wrong."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import mosaik
from mosaik.cli import main


def run(
    *arguments: str, cwd: Path | None = None, environ: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-m", "mosaik", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **(environ or {})},
        timeout=50,
        check=False,
    )


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert mosaik.__version__ in capsys.readouterr().out


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    output = capsys.readouterr().out
    for command in ("demo", "key", "log", "node", "storage"):
        assert command in output


@pytest.mark.parametrize("command", ["demo", "key", "log", "node", "storage"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert "Usage: mosaik" in capsys.readouterr().out


def test_a_misspelt_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dmeo"]) == 2
    assert "did you mean demo?" in capsys.readouterr().err


def test_a_generated_key_is_ours_alone_and_never_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "group.key"
    assert main(["key", "generate", str(path)]) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    assert main(["key", "generate", str(path)]) == 1
    assert path.read_bytes() == before
    assert "cannot be made" in capsys.readouterr().err


def test_the_backends_are_listed() -> None:
    done = run("storage", "list", "--json")
    assert done.returncode == 0, done.stderr
    backends = {each["scheme"]: each for each in json.loads(done.stdout)}
    assert {"memory", "sqlite", "lmdb", "rocksdb"} <= backends.keys()
    assert backends["memory"]["distribution"] == "mosaik-raft"
    assert "kill-safe" not in backends["memory"]["survives"]
    assert "scheme" in run("storage", "list").stdout.lower()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("[network]\nname = 'x'", "the group has no key"),
        ("[group]\nkey_file = 'group.key'", "the node's network has no name"),
        ("[storage]\nulr = 'x'", "did you mean url?"),
        (
            "[network]\nname = 'x'\n[group]\nkey_file = 'group.key'\nmachine = 'nowhere:thing'",
            "the state machine 'nowhere:thing' cannot be made",
        ),
        (
            "[network]\nname = 'x'\n[group]\nkey_file = 'group.key'\nmachine = 'builtins:dict'",
            "makes a dict, not a StateMachine",
        ),
        (
            "[network]\nname = 'x'\ndata_dir = 'd'\n[group]\nkey_file = 'group.key'\n[storage]\nurl = 'lmbd'",
            "did you mean lmdb?",
        ),
        (
            "[network]\nname = 'x'\ndata_dir = 'd'\n[group]\nkey_file = 'group.key'\n"
            "[consensus]\nelection_timeout = 0.1",
            "election_timeout",
        ),
    ],
)
def test_a_node_that_cannot_run_says_why_in_one_line(
    tmp_path: Path, settings: str, message: str
) -> None:
    (tmp_path / "mosaik.toml").write_text(settings)
    main(["key", "generate", str(tmp_path / "group.key")])
    done = run("node", cwd=tmp_path)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("mosaik: ")
    assert message in last
    assert "Traceback" not in done.stderr


def test_a_demo_over_the_files_of_another_is_refused(tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    done = run("demo", "--directory", str(tmp_path))
    assert done.returncode == 1
    assert "is not empty" in done.stderr


def test_a_demo_on_a_store_that_forgets_is_refused() -> None:
    done = run("demo", "--backend", "memory")
    assert done.returncode == 1
    assert "survives" in done.stderr
