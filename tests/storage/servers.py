"""Database servers to test with: one that the environment names, else one of our own, else a container.

A server that merely answers on its usual port is somebody's; no test touches it.
"""

from __future__ import annotations

import ctypes
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import IO, Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from mosaik.testing.storage import Subject

__all__ = ["KINDS", "Kind", "NoServer", "Own", "ServerSubject", "engine_of", "find", "start_own"]

#: Larger than the longest statement that an entry needs.
PACKET: Final = 64 << 20


_PR_SET_PDEATHSIG: Final = 1


class NoServer(Exception):
    """There is none to test with; the message says why."""


class Kind:
    """A kind of server: how it is named, found, made and started.

    Attributes:
        name: as ``MOSAIK_REQUIRE`` has it.
        scheme: of our URLs.
        driver: of SQLAlchemy's.
    """

    name: str
    scheme: str
    driver: str
    ready: bytes

    @property
    def variable(self) -> str:
        """The environment variable that names a server."""
        return f"MOSAIK_TEST_{self.name.upper()}_URL"

    def make(self, directory: Path, user: str | None) -> None:
        """Makes an empty database directory."""
        raise NotImplementedError

    def command(self, directory: Path, port: int, settings: Sequence[str]) -> list[str]:
        """Starts the server in the foreground."""
        raise NotImplementedError

    def url(self, port: int) -> str:
        """Where our own server is."""
        raise NotImplementedError

    def container(self) -> str:
        """Starts a container, and answers its URL."""
        raise NotImplementedError


def _program(name: str, *directories: Path) -> str:
    found = shutil.which(name) or next(
        (str(path / name) for path in directories if (path / name).exists()), None
    )
    if found is None:
        raise NoServer(f"{name} is not installed")
    return found


class _Postgres(Kind):
    name, scheme, driver = "postgres", "postgresql", "postgresql+psycopg"
    ready = b"database system is ready to accept connections"

    @staticmethod
    def _program(name: str) -> str:
        versions = Path("/usr/lib/postgresql")
        places = sorted(versions.glob("*/bin"), key=lambda path: path.parent.name, reverse=True)
        return _program(name, *places)

    def make(self, directory: Path, user: str | None) -> None:
        command = [
            self._program("initdb"),
            "-D",
            str(directory / "data"),
            "--no-sync",
            "-A",
            "trust",
        ]
        _run([*command, "-U", "mosaik", "-E", "UTF8", "--no-locale"], user)

    def command(self, directory: Path, port: int, settings: Sequence[str]) -> list[str]:
        chosen = [
            f"port={port}",
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={directory}",
        ]
        options = [part for each in (*chosen, *settings) for part in ("-c", each)]
        return [self._program("postgres"), "-D", str(directory / "data"), *options]

    def url(self, port: int) -> str:
        return f"postgresql://mosaik@127.0.0.1:{port}/postgres"

    def container(self) -> str:
        from testcontainers.community.postgres import PostgresContainer

        return _contained(PostgresContainer("postgres:16", driver=None))


class _MariaDB(Kind):
    name, scheme, driver = "mariadb", "mariadb", "mariadb+pymysql"
    ready = b"ready for connections"

    def make(self, directory: Path, user: str | None) -> None:
        # Its temporary tables have the names of another installation's, made at the same time.
        scratch = directory / "tmp"
        scratch.mkdir()
        if user is not None:
            shutil.chown(scratch, user)
        command = [_program("mariadb-install-db"), "--no-defaults", f"--datadir={directory}/data"]
        _run([*command, f"--tmpdir={scratch}", "--auth-root-authentication-method=normal"], user)

    def command(self, directory: Path, port: int, settings: Sequence[str]) -> list[str]:
        program = _program("mariadbd", Path("/usr/sbin"))
        chosen = [f"port={port}", "bind-address=127.0.0.1", f"socket={directory}/socket"]
        chosen += [f"datadir={directory}/data", f"tmpdir={directory}/tmp"]
        chosen += [f"max-allowed-packet={PACKET}"]
        return [program, "--no-defaults", *(f"--{each}" for each in (*chosen, *settings))]

    def url(self, port: int) -> str:
        return f"mariadb://root@127.0.0.1:{port}/test"

    def container(self) -> str:
        from testcontainers.community.mysql import MySqlContainer

        server = MySqlContainer("mariadb:11", dialect="pymysql")
        return _contained(server.with_command(f"--max-allowed-packet={PACKET}"))


KINDS: Final[dict[str, Kind]] = {kind.name: kind for kind in (_Postgres(), _MariaDB())}


def _run(command: Sequence[str], user: str | None) -> None:
    done = subprocess.run(command, user=user, cwd="/", capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoServer(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-500:]}")


def _contained(container: Any) -> str:
    try:
        container.start()
    except Exception as error:
        raise NoServer(f"no Docker engine answers: {error}") from error
    url = sa.make_url(container.get_connection_url())
    shown = url.set(drivername=url.get_backend_name().replace("mysql", "mariadb"))
    return shown.render_as_string(hide_password=False)


def _die_with_parent() -> None:
    """The kernel ends the server should these tests be killed; see prctl(2)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _drain(pipe: IO[bytes]) -> None:
    """Reads on, since a server whose pipe is full waits."""
    with pipe:
        for _ in pipe:
            pass


class Own:
    """A server of our own, in a temporary directory, on a port that was free.

    Args:
        settings: what it is started with, besides.
    """

    def __init__(self, kind: Kind, settings: Sequence[str] = ()) -> None:
        self.kind = kind
        self.settings = list(settings)
        # Database servers refuse to run as root.
        self.user = "nobody" if os.getuid() == 0 else None
        self.directory = Path(tempfile.mkdtemp(prefix=f"mosaik-{kind.name}-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: Thread | None = None
        try:
            if self.user is not None:
                shutil.chown(self.directory, self.user)
            kind.make(self.directory, self.user)
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.port: int = free.getsockname()[1]
            self.start()
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        """Where it is."""
        return self.kind.url(self.port)

    @property
    def pid(self) -> int:
        """The process that listens."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Starts it, and waits until it says that it is ready."""
        command = self.kind.command(self.directory, self.port, self.settings)
        self._process = subprocess.Popen(
            command,
            user=self.user,
            cwd="/",
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            preexec_fn=_die_with_parent,
        )
        assert self._process.stderr is not None
        said: list[bytes] = []
        for line in self._process.stderr:
            said.append(line)
            if self.kind.ready in line:
                self._reader = Thread(target=_drain, args=(self._process.stderr,), daemon=True)
                self._reader.start()
                return
        raise NoServer(f"{command[0]} ended: {b''.join(said[-5:]).decode(errors='replace')}")

    def kill(self) -> None:
        """SIGKILL, to the server and to all that it has started."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        pids = [self._process.pid, *map(int, children.read_text().split())]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        if self._reader is not None:
            self._reader.join()

    def stop(self) -> None:
        """Ends it and removes what it wrote."""
        if self._process is not None:
            with suppress(FileNotFoundError):
                self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


def start_own(kind: Kind, settings: Sequence[str] = ()) -> Own:
    """A server of our own.

    Raises:
        NoServer: its programs are not installed, or do not run here.
    """
    try:
        return Own(kind, settings)
    except OSError as error:
        raise NoServer(f"{kind.name} cannot be started: {error}") from error


def find(kind: Kind) -> tuple[str, Own | None]:
    """The URL of a server to test with, and the server if it is our own.

    Raises:
        NoServer: there is none.
    """
    if url := os.environ.get(kind.variable):
        return url, None
    try:
        own = start_own(kind)
    except NoServer as error:
        try:
            return kind.container(), None
        except (ImportError, NoServer) as other:
            why = f"{kind.variable} is not set; {error}; {other}"
            raise NoServer(why) from error
    return own.url, own


def engine_of(environment: Any) -> Any:
    """The engine of an opened store."""
    return environment.shared._engine


class ServerSubject(Subject):
    """Stores on a server, in a schema or database of this subject's own.

    Args:
        url: of the server's database.
        own: the server, if it is ours to kill.
    """

    def __init__(self, kind: Kind, url: str, own: Own | None = None) -> None:
        self.kind = kind
        self.own = own
        self.origin = url
        self.space = f"mosaik_test_{secrets.token_hex(6)}"
        address = sa.make_url(url).set(drivername=kind.driver)
        self._outer = sa.create_engine(address, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        thing = "SCHEMA" if kind.name == "postgres" else "DATABASE"
        self._drop = f"DROP {thing} {self.space}" + (" CASCADE" if thing == "SCHEMA" else "")
        self.say(f"CREATE {thing} {self.space}")
        if thing == "SCHEMA":
            self.base = f"{url}?schema={self.space}&patience=1s"
        else:
            mine = address.set(drivername=kind.scheme, database=self.space)
            self.base = f"{mine.render_as_string(hide_password=False)}?patience=1s"
        super().__init__(self.base + "&store={name}")

    def say(self, statement: str, **values: object) -> Sequence[Any]:
        """What the server answers whoever looks over our shoulder."""
        with self._outer.connect() as connection:
            if self.kind.name == "postgres":
                connection.execute(sa.text(f"SET search_path = {self.space}"))
            elif not statement.startswith("CREATE DATABASE"):
                connection.execute(sa.text(f"USE {self.space}"))
            found = connection.execute(sa.text(statement), values)
            return found.all() if found.returns_rows else ()

    def number_of(self, place: Path) -> int:
        """The number of a place's store."""
        name = self.url(place).rpartition("store=")[2]
        [(number,)] = self.say("SELECT number FROM mosaik_stores WHERE name = :name", name=name)
        return int(number)

    def corrupt(self, place: Path, seed: int) -> str | None:
        prefix = self.number_of(place).to_bytes(4, "big")
        found = [
            (bytes(log), first, bytearray(blob))
            for log, first, blob in self.say("SELECT log, first, entries FROM mosaik_rows")
            if bytes(log).startswith(prefix)
        ]
        rng = random.Random(seed)
        log, first, blob = rng.choice(found)
        at = rng.randrange(len(blob))
        blob[at] ^= 1 << rng.randrange(8)
        self.say(
            "UPDATE mosaik_rows SET entries = :blob WHERE log = :log AND first = :first",
            blob=bytes(blob),
            log=log,
            first=first,
        )
        return f"a bit of byte {at} of the row at {first}"

    def kill_server(self) -> bool:
        if self.own is None:
            return False
        self.own.kill()
        self.own.start()
        return True

    def drop(self) -> None:
        """Removes what was made on the server."""
        with suppress(SQLAlchemyError):
            self.say(self._drop)

    def close(self) -> None:
        """Removes all of it, and the server, if it is our own."""
        self.drop()
        if self.own is not None:
            self.own.stop()
