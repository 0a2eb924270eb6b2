"""URLs of stores that a server keeps: read in this one place, and no password ever said again.

    postgresql://user@host:5432/database?sslmode=require#schema     what stands before the # is libpq's
    milvus+http://host:19530/database#prefix                        milvus+https, too

libpq says in its errors what it could not understand, which may be a part of a password. So whatever it would not
understand is refused here before, by errors that repeat nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final, NoReturn, TypeAlias
from urllib.parse import unquote_to_bytes

from llmspell_memory.backends.milvus.settings import MilvusConfig
from llmspell_memory.backends.postgres.settings import PostgresConfig
from llmspell_memory.errors import ConfigError

Server: TypeAlias = PostgresConfig | MilvusConfig

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(//)?")
_POSTGRES: Final = frozenset({"postgresql", "postgres"})
_MILVUS: Final = {"milvus+http": ("http", 19530), "milvus+https": ("https", 443)}
"""What is spoken, and the port where none is given."""

_LIKE_MILVUS: Final = frozenset({"milvus", "milvus+grpc", "milvus+tcp"})

_KEYWORDS: Final = re.compile(r"\s*(?:host|hostaddr|port|dbname|user|password|service|sslmode)\s*=", re.IGNORECASE)
_NO_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")
_HOST: Final = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[^\[\]:]*)(?::(\d{0,5}))?")
_MILVUS_HOST: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?")
_PARAMETER: Final = re.compile(r"[a-z_]+=[^=]*")
_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,47}")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_PORTS: Final = range(1, 65_536)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server's store is.

    Attributes:
        shown: the URL as it may be shown, without password and parameters.
        server: how it is reached.
    """

    shown: str
    server: Server


def address_of(text: str, *, token: str = "") -> Address | None:
    """Return the address that a URL names; None where the text is the path of a file.

    Args:
        text: the URL, or the path.
        token: for a Milvus server.

    Raises:
        ConfigError: it is a URL that cannot be used; says what is wrong and repeats none of it.
    """
    if _KEYWORDS.match(text):
        _refuse("postgresql", "it is written postgresql://user@host:5432/database, not as keywords and values")
    found = _SCHEME.match(text)
    if found is None:
        return None
    scheme, rest = found[1].lower(), text[found.end() :]
    if scheme in _POSTGRES | _MILVUS.keys() | _LIKE_MILVUS:
        if found[2] is None:
            _refuse(scheme, "two slashes stand behind the colon of a URL")
        if not rest.isprintable() or " " in rest:
            _refuse(scheme, "a space in a name is written %20, and there are no control characters")
        if scheme in _LIKE_MILVUS:
            _refuse(scheme, "a store in Milvus is milvus+http://host:19530/database#prefix, or milvus+https://...")
        return _postgres(rest) if scheme in _POSTGRES else _milvus(scheme, rest, token)
    if found[2] is None:
        return None  # a file whose name has a colon in it
    raise ConfigError(
        f"there are no stores at {scheme}:// URLs; a store is a file, postgresql://user@host/database#schema, or "
        "milvus+http://host:19530/database#prefix"
    )


def _refuse(scheme: str, why: str) -> NoReturn:
    raise ConfigError(f"the {scheme} URL of the store cannot be used: {why}")


def _postgres(rest: str) -> Address:
    dsn, hash_, schema = rest.partition("#")
    if hash_ and not _SCHEMA.fullmatch(schema):
        _refuse(
            "postgresql",
            "behind # stands the schema of its tables, of lower-case letters, digits and _; a # in a name or a "
            "password is written %23",
        )
    if _NO_ESCAPE.search(dsn) or not _is_text(dsn):
        _refuse(
            "postgresql",
            "behind each % stand two hexadecimal digits of UTF-8; a % in a name or a password is written %25",
        )
    authority = re.match(r"[^/?]*", dsn)
    assert authority is not None  # noqa: S101 (for the type checker: it may be empty)
    behind = dsn[authority.end() :]
    if "@" in behind or authority[0].count("@") > 1:
        _refuse("postgresql", "in a name or a password, @ is written %40, / is %2F, ? is %3F and : is %3A")
    named, at, hosts = authority[0].rpartition("@")
    for host in hosts.split(","):
        _check_port("postgresql", _HOST.fullmatch(host))
    path, question, query = behind.partition("?")
    if question and not all(map(_PARAMETER.fullmatch, query.split("&"))):
        _refuse("postgresql", "behind ? stand parameters of libpq, name=value, with & between them")
    shown = f"postgresql://{named.partition(':')[0]}{at}{hosts}{path}{'?...' if question else ''}{hash_}{schema}"
    config = PostgresConfig(dsn=f"postgresql://{dsn}")
    return Address(shown, replace(config, schema=schema) if schema else config)


def _milvus(scheme: str, rest: str, token: str) -> Address:
    place, hash_, prefix = rest.partition("#")
    if "@" in rest:
        _refuse(scheme, "it names nobody; who asks stands in the environment variable MILVUS_TOKEN, as user:password")
    if "?" in rest:
        _refuse(scheme, "it takes no parameters")
    if hash_ and not _NAME.fullmatch(prefix):
        _refuse(scheme, "behind # stands the prefix of its collections' names, of letters, digits and _")
    host, _, database = place.partition("/")
    found = _MILVUS_HOST.fullmatch(host)
    _check_port(scheme, found)
    if database and not _NAME.fullmatch(database):
        _refuse(scheme, "behind / stands the name of a database, of letters, digits and _")
    spoken, port = _MILVUS[scheme]
    uri = f"{spoken}://{host}" if found and found[1] else f"{spoken}://{host}:{port}"
    config = MilvusConfig(uri=uri, token=token, database=database)
    return Address(f"{scheme}://{rest}", replace(config, prefix=prefix) if prefix else config)


def _is_text(escaped: str) -> bool:
    try:
        unquote_to_bytes(escaped).decode()
    except UnicodeDecodeError:
        return False
    return True


def _check_port(scheme: str, host: re.Match[str] | None) -> None:
    if host is None or int(host[1] or 1) not in _PORTS:
        _refuse(scheme, "the server is written host:port, an address of version 6 as [address]:port")
