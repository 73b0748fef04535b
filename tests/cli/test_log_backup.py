"""``mosaik log backup``, ``restore``, ``reset``: kept elsewhere, brought back as somebody new, given up."""

from __future__ import annotations

import io
import resource
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from mosaik.cli import main
from mosaik.primitives.membership import Replica, configuration_codec
from mosaik.storage import open_existing, open_storage
from mosaik.transport.identity import Identity
from tests.cli.stores import damage, lose_last_row, made, said
from tests.storage.stores import url_of
from tests.storage.support import PEER, entries, identity
from tests.storage.test_transfer import HISTORY, IDENTITY, ME

Capsys = pytest.CaptureFixture[str]


def types(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{answer}\n"))


def backed_up(directory: Path, capsys: Capsys) -> tuple[str, Path]:
    directory.mkdir(exist_ok=True)
    url, file = made("sqlite", directory), directory / "the.backup"
    found = said(capsys, "log", "backup", url, str(file))
    assert found == {"file": str(file), "bytes": file.stat().st_size, "entries": 1000}
    return url, file


# -- backup and restore -----------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["sqlite", "lmdb", "rocksdb"])
def test_what_is_restored_is_another_replica(backend: str, tmp_path: Path, capsys: Capsys) -> None:
    source, file = backed_up(tmp_path, capsys)
    assert file.stat().st_mode & 0o777 == 0o600
    target = url_of(backend, tmp_path / "restored")
    found = said(capsys, "log", "restore", str(file), target)
    (shown,) = found["logs"]
    assert found["peer"] == PEER.hex()
    assert (shown["entries"], shown["history"]) == (1000, HISTORY.hex())
    with (
        closing(open_existing(source)) as old,
        closing(open_existing(target)) as new,
    ):
        log = new.log(IDENTITY)
        assert log.hard_state.store.hex() == shown["store"]
        assert log.hard_state.store != ME.store
        assert log.hard_state.voted_for is None
        assert log.get_range(0, 9999) == old.log(IDENTITY).get_range(0, 9999)


def test_a_backup_in_a_directory_has_a_name_of_its_own(tmp_path: Path, capsys: Capsys) -> None:
    url = made("sqlite", tmp_path)
    (tmp_path / "backups").mkdir()
    assert main(["log", "backup", url, str(tmp_path / "backups")]) == 0
    (file,) = (tmp_path / "backups").iterdir()
    assert file.name.startswith("mosaik-7070707070-")
    assert f"{file}: 1,000 entries in 1 log, " in capsys.readouterr().out


def test_it_becomes_the_node_s_whose_directory_is_named(tmp_path: Path, capsys: Capsys) -> None:
    _, file = backed_up(tmp_path, capsys)
    node = tmp_path / "node"
    found = said(capsys, "log", "restore", str(file), "lmdb", "--data-dir", str(node))
    with closing(Identity.in_directory(node)) as me:
        assert found["peer"] == me.peer.hex()
        environment = open_storage("lmdb", peer=me.peer, data_dir=node)
        (held,) = environment.logs()
        assert (held.group, held.peer) == (IDENTITY.group, me.peer)
        environment.close()


def test_what_was_never_founded_says_why_it_is_empty(tmp_path: Path, capsys: Capsys) -> None:
    with closing(open_storage("sqlite", peer=PEER, data_dir=tmp_path)) as environment:
        environment.log(identity()).append(entries(5))
    file, place = tmp_path / "the.backup", ["--data-dir", str(tmp_path)]
    assert main(["log", "backup", "sqlite", str(file), *place]) == 0
    assert main(["log", "restore", str(file), url_of("lmdb", tmp_path)]) == 0
    assert "0 entries" in (output := capsys.readouterr().out)
    assert "was never founded" in output
    _, file = backed_up(tmp_path / "founded", capsys)
    assert main(["log", "restore", str(file), url_of("lmdb", tmp_path / "founded")]) == 0
    assert "was never founded" not in capsys.readouterr().out


def test_a_new_history_is_asked_about(
    tmp_path: Path, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, file = backed_up(tmp_path, capsys)
    target = url_of("lmdb", tmp_path)
    arguments = ["log", "restore", str(file), target, "--new-history"]
    types(monkeypatch, "yes")
    assert main(arguments) == 1
    output = capsys.readouterr().err
    assert "majority of the voters is lost" in output
    assert "nothing was done" in output
    assert not (tmp_path / "lmdb").exists()
    types(monkeypatch, "new")
    assert main(arguments) == 0
    with closing(open_existing(target)) as environment:
        log = environment.log(IDENTITY)
        entry = log.get(1001)
        assert entry is not None
        alone = configuration_codec.decode(entry.payload).voters
        assert alone == (Replica(PEER, log.hard_state.store, 0),)
        assert log.hard_state.history != HISTORY


def test_nothing_is_written_over(tmp_path: Path, capsys: Capsys) -> None:
    url, file = backed_up(tmp_path, capsys)
    before = file.read_bytes()
    assert main(["log", "backup", url, str(file)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert file.read_bytes() == before
    assert main(["log", "restore", str(file), url]) == 1
    message = capsys.readouterr().err
    assert "holds logs already" in message
    assert "is not finished" not in message


@contextmanager
def largest_file(size: int) -> Generator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_no_backup_behind(tmp_path: Path, capsys: Capsys) -> None:
    url = made("sqlite", tmp_path)
    place = tmp_path / "backups"
    place.mkdir()
    with largest_file(100_000):
        assert main(["log", "backup", url, str(place / "file")]) == 1
    assert "there is no room for the backup" in capsys.readouterr().err
    assert not list(place.iterdir())


def test_a_damaged_log_leaves_no_backup_behind(tmp_path: Path, capsys: Capsys) -> None:
    url = made("sqlite", tmp_path)
    place = tmp_path / "backups"
    place.mkdir()
    damage(tmp_path, 500)
    assert main(["log", "backup", url, str(place / "file")]) == 1
    assert "entry 500 is damaged" in capsys.readouterr().err
    assert not list(place.iterdir())


@pytest.mark.parametrize("kept", [0, 4, 1000, -1])
def test_a_backup_that_was_cut_short_makes_nothing(
    kept: int, tmp_path: Path, capsys: Capsys
) -> None:
    _, file = backed_up(tmp_path, capsys)
    file.write_bytes(file.read_bytes()[:kept])
    assert main(["log", "restore", str(file), url_of("lmdb", tmp_path)]) == 1
    message = capsys.readouterr().err
    assert ("is cut short" if kept not in {0, 4} else "not a backup") in message
    assert not (tmp_path / "lmdb").exists()


def test_a_disk_that_is_full_leaves_a_store_that_takes_no_part(
    tmp_path: Path, capsys: Capsys
) -> None:
    url, file = made("sqlite", tmp_path, 6000), tmp_path / "the.backup"
    said(capsys, "log", "backup", url, str(file))
    target = url_of("lmdb", tmp_path)
    assert main(["log", "restore", str(file), f"full+{target}after=1200KiB"]) == 1
    assert "is not finished" in capsys.readouterr().err
    (log,) = said(capsys, "log", "inspect", target)["logs"]
    assert log["quarantine"]


# -- reset ------------------------------------------------------------------------------------------


def test_a_log_is_given_up_when_the_word_is_typed(
    tmp_path: Path, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = made("sqlite", tmp_path)
    types(monkeypatch, "rest")
    assert main(["log", "reset", url]) == 1
    output = capsys.readouterr().err
    assert f"group {IDENTITY.group.hex()[:10]}: 1,000 entries (1 to 1000)" in output
    assert "nothing was done" in output
    (log,) = said(capsys, "log", "inspect", url)["logs"]
    assert (log["entries"], log["store"]) == (1000, ME.store.hex())
    types(monkeypatch, "reset")
    assert main(["log", "reset", url]) == 0
    (log,) = said(capsys, "log", "inspect", url)["logs"]
    assert (log["entries"], log["vote"], log["watermark"]["index"]) == (0, None, 0)
    assert log["store"] not in ("", ME.store.hex())


def test_the_other_groups_of_a_store_stay(tmp_path: Path, capsys: Capsys) -> None:
    url = made("sqlite", tmp_path)
    with closing(open_storage(url, peer=PEER)) as environment:
        environment.log(identity("other")).append(entries(5))
    group = identity("other").group.hex()
    found = said(capsys, "log", "reset", url, "--group", group[:6], "--yes")
    assert list(found["stores"]) == [group]
    logs = {each["group"]: each for each in said(capsys, "log", "inspect", url)["logs"]}
    assert logs[group]["entries"] == 0
    assert logs[IDENTITY.group.hex()]["entries"] == 1000


def test_a_log_that_lost_its_end_can_be_given_up(tmp_path: Path, capsys: Capsys) -> None:
    url = made("sqlite", tmp_path)
    lose_last_row(tmp_path)
    said(capsys, "log", "inspect", url, status=1)
    assert main(["log", "reset", url, "--yes"]) == 0
    (log,) = said(capsys, "log", "inspect", url)["logs"]
    assert (log["entries"], log["damage"]) == (0, "")


def test_a_store_that_cannot_be_opened_is_to_be_removed(tmp_path: Path, capsys: Capsys) -> None:
    url = made("lmdb", tmp_path)
    (tmp_path / "lmdb" / "data.mdb").write_bytes(b"rot" * 5000)
    assert main(["log", "reset", url, "--yes"]) == 1
    assert "remove the whole store" in capsys.readouterr().err
