"""``mosaik storage upgrade``: an older store becomes this version's, and keeps what it holds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mosaik.cli import main
from mosaik.storage.registry import storage_format
from tests.cli.stores import made, said
from tests.storage.golden.make import BACKENDS, place_of
from tests.storage.stores import require
from tests.storage.test_golden import GOLDEN
from tests.storage.test_migration import FIRST, NEW, OLD, REVISION

Capsys = pytest.CaptureFixture[str]


@pytest.fixture
def tomorrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes this process the mosaik of tomorrow, which knows one revision more; where its scripts are."""
    from mosaik.storage import schema

    scripts = tmp_path / "migrations"
    shutil.copytree(schema.migrations(), scripts)
    (scripts / "versions" / f"{NEW}_later.py").write_text(REVISION)
    monkeypatch.setattr(schema, "REVISIONS", (FIRST, OLD, NEW))
    monkeypatch.setattr(schema, "migrations", lambda: scripts)
    return scripts


def test_an_older_store_is_upgraded_once(tmp_path: Path, capsys: Capsys, tomorrow: Path) -> None:
    require("sqlite")
    shutil.copytree(GOLDEN / "format-1", tmp_path, dirs_exist_ok=True)
    url = f"sqlite://{place_of('sqlite', tmp_path)}"
    before = [log["last"] for log in said(capsys, "log", "inspect", url)["logs"]]
    shutil.copytree(GOLDEN / "format-1", tmp_path, dirs_exist_ok=True)
    assert storage_format(url) == (FIRST, NEW)  # looking changes nothing
    found = said(capsys, "storage", "upgrade", url)
    assert found == {"url": url, "from": FIRST, "to": NEW, "upgraded": True}
    found = said(capsys, "storage", "upgrade", url)
    assert found == {"url": url, "from": NEW, "to": NEW, "upgraded": False}
    assert [log["last"] for log in said(capsys, "log", "inspect", url)["logs"]] == before
    assert main(["log", "verify", url]) == 0


def test_people_are_told_what_was_done(tmp_path: Path, capsys: Capsys, tomorrow: Path) -> None:
    require("sqlite")
    shutil.copytree(GOLDEN / "format-1", tmp_path, dirs_exist_ok=True)
    settings = tmp_path / "mosaik.toml"
    settings.write_text('[network]\ndata_dir = "."\n[storage]\nurl = "sqlite"\n')
    arguments = ["storage", "upgrade", "--config", str(settings)]
    assert main(arguments) == 0
    assert f"format {FIRST} is now {NEW}" in capsys.readouterr().out
    assert main(arguments) == 0
    assert f"format {NEW} is the newest" in capsys.readouterr().out


def test_a_migration_that_fails_leaves_the_store_as_it_was(
    tmp_path: Path, capsys: Capsys, tomorrow: Path
) -> None:
    require("sqlite")
    shutil.copytree(GOLDEN / "format-1", tmp_path, dirs_exist_ok=True)
    script = tomorrow / "versions" / f"{NEW}_later.py"
    script.write_text(f"{REVISION}    raise RuntimeError('in the middle')\n")
    assert main(["storage", "upgrade", "sqlite", "--data-dir", str(tmp_path)]) == 1
    assert "in the middle" in capsys.readouterr().err
    assert storage_format("sqlite", data_dir=tmp_path) == (FIRST, NEW)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_store_of_today_has_nothing_to_do(backend: str, tmp_path: Path, capsys: Capsys) -> None:
    found = said(capsys, "storage", "upgrade", made(backend, tmp_path))
    assert found["from"] == found["to"] != ""
    assert found["upgraded"] is False


def test_a_newer_store_is_refused(tmp_path: Path, capsys: Capsys) -> None:
    import sqlite3

    url = made("sqlite", tmp_path)
    connection = sqlite3.connect(tmp_path / "sqlite.db")
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    assert main(["storage", "upgrade", url]) == 1
    assert "the database has schema 9999; this mosaik knows" in capsys.readouterr().err
    assert storage_format(url).found == "9999"


def test_there_must_be_a_store(tmp_path: Path, capsys: Capsys) -> None:
    assert main(["storage", "upgrade", f"sqlite://{tmp_path}/none.db"]) == 1
    assert "there is no store" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    (tmp_path / "mosaik.toml").write_text("")
    assert main(["storage", "upgrade", "--config", str(tmp_path / "mosaik.toml")]) == 1
    assert "[storage] url" in capsys.readouterr().err
    assert main(["storage", "upgrade", "lmdb", "--config", "x"]) == 1
    assert "not both" in capsys.readouterr().err
