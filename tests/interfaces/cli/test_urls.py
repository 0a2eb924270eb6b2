"""URLs of stores: what they name, what libpq is given, and that no part of a password is ever said."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from llmspell_memory import ConfigError
from llmspell_memory.backends.milvus import MilvusConfig
from llmspell_memory.backends.postgres import PostgresConfig
from llmspell_memory.cli.urls import Address, address_of

SAID = "Tr0ub4dor"
"""A password, or a part of it."""

ASKED = f"root:{SAID}"


def named(url: str) -> Address:
    address = address_of(url)
    assert address is not None
    return address


def postgres(url: str) -> tuple[dict[str, str], str, str]:
    """Return what libpq understands, the schema, and what is shown."""
    address = named(url)
    assert isinstance(address.server, PostgresConfig)
    told = {name: str(value) for name, value in conninfo_to_dict(address.server.dsn).items()}
    return told, address.server.schema, address.shown


def complaint(dsn: str) -> str:
    """Return what libpq complains about, without what it repeats."""
    try:
        conninfo_to_dict(dsn)
    except ProgrammingError as error:
        return str(error).partition(":")[0]
    return ""


@pytest.mark.parametrize(
    "path", ["memory.db", "/srv/a:b.db", "a:b", "C:\\memory.db", "./postgresql.db", "x#y", "", "a@b"]
)
def test_what_is_no_url_is_a_file(path: str) -> None:
    """Paths stay paths, colons and hashes in them or not."""
    assert address_of(path) is None


def test_a_postgresql_url_is_libpqs_and_a_schema() -> None:
    """All of it but the fragment goes to libpq; the password and the parameters are not shown."""
    told, schema, shown = postgres(f"postgres://me:{SAID}@db.example:5433/agents?sslmode=require#work")
    assert told == {
        "user": "me",
        "password": SAID,
        "host": "db.example",
        "port": "5433",
        "dbname": "agents",
        "sslmode": "require",
    }
    assert schema == "work"
    assert shown == "postgresql://me@db.example:5433/agents?...#work"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://", {}),
        ("postgresql:///agents", {"dbname": "agents"}),
        ("POSTGRESQL://h", {"host": "h"}),
        ("postgresql://me@[::1]:5432/d", {"user": "me", "host": "::1", "port": "5432", "dbname": "d"}),
        ("postgresql://a:1,b:2/d", {"host": "a,b", "port": "1,2", "dbname": "d"}),
        ("postgresql://%2Frun%2Fpostgresql/d", {"host": "/run/postgresql", "dbname": "d"}),
        ("postgresql:///?service=mine", {"service": "mine"}),
        (
            "postgresql://u:a%40b%2Fc%3Fd%23e%25f:g@h/d",
            {"user": "u", "password": "a@b/c?d#e%f:g", "host": "h", "dbname": "d"},
        ),
    ],
)
def test_urls_that_libpq_takes(url: str, told: dict[str, str]) -> None:
    """Sockets, several servers, services, addresses of version 6 and escapes come to libpq as they are."""
    assert postgres(url)[:2] == (told, "llmspell_memory")


@pytest.mark.parametrize(
    ("url", "uri", "database", "prefix"),
    [
        ("milvus+http://h", "http://h:19530", "", "llmspell_memory"),
        ("milvus+http://127.0.0.1:1234/#work", "http://127.0.0.1:1234", "", "work"),
        ("milvus+https://in01.zilliz.example/agents#Work", "https://in01.zilliz.example:443", "agents", "Work"),
        ("milvus+http://[::1]:19530/agents", "http://[::1]:19530", "agents", "llmspell_memory"),
    ],
)
def test_a_milvus_url(url: str, uri: str, database: str, prefix: str) -> None:
    """Server, database and prefix; the token comes from elsewhere."""
    address = address_of(url, token=ASKED)
    assert address is not None
    assert address.server == MilvusConfig(uri=uri, token=ASKED, database=database, prefix=prefix)
    assert address.shown == url


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{SAID}/9@h/d",
        f"postgresql://me:9/{SAID}@h/d",
        f"postgresql://me:{SAID}?9@h/d",
        f"postgresql://me:{SAID}#9@h/d",
        f"postgresql://me:9#{SAID}@h/d",
        f"postgresql://me:9@{SAID}@h/d",
        f"postgresql://me:{SAID}%zz@h/d",
        f"postgresql://me:{SAID}%00@h/d",
        f"postgresql://me:{SAID}%ff@h/d",
        f"postgresql://me:{SAID} 9@h/d",
        f"postgresql://me:{SAID}\n@h/d",
        f"postgresql://me:{SAID}",
        f"postgresql://me@h:{SAID}/d",
        f"postgresql://me@h:70000/{SAID}",
        f"milvus+http://h:0/#{SAID}",
        f"postgresql://h/d?{SAID}",
        f"postgresql://h/d?password={SAID}=",
        f"postgresql://h/d?{SAID}=password",
        f"postgresql://h/d#{SAID}-9",
        f"postgresql:/me:{SAID}@h/d",
        f"postgres:me:{SAID}@h/d",
        f"host=h password={SAID}",
        f"PASSWORD = {SAID}",
        f"mysql://me:{SAID}@h/d",
        f"milvus+http://root:{SAID}@h",
        f"milvus+http://h/d?token={SAID}",
        f"milvus+http://h:{SAID}",
        f"milvus+http://h/d/{SAID}",
        f"milvus+http://h/#{SAID}-9",
        f"milvus+http:///{SAID}",
        f"milvus://h/{SAID}",
        f"milvus+http:h/{SAID}",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_in_silence(url: str) -> None:
    """What libpq would not understand, or would take apart otherwise than was meant, is refused and not repeated."""
    with pytest.raises(ConfigError) as refused:
        address_of(url)
    assert SAID not in str(refused.value)
    assert refused.value.__cause__ is None


@given(st.text(alphabet="ab1:/?#@%[]=&,2 \n\\é", max_size=24))
@example("u:p@[::1]x:5/d")
def test_libpq_understands_whatever_is_let_through(text: str) -> None:
    """So it has nothing to complain about, in words that may be those of a password; but for a parameter's name."""
    try:
        address = address_of(f"postgresql://{text}")
    except ConfigError:
        return
    assert address is not None
    assert isinstance(address.server, PostgresConfig)
    assert complaint(address.server.dsn) in {"", "invalid URI query parameter"}


@given(st.text(alphabet="xyz:/?#@%[]=&,2", min_size=1, max_size=8))
def test_a_password_is_not_shown(text: str) -> None:
    """However it is written: where it is refused, and where it is taken for a password."""
    password = f"{SAID}{text}{SAID}"
    try:
        told = repr(named(f"postgresql://me:{password}@db.example:5432/agents"))
    except ConfigError as error:
        told = str(error)
    assert SAID not in told
