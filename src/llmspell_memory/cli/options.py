"""Options and arguments that commands share, and the filter they make."""

import json
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from llmspell_memory.cli.settings import Settings
from llmspell_memory.operations import FORMATS
from llmspell_memory.types import Filter


def moment(text: str) -> datetime:
    """Return a date or time written as ISO 8601, in UTC unless it has an offset."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no ISO 8601 date or time, such as 2025-01-31T18:30") from error
    return read if read.utcoffset() is not None else read.replace(tzinfo=UTC)


class Mode(StrEnum):
    """How entries are ranked."""

    SEMANTIC = "semantic"
    KEYWORD = "keyword"
    HYBRID = "hybrid"


class View(StrEnum):
    """What answers a search."""

    EXACT = "exact"
    HNSW = "hnsw"


FileFormat = StrEnum("FileFormat", {name.upper(): name for name in FORMATS})  # type: ignore[misc]  # one list of names

_HOW = "ISO 8601; UTC unless it has an offset."

Session = Annotated[str | None, typer.Option("--session", metavar="ID", help="Only this session.")]
Role = Annotated[str | None, typer.Option("--role", metavar="NAME", help="Only this role, such as user or assistant.")]
Since = Annotated[
    datetime | None,
    typer.Option("--since", parser=moment, metavar="TIME", help=f"Only what happened then or later. {_HOW}"),
]
Until = Annotated[
    datetime | None,
    typer.Option("--until", parser=moment, metavar="TIME", help=f"Only what happened before. {_HOW}"),
]
Processed = Annotated[
    bool | None, typer.Option("--processed/--unprocessed", help="Only entries marked processed, or only those not.")
]
Metadata = Annotated[
    list[str] | None,
    typer.Option("--metadata", metavar="KEY=VALUE", help="Only with this metadata; the value is JSON, or else text."),
]
Namespace = Annotated[
    list[str] | None,
    typer.Option("--namespace", metavar="SEGMENT", help="Only below this namespace; once for each segment."),
]
OwnNamespace = Annotated[
    list[str] | None,
    typer.Option("--namespace", metavar="SEGMENT", help="Whose it is; once for each segment."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]
Reembed = Annotated[bool, typer.Option("--reembed", help="Drop the vectors in the file and embed its texts anew.")]
SkipDuplicates = Annotated[
    bool, typer.Option("--skip-duplicates", help="Leave out what repeats its session: the same words of the same role.")
]
ImportFormat = Annotated[
    FileFormat | None, typer.Option("--format", help="What the files are; found out by their content unless given.")
]
Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="JSONL, .gz too, or a conversations.json.")]


def settings_of(ctx: typer.Context) -> Settings:
    """Return the global options, which stand before the command."""
    settings: Settings = ctx.obj
    return settings


def filter_of(
    *,
    session: str | None = None,
    role: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    processed: bool | None = None,
    metadata: list[str] | None = None,
    namespace: list[str] | None = None,
    ids: list[str] | None = None,
) -> Filter:
    """Return the filter that a command's options make.

    Raises:
        InputError: a condition is not acceptable.
    """
    return Filter(
        session_id=session,
        role=role,
        since=since,
        until=until,
        processed=processed,
        metadata=dict(_pair(text) for text in metadata or ()),
        namespace=tuple(namespace or ()),
        ids=frozenset(ids) if ids else None,
    )


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"--metadata must be KEY=VALUE, got {text!r}")
    try:
        return key, json.loads(value, parse_constant=_not_json)
    except (ValueError, RecursionError):
        return key, value


def _not_json(name: str) -> NoReturn:
    raise ValueError(name)  # Python's parser takes NaN and Infinity, which are no JSON
