"""``mosaik log copy``: between any two backends, equal or refused, and harmless when it is interrupted."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from mosaik.cli import main
from mosaik.storage import Storage, StorageEnvironment, open_existing, open_storage
from mosaik.storage.transfer import LogHead, copy_log, read_head
from tests.cli.stores import damage, lose_last_row, made, said
from tests.storage import foreign
from tests.storage.stores import url_of
from tests.storage.support import OTHER, PEER, entries, identity
from tests.storage.test_transfer import IDENTITY

Capsys = pytest.CaptureFixture[str]
BACKENDS = ["sqlite", "lmdb", "rocksdb", "file"]


@pytest.fixture(scope="module")
def file_plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    site = tmp_path_factory.mktemp("site")
    foreign.install(site)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))  # pyright: ignore[reportUnknownMemberType]
        yield
    for name in [name for name in sys.modules if name.startswith("mosaik_storage_file")]:
        del sys.modules[name]


def content(url: str) -> tuple[LogHead, list[bytes]]:
    with closing(open_existing(url)) as environment:
        log: Storage[Any] = environment.log(IDENTITY)
        return read_head(IDENTITY, log), [each.sealed for each in log.get_range(0, 9999)]


@pytest.mark.parametrize(("one", "other"), list(permutations(BACKENDS, 2)))
@pytest.mark.usefixtures("file_plugin")
def test_there_and_back_nothing_has_changed(
    one: str, other: str, tmp_path: Path, capsys: Capsys
) -> None:
    first = made(one, tmp_path)
    with closing(open_storage(first, peer=PEER)) as environment:
        environment.log(IDENTITY).prune_prefix(2)
    before = content(first)
    second, third = url_of(other, tmp_path), url_of(one, tmp_path / "back")
    found = said(capsys, "log", "copy", first, second)
    assert found["entries"] == {IDENTITY.group.hex(): 998}
    assert content(second) == before
    said(capsys, "log", "copy", second, third)
    assert content(third) == before


def test_every_log_is_copied(tmp_path: Path, capsys: Capsys) -> None:
    made("sqlite", tmp_path)
    with closing(open_storage("sqlite", peer=PEER, data_dir=tmp_path)) as environment:
        environment.log(identity("other")).append(entries(5))
    assert main(["log", "copy", "sqlite", "lmdb", "--data-dir", str(tmp_path)]) == 0
    assert "1,005 entries in 2 logs, read back and equal" in capsys.readouterr().out


# -- refused ----------------------------------------------------------------------------------------


def refused(capsys: Capsys, source: str, target: str) -> str:
    assert main(["log", "copy", source, target]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("mosaik: ")
    return "\n".join(lines)


def test_nothing_is_written_over_a_log(tmp_path: Path, capsys: Capsys) -> None:
    source, target = made("sqlite", tmp_path / "a"), made("lmdb", tmp_path / "b")
    before = content(target)
    assert "holds logs already" in refused(capsys, source, target)
    assert content(target) == before
    assert "name another place" in refused(capsys, source, source)


def test_a_destination_of_another_node_is_refused(tmp_path: Path, capsys: Capsys) -> None:
    source, target = made("sqlite", tmp_path / "a"), url_of("sqlite", tmp_path / "b")
    open_storage(target, peer=OTHER).close()
    assert "belongs to node" in refused(capsys, source, target)


def test_a_destination_that_forgets_is_refused(tmp_path: Path, capsys: Capsys) -> None:
    assert "name a durable store" in refused(capsys, made("sqlite", tmp_path), "memory")


def test_a_destination_that_cannot_be_made_says_why(tmp_path: Path, capsys: Capsys) -> None:
    (tmp_path / "file").touch()
    message = refused(capsys, made("sqlite", tmp_path), f"lmdb://{tmp_path}/file/store")
    assert "cannot be made" in message
    assert "is not finished" not in message


def test_nothing_is_made_of_a_log_that_lost_its_end(tmp_path: Path, capsys: Capsys) -> None:
    source = made("sqlite", tmp_path)
    lose_last_row(tmp_path)
    message = refused(capsys, source, url_of("lmdb", tmp_path))
    assert "1000 entries were acknowledged" in message
    assert not (tmp_path / "lmdb").exists()


def test_an_empty_store_is_not_worth_a_copy(tmp_path: Path, capsys: Capsys) -> None:
    source = url_of("sqlite", tmp_path)
    open_storage(source, peer=PEER).close()
    assert "nothing to copy" in refused(capsys, source, url_of("lmdb", tmp_path))


# -- broken off -------------------------------------------------------------------------------------


def is_quarantined(url: str, capsys: Capsys) -> bool:
    (log,) = said(capsys, "log", "inspect", url)["logs"]
    quarantined: bool = log["quarantine"]
    return quarantined


def test_a_damaged_entry_leaves_a_copy_that_takes_no_part(tmp_path: Path, capsys: Capsys) -> None:
    source, target = made("sqlite", tmp_path), url_of("lmdb", tmp_path)
    damage(tmp_path, 500)
    message = refused(capsys, source, target)
    assert "entry 500 is damaged" in message
    assert "is not finished" in message
    assert is_quarantined(target, capsys)


def test_a_full_disk_leaves_a_copy_that_takes_no_part(tmp_path: Path, capsys: Capsys) -> None:
    source, target = made("sqlite", tmp_path, 6000), url_of("lmdb", tmp_path)
    assert "is not finished" in refused(capsys, source, f"full+{target}after=1200KiB")
    assert is_quarantined(target, capsys)


def test_ctrl_c_leaves_a_copy_that_can_be_removed(
    tmp_path: Path, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = made("sqlite", tmp_path, 6000), url_of("lmdb", tmp_path)

    @contextmanager
    def interrupting(*_: object) -> Generator[Callable[[int], None]]:
        yield lambda _: signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr("mosaik.cli.log_copy.counting", interrupting)
        assert main(["log", "copy", source, target]) == 130
    assert "Remove it before the next attempt" in capsys.readouterr().err
    (log,) = said(capsys, "log", "inspect", target)["logs"]
    assert log["quarantine"]
    assert 0 < log["entries"] < 6000
    assert "remove that store first" in refused(capsys, source, target)
    shutil.rmtree(tmp_path / "lmdb")
    assert main(["log", "copy", source, target]) == 0
    assert content(source) == content(target)


def test_a_copy_that_differs_is_found(
    tmp_path: Path, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = made("sqlite", tmp_path), url_of("lmdb", tmp_path)

    def shortened(old: StorageEnvironment, new: StorageEnvironment, *rest: Any) -> LogHead:
        head = copy_log(old, new, *rest)
        new.log(IDENTITY).truncate(1000)
        return head

    monkeypatch.setattr("mosaik.cli.log_copy.copy_log", shortened)
    message = refused(capsys, source, target)
    assert "differs from its source" in message
    assert "is not finished" in message
