"""Commands on a store that a server keeps, a real PostgreSQL: a memory moved there and back, and what is refused."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest
from mcp import Client
from typer.testing import CliRunner

from llmspell_memory import EmbeddingService, Filter, HNSWConfig
from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.backends.postgres import PostgresBackend, PostgresConfig
from llmspell_memory.backends.postgres.looking import look
from llmspell_memory.cli.app import app
from llmspell_memory.client import MemoryClient
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.testing.backends import entry
from llmspell_memory.types.entry import same
from tests import speaking
from tests.interfaces.cli.conftest import PROGRAM
from tests.interfaces.cli.test_commands import COMMANDS, document
from tests.interfaces.cli.test_ends import without
from tests.interfaces.server.test_running import running
from tests.postgres import own, shared
from tests.stores import NAMESPACES, equal, made, stored

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typer.testing import Result

    from tests.interfaces.cli.conftest import Run

SAID = "Tr0ub4dor%263"
"""A password, as a URL has it."""

SCHEMA = "of_commands"
SPACE = EmbeddingService(HashingProvider(64)).space
NEW = ("--provider", "hashing", "--dimensions", "64")


def url_of(schema: str = SCHEMA, *, port: int | None = None) -> str:
    """Return the URL of a schema; the shared server believes whoever comes, and asks for no password."""
    return f"postgresql://postgres:{SAID}@127.0.0.1:{port or shared().port}/postgres#{schema}"


def shown(url: str) -> str:
    return url.replace(f":{SAID}@", "@")


def config(schema: str = SCHEMA) -> PostgresConfig:
    return PostgresConfig(dsn=shared().dsn, schema=schema)


def call(*arguments: str | Path, stdin: str | None = None) -> Result:
    """Run a command in this process, and see that it says no password."""
    result = CliRunner().invoke(app, [*map(str, arguments)], input=stdin, prog_name="llmspell-memory")
    assert "Tr0ub4dor" not in result.output + repr(result.exception)
    return result


@pytest.fixture
def url() -> Iterator[str]:
    """Give the URL of a schema that is not there, with others of the same beginning, which tests make."""
    yield url_of()
    for schema in (SCHEMA, f"{SCHEMA}_2"):
        shared().execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


@pytest.fixture
def filled(url: str) -> str:
    """Give the URL of a store of 60 entries in four namespaces, with an index of few links."""
    small = HNSWConfig(m=8, ef_construction=40)
    backend = PostgresBackend(replace(config(), index_from=0), SPACE, hnsw=small)
    backend.add([made(n, 64, namespace=NAMESPACES[n % 4]) for n in range(60)])
    backend.close()
    return url


def has_schema(name: str = SCHEMA) -> bool:
    return look(config(name)) is not None


# --- every command --------------------------------------------------------------------------------------------------


WORKING: dict[str, tuple[str, ...]] = {
    "add": ("what was said", "--session", "s", "--role", "user"),
    "search": ("what was said", "-k", "3"),
    "context": ("what was said",),
    "recent": (),
    "sessions": (),
    "show": ("id-4",),
    "stats": ("--probe", "5"),
    "export": ("-",),
    "delete": ("--id", "id-4", "--yes", "--erase"),
    "sweep": ("--max-age", "100000"),
    "reembed": ("--dry-run",),
    "doctor": (),
    "keys": ("add", "ops"),
}
"""Commands that work on the store of --db, and how they are called."""

LASTING = {"chat", "serve", "mcp"}
"""Commands that go on until somebody ends them; they have tests of their own, below."""

MOVING = {"import", "migrate", "rollback", "rollout"}
"""Commands that name files or stores; they have tests of their own."""

REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "backup": (("copy.db",), "pg_dump"),
    "check": ((), "pg_amcheck"),
    "repair": (("new.db",), "llmspell-memory migrate"),
    "tune": (("--target-recall", "0.9"), "stats --probe"),
    "advise": ((), "stats --probe"),
    "demo": ((), "leave --db out"),
}
"""Commands that are about files alone, how they are called, and what they say is to be done instead."""


def test_every_command_is_decided_on() -> None:
    """A command either works on a server's store or says why not; a new one has to be put here."""
    assert sorted({*WORKING, *LASTING, *MOVING, *REFUSED}) == COMMANDS


def test_a_conversation_is_kept(filled: str) -> None:
    """What is said is in the store, and remembered."""
    assert call("--db", filled, "chat", stdin="My dog is called Ada.\n").exit_code == 0
    assert "My dog is called Ada." in call("--db", filled, "chat", stdin="what is my dog called?\n").stdout


def test_it_is_served(filled: str) -> None:
    """Over HTTP, with its own index."""
    with running(filled, dimensions=64) as (_, address), MemoryClient(address) as client:
        client.add(entry("My dog is called Ada.", "dogs"))
        hits = client.search("My dog is called Ada.", 1, mode="semantic")
    assert [hit.entry.content for hit in hits] == ["My dog is called Ada."]
    assert "Ada" in call("--db", filled, "search", "My dog is called Ada.").stdout


async def test_it_is_spoken_to(filled: str) -> None:
    """Over the Model Context Protocol."""
    async with Client(speaking.started(filled)) as client:
        await speaking.answer(client, "add_memory", content="My dog is called Ada.", session_id="dogs", role="user")
        found = await speaking.answer(client, "search_memories", query="My dog is called Ada.")
    assert "My dog is called Ada." in json.dumps(found)


def test_commands_work_as_on_a_file(filled: str) -> None:
    """Each ends well, says nothing on stderr, and names the store without its password."""
    for name, arguments in WORKING.items():
        options = (*NEW[:3], "32") if name == "reembed" else ()
        result = call("--db", filled, *options, name, *arguments)
        assert result.exit_code == 0, (name, result.output)
        assert result.stdout, name
        if name == "stats":
            assert shown(filled) in result.stdout
            assert "the server's: hnsw, m 8, ef_construction 40, ef_search 50" in result.stdout


@pytest.mark.parametrize("name", REFUSED)
def test_commands_about_files_say_what_to_do(url: str, name: str) -> None:
    """One line names the store and another way, and the server is not asked."""
    arguments, instead = REFUSED[name]
    result = call("--db", url, name, *arguments)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert shown(url) in line
    assert instead in line
    assert not has_schema()


def test_files_are_imported_into_a_new_store(url: str, tmp_path: Path) -> None:
    """The first file makes the store, the second finds the provider that it records, and what is found is theirs."""
    for number in range(2):
        (tmp_path / f"{number}.jsonl").write_text(
            json.dumps({"session_id": "s", "role": "user", "content": f"the kettle is number {number}"}), "utf-8"
        )
    files = (tmp_path / "0.jsonl", tmp_path / "1.jsonl")
    told = document(call("--db", url, *NEW, "import", *files, "--json"))
    assert [one["new"] for one in told["files"]] == [1, 1]
    hits = document(call("--db", url, "search", "kettle number 1", "-k", "1", "--json"))["hits"]
    assert hits[0]["entry"]["content"] == "the kettle is number 1"
    refused = call("--db", url, "--provider", "hashing", "--dimensions", "32", "search", "kettle")
    assert refused.exit_code == 1
    assert shown(url) in refused.stderr


@pytest.mark.parametrize(
    "command", [("stats",), ("search", "x"), ("delete", "--all", "--yes"), ("export",), ("reembed",)]
)
def test_who_only_looks_makes_no_store(url: str, command: tuple[str, ...], tmp_path: Path) -> None:
    """Where there is none, a command says so as for a file, and leaves the database as it was."""
    result = call("--db", url, *command)
    assert result.exit_code == 1
    assert f"there is no store at {shown(url)}" in result.stderr
    assert call("migrate", url, tmp_path / "new.db").exit_code == 1
    with psycopg.connect(shared().dsn) as db:
        assert db.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (SCHEMA,)).fetchone() is None


def test_the_servers_index_is_used_and_left(filled: str) -> None:
    """Searches and a probe, asked for an index or not, go by the one that is there; none builds another."""
    for command in (("search", "said"), ("search", "said", "--index", "hnsw"), ("stats", "--probe", "3")):
        assert call("--db", filled, *command).exit_code == 0
    told = document(call("--db", filled, "stats", "--probe", "3", "--json"))
    assert (told["probe"]["index"]["m"], told["rows"]) == (8, "postgres")
    found = look(config())
    assert found is not None
    assert found.hnsw == HNSWConfig(m=8, ef_construction=40)
    assert call("--db", filled, "stats", "--index", "hnsw").exit_code == 1
    exact = document(call("--db", filled, "stats", "--index", "exact", "--probe", "3", "--json"))
    assert (exact["probe"]["index"], exact["probe"]["recall"]["recall"]) == (None, 1.0)


# --- moving ---------------------------------------------------------------------------------------------------------


def test_a_file_moves_to_a_server_and_back(url: str, tmp_path: Path) -> None:
    """File, PostgreSQL, PostgreSQL, file: each move is verified, and the last has every field of the first."""
    first, last = tmp_path / "first.db", tmp_path / "last.db"
    backend = SQLiteBackend(first, SPACE, warm=False)
    backend.add([made(n, 64, namespace=NAMESPACES[n % 4]) for n in range(130)])
    backend.mark_processed(Filter(session_id="session-1"))
    backend.delete(Filter(ids=frozenset(["id-3"])))
    backend.close()
    other = url_of(f"{SCHEMA}_2")
    stops: list[str | Path] = [first, url, other, last]
    for source, target in itertools.pairwise(stops):
        view = ("--view", "hnsw") if target == url else ()
        told = document(call("migrate", source, target, *view, "--batch", "50", "--json"))
        assert (told["verified"], told["entries"], told["verification"]["mismatched"]) == (True, 129, 0)
        assert told["target"] == (shown(target) if isinstance(target, str) else str(target))
        assert ("index" in told["seconds"]) == bool(view)
        assert look(config()) is not None
    one, two = SQLiteBackend(first, warm=False), SQLiteBackend(last, warm=False)
    ours, theirs = stored(one), stored(two)
    assert ours.keys() == theirs.keys()
    assert all(same(entry, theirs[name]) for name, entry in ours.items())
    one.close()
    two.close()


def test_a_server_gets_its_index_and_keeps_it(url: str, tmp_path: Path) -> None:
    """Many entries that move there are indexed when all are there; another embedding model has an index, too."""
    file, narrow = tmp_path / "file.db", EmbeddingService(HashingProvider(8)).space
    backend = SQLiteBackend(file, narrow, warm=False)
    backend.add([made(n, 8) for n in range(5_000)])
    backend.close()
    assert document(call("migrate", file, url, "--view", "hnsw", "--json"))["verified"]
    assert look(config()) == (narrow, HNSWConfig())
    assert call("--db", url, "--provider", "hashing", "--dimensions", "16", "reembed").exit_code == 0
    assert look(config()) == (EmbeddingService(HashingProvider(16)).space, HNSWConfig())
    with psycopg.connect(shared().dsn, autocommit=True) as db:
        made_there = "SELECT indexname FROM pg_indexes WHERE schemaname = %s AND indexdef LIKE '%%hnsw%%'"
        for (name,) in db.execute(made_there, (SCHEMA,)).fetchall():
            db.execute(f"DROP INDEX {SCHEMA}.{name}".encode())
    assert call("--db", url, "search", "said", "--index", "hnsw").exit_code == 0
    assert look(config()) == (EmbeddingService(HashingProvider(16)).space, HNSWConfig())


def test_the_same_migration_goes_on(url: str, tmp_path: Path) -> None:
    """What was written to the file since comes over by the same command, and the table says what was done."""
    file = tmp_path / "file.db"
    add = ("add", "hello", "--session", "s", "--role", "user")
    assert call("--db", file, *NEW, *add).exit_code == 0
    for count in (1, 2):
        result = call("migrate", file, url)
        assert result.exit_code == 0, result.output
        assert "verified" in result.stdout
        assert f"{count} in the target" in result.stdout
        assert call("--db", file, *add).exit_code == 0


def test_a_rollback_from_a_server(url: str, tmp_path: Path) -> None:
    """What was written to the server since comes back into the file."""
    file = tmp_path / "file.db"
    add = ("add", "hello", "--session", "s", "--role", "user", "--id")
    assert call("--db", file, *NEW, *add, "a").exit_code == 0
    assert call("migrate", file, url).exit_code == 0
    assert call("--db", url, *add, "b").exit_code == 0
    assert document(call("rollback", url, file, "--json"))["verified"]
    assert call("--db", file, "show", "b").exit_code == 0
    refused = call("rollback", url_of(f"{SCHEMA}_2"), file)
    assert refused.exit_code == 1
    assert "there is no store at postgresql://" in refused.stderr


def test_entries_in_files_move_too(filled: str, tmp_path: Path) -> None:
    """A server's store becomes a file of entries, and that a store on a server, the same to the last field."""
    file, other = tmp_path / "all.jsonl.gz", url_of(f"{SCHEMA}_2")
    assert call("migrate", filled, file).exit_code == 0
    told = document(call("migrate", file, other, "--view", "hnsw", "--json"))
    assert (told["verified"], told["target"]) == (True, shown(other))
    one, two = PostgresBackend(config()), PostgresBackend(config(f"{SCHEMA}_2"))
    assert equal(one, two)
    one.close()
    two.close()


def test_a_plan_for_a_server_is_refused(filled: str, tmp_path: Path) -> None:
    """--dry-run tells what a file would take of a server's rows; of a server it says that it cannot, and makes none."""
    plan = document(call("migrate", filled, tmp_path / "new.db", "--dry-run", "--json"))
    assert (plan["entries"], plan["source"]) == (60, shown(filled))
    refused = call("migrate", filled, url_of(f"{SCHEMA}_2"), "--dry-run")
    assert refused.exit_code == 1
    assert "tells nothing of a server" in refused.stderr
    assert not has_schema(f"{SCHEMA}_2")


def test_a_server_is_tried_beside_a_file(url: str, tmp_path: Path) -> None:
    """A rollout's candidate may be a server's: it comes level, is promoted, and what it got since comes back."""
    file = tmp_path / "file.db"
    add = ("add", "hello", "--session", "s", "--role", "user", "--id")
    assert call("--db", file, *NEW, *add, "a").exit_code == 0
    promoted = call("rollout", file, url, "--sample", "20", "--p95-ratio", "100000", "--promote")
    assert promoted.exit_code == 0, promoted.output
    assert f"programs are to be started with {shown(url)} from now on" in promoted.stdout
    assert call("--db", url, *add, "b").exit_code == 0
    assert document(call("rollout", file, url, "--status", "--json"))["serving"] == "candidate"
    assert document(call("rollout", file, url, "--rollback", "--json"))["serving"] == "primary"
    assert call("--db", file, "show", "b").exit_code == 0


# --- how it ends ----------------------------------------------------------------------------------------------------


def only_line(result: subprocess.CompletedProcess[str]) -> str:
    """Return the one line that an error is."""
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("llmspell-memory: ")
    assert "Tr0ub4dor" not in line
    return line


@pytest.mark.parametrize("command", [("stats",), ("add", "x", "--session", "s", "--role", "user")])
def test_a_server_that_is_not_there(run: Run, command: tuple[str, ...]) -> None:
    """One line says that it cannot be reached, by the command as by the environment, --verbose or not."""
    nowhere = url_of(port=1)
    line = only_line(run("--db", nowhere, "--verbose", *command))
    assert "the server cannot be reached" in line
    assert line == only_line(run(*command, LLMSPELL_MEMORY_DB=nowhere))
    assert "the server cannot be reached" in only_line(run("migrate", nowhere, "new.db"))


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("a..b/d", "names no host that there can be"),
        (f"{'h' * 300}/d", "names no host that there can be"),
        ("%2Fnowhere/d", "/nowhere/.s.PGSQL.5432"),
        ("/d?service=nobodys", 'service "nobodys" not found'),
        ("/d?secret=1", 'invalid URI query parameter: "secret"'),
        ("/d?sslmode=bogus", 'invalid sslmode value: "bogus"'),
    ],
)
def test_an_address_that_leads_nowhere(run: Run, where: str, said: str) -> None:
    """What only the driver can tell to be wrong is one line, too."""
    assert said in only_line(run("--db", f"postgresql://me:{SAID}@{where}", "stats"))


@pytest.mark.parametrize(
    "where", ["postgresql://me:Tr0ub4dor#x@h/d", "milvus+http://root:Tr0ub4dor@h", "mysql://me:Tr0ub4dor@h/d"]
)
def test_a_url_that_cannot_be_used(run: Run, where: str) -> None:
    """One line says what is wrong with it, wherever it is given, and makes no file of that name."""
    only_line(run("--db", where, "stats"))
    only_line(run("migrate", where, "new.db"))
    only_line(run("rollout", "old.db", where))
    assert run("sessions", LLMSPELL_MEMORY_DB=where).returncode == 1


def test_without_the_extra(run: Run) -> None:
    """A missing driver is one line with the pip line that installs it; files are worked on without any driver."""
    line = only_line(without("psycopg", "--db", url_of(port=1), "stats"))
    assert 'pip install "llmspell-memory[postgres]"' in line
    line = only_line(without("pymilvus", "--db", "milvus+http://127.0.0.1:1", "stats"))
    assert 'pip install "llmspell-memory[milvus]"' in line
    assert run("--help", LLMSPELL_MEMORY_DB=url_of(port=1)).returncode == 0


def test_drivers_are_loaded_on_use(tmp_path: Path) -> None:
    """A command on a file loads no driver, so it starts as quickly as if there were none."""
    code = (
        "import sys\nfrom llmspell_memory.cli import main\ntry:\n    main()\nfinally:\n"
        "    print(sorted({'psycopg', 'psycopg_pool', 'pgvector', 'pymilvus', 'grpc'} & sys.modules.keys()))"
    )
    arguments = ("--db", tmp_path / "m.db", *NEW, "add", "x", "--session", "s", "--role", "user", "--id", "a")
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "a\n[]\n"


def test_a_password_comes_from_where_libpq_looks(tmp_path: Path) -> None:
    """PGPASSWORD and .pgpass open a store whose URL has no password; a wrong one is refused in one line."""
    with own(fsync="off") as server:
        server.execute("ALTER ROLE postgres PASSWORD 'Tr0ub4dor&3'")
        (server.data / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n", "utf-8")
        server.execute("SELECT pg_reload_conf()")
        where = f"postgresql://postgres@127.0.0.1:{server.port}/postgres"
        pgpass = tmp_path / "pgpass"
        pgpass.write_text("*:*:*:postgres:Tr0ub4dor&3\n", "utf-8")
        pgpass.chmod(0o600)

        def ends(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [PROGRAM, *arguments],
                env={"HOME": str(tmp_path), **environment},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )

        add = ("--db", where, *NEW, "add", "x", "--session", "s", "--role", "user", "--id", "a")
        only_line(ends(*add))
        assert "authentication failed" in only_line(ends(*add, PGPASSWORD="Tr0ub4dor"))
        assert ends(*add, PGPASSWORD="Tr0ub4dor&3").stdout == "a\n"
        told = ends("--db", where, "--verbose", "stats", PGPASSFILE=str(pgpass))
        assert told.returncode == 0, told.stderr
        assert where in told.stdout
        assert "Tr0ub4dor" not in told.stdout + told.stderr
        with_it = where.replace("postgres@", f"postgres:{SAID}@")
        told = ends("--db", with_it, "--verbose", "search", "x", "-k", "1")
        assert told.returncode == 0, told.stderr
        assert "Tr0ub4dor" not in told.stdout + told.stderr
