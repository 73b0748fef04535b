"""What servers are set to: what of it matters, what is overruled, and what is believed."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mosaik.primitives.errors import StoragePoisoned, StorageUnavailable
from mosaik.storage import Capability, mariadb, open_storage
from mosaik.storage.mariadb import MariaDB
from mosaik.storage.postgres import Postgres
from mosaik.testing.storage import Outcome, rules, try_rule
from mosaik.testing.storage.subject import PEER
from tests.storage.support import entries, identity

pytest.importorskip("sqlalchemy")

from tests.storage.servers import KINDS, NoServer, Own, ServerSubject, engine_of, start_own

#: What an administrator may have set against us.
HOSTILE: Mapping[str, list[str]] = {
    "postgres": ["idle_session_timeout=1h", "default_transaction_isolation=serializable"],
    "mariadb": ["default-storage-engine=Aria"],
}


@pytest.fixture(scope="module", params=sorted(KINDS))
def own(request: pytest.FixtureRequest) -> Iterator[Own]:
    """A server that may be killed, stopped and set wrong."""
    try:
        server = start_own(KINDS[request.param], HOSTILE[request.param])
    except NoServer as why:
        pytest.skip(f"only a server of our own may be treated so: {why}")
    yield server
    server.stop()


@pytest.fixture
def mine(own: Own) -> Iterator[ServerSubject]:
    """Stores on it."""
    made = ServerSubject(own.kind, own.url)
    yield made
    made.close()


def only(own: Own, name: str) -> None:
    if own.kind.name != name:
        pytest.skip(f"only {name} has this")


def ask(environment: Any, statement: str) -> Any:
    """What the store's own session is told."""
    return engine_of(environment)._connection.exec_driver_sql(statement).scalar()


def test_what_is_set_for_everybody_is_overruled(mine: ServerSubject, tmp_path: Path) -> None:
    environment = open_storage(mine.url(tmp_path), peer=PEER)
    if mine.kind.name == "postgres":
        assert ask(environment, "SHOW idle_session_timeout") == "0"
        assert ask(environment, "SHOW transaction_isolation") == "read committed"
    else:
        assert ask(environment, "SELECT @@wait_timeout") == 31_536_000
        assert ask(environment, "SELECT @@tx_isolation") == "READ-COMMITTED"
        engines = mine.say(
            "SELECT DISTINCT engine FROM information_schema.tables WHERE table_schema = DATABASE()"
        )
        assert engines == [("InnoDB",)]
    environment.close()


def test_a_killed_server_has_what_it_acknowledged(own: Own) -> None:
    subject = ServerSubject(own.kind, own.url, own)
    try:
        result = try_rule(next(each for each in rules() if each.id == "KILL-04"), subject)
        assert result.outcome is Outcome.KEPT, result.detail
    finally:
        subject.drop()


def tasks(pid: int) -> Iterator[Path]:
    """What the kernel says of each thread of a process; see proc(5)."""
    return Path(f"/proc/{pid}/task").glob("*/stat")


@contextmanager
def stopped(own: Own, environment: Any) -> Generator[None]:
    """Within it the server takes what it is sent, and does nothing."""
    pid = own.pid
    if own.kind.name == "postgres":
        pid = ask(environment, "SELECT pg_backend_pid()")
    os.kill(pid, signal.SIGSTOP)
    try:
        while not all(each.read_text().rpartition(")")[2].split()[0] == "T" for each in tasks(pid)):
            pass  # its threads stop one by one
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.timeout(30)
def test_a_server_that_does_not_answer_is_given_up(
    own: Own, mine: ServerSubject, tmp_path: Path
) -> None:
    url = mine.url(tmp_path)
    environment = open_storage(f"{url}&timeout=2s", peer=PEER)
    log = environment.log(identity(peer=PEER))
    log.append(entries(3))
    with stopped(own, environment):
        for _ in range(2):
            with pytest.raises(StoragePoisoned):
                log.append(entries(1, log.tail))
    environment.close()
    # It has yet to find out that the session is over.
    environment = open_storage(url.replace("patience=1s", "patience=20s"), peer=PEER)
    assert environment.log(identity(peer=PEER)).last().index == 3
    environment.close()


# -- what survives -------------------------------------------------------------------------------------------

UNSYNCED = [
    ("postgres", "fsync", "off", {Capability.POWER_SAFE}),
    ("postgres", "full_page_writes", "off", {Capability.POWER_SAFE}),
    ("mariadb", "innodb_flush_log_at_trx_commit", "2", {Capability.POWER_SAFE}),
    (
        "mariadb",
        "innodb_flush_log_at_trx_commit",
        "0",
        {Capability.POWER_SAFE, Capability.KILL_SAFE},
    ),
]


@contextmanager
def set_to(mine: ServerSubject, name: str, value: str) -> Generator[None]:
    """The server's setting is another for a while."""
    if mine.kind.name == "postgres":
        mine.say(f"ALTER SYSTEM SET {name} = {value}")
        await_setting(mine, name, value)
        yield
        mine.say(f"ALTER SYSTEM RESET {name}")
        await_setting(mine, name, "on")
    else:
        [(before,)] = mine.say(f"SELECT @@GLOBAL.{name}")
        mine.say(f"SET GLOBAL {name} = {value}")
        yield
        mine.say(f"SET GLOBAL {name} = {before}")


def await_setting(mine: ServerSubject, name: str, value: str) -> None:
    """New sessions get it once the server has read its configuration, and it says nothing then."""
    mine.say("SELECT pg_reload_conf()")
    while mine.say(f"SHOW {name}") != [(value,)]:
        pass


@pytest.mark.parametrize(("kind", "name", "value", "lost"), UNSYNCED)
def test_a_server_that_does_not_sync_is_believed(
    mine: ServerSubject,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    name: str,
    value: str,
    lost: set[Capability],
) -> None:
    if mine.kind.name != kind:
        pytest.skip(f"a setting of {kind}'s")
    with set_to(mine, name, value), caplog.at_level(logging.WARNING):
        environment = open_storage(mine.url(tmp_path), peer=PEER)
        assert environment.describe().capabilities == frozenset(Capability) - lost
        environment.close()
    assert "does not survive a power failure" in caplog.text
    assert f"{name}={value}" in caplog.text


def test_statements_that_are_too_short_for_an_entry_are_refused(
    own: Own, mine: ServerSubject, tmp_path: Path
) -> None:
    only(own, "mariadb")
    with (
        set_to(mine, "max_allowed_packet", "16777216"),
        pytest.raises(StorageUnavailable, match=r"SET GLOBAL max_allowed_packet = .*mariadb://"),
    ):
        open_storage(mine.url(tmp_path), peer=PEER)


SAFE = {
    "innodb_flush_log_at_trx_commit": "1",
    "innodb_doublewrite": "ON",
    "innodb_flush_method": "O_DIRECT",
    "sync_binlog": "0",
    "log_bin": "OFF",
}


@pytest.mark.parametrize(
    ("changed", "safe"),
    [
        ({}, True),
        ({"innodb_flush_log_at_trx_commit": "3"}, True),
        ({"innodb_flush_log_at_trx_commit": "2"}, False),
        ({"innodb_doublewrite": "OFF"}, False),
        ({"innodb_doublewrite": "fast"}, False),
        ({"innodb_flush_method": "nosync"}, False),
        ({"log_bin": "ON"}, False),
        ({"log_bin": "ON", "sync_binlog": "1"}, True),
        ({"log_bin": "ON", "sync_binlog": "100"}, False),
    ],
)
def test_mariadb_is_power_safe_when_all_of_it_is_synced(
    changed: dict[str, str], safe: bool
) -> None:
    assert mariadb._is_power_safe(SAFE | changed) is safe


@pytest.mark.parametrize(
    ("error", "full"),
    [
        ((1114, "The table 'mosaik_rows' is full"), True),
        ((1030, 'Got error 28 "No space left on device" from storage engine InnoDB'), True),
        ((1030, 'Got error 122 "Internal error" from storage engine InnoDB'), False),
        ((1205, "Lock wait timeout exceeded; try restarting transaction"), False),
        ((), False),
    ],
)
def test_mariadb_says_in_several_ways_that_there_is_no_room(error: Any, full: bool) -> None:
    assert MariaDB().is_full(Exception(*error)) is full


def test_postgres_says_in_one_way_that_there_is_no_room() -> None:
    from psycopg import errors

    assert Postgres().is_full(errors.DiskFull())
    assert not Postgres().is_full(errors.OutOfMemory())
