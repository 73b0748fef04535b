"""What is installed: the wheel holds the package, its types, its migrations and its entry points."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = directory.glob("*.whl")
    return zipfile.ZipFile(built)


def test_everything_is_in_it(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert {"mosaik/__init__.py", "mosaik/py.typed", "mosaik/migrations/env.py"} <= names
    assert any(name.startswith("mosaik/migrations/versions/") for name in names)
    assert not [name for name in names if name.split("/")[0] in {"tests", "bench", "docs"}]


def test_the_backends_and_the_command_are_registered(wheel: zipfile.ZipFile) -> None:
    (path,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    text = wheel.read(path).decode()
    assert "mosaik = mosaik.cli:main" in text
    for scheme in ("memory", "sqlite", "lmdb", "rocksdb"):
        assert f"\n{scheme} = mosaik.storage." in text


def test_it_imports_with_nothing_but_the_core(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """Without any extra: the drivers are hidden, and what needs one says how to add it."""
    wheel.extractall(tmp_path)
    program = (
        "import sys\n"
        "for name in ('sqlalchemy', 'alembic', 'lmdb', 'rocksdict', 'uvloop', 'rich', 'pytest'):\n"
        "    sys.modules[name] = None\n"
        "import mosaik, mosaik.storage, mosaik.cli\n"
        "assert mosaik.__file__.startswith(sys.argv[1]), mosaik.__file__\n"
        "[getattr(mosaik, name) for name in mosaik.__all__]\n"
        "sys.exit(mosaik.cli.main(['storage', 'list']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "lmdb: " in done.stdout
    assert "mosaik-raft[lmdb]" in done.stdout
