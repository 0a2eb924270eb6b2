"""Options and arguments that commands share, and the filter that some of them make."""

import functools
import json
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, get_args

import typer

from llmspell_memory.cli.settings import Settings
from llmspell_memory.operations import FORMATS
from llmspell_memory.types import Filter, SearchMode


def moment(text: str) -> datetime:
    """Return a date or time written as ISO 8601, in UTC unless it has an offset."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no ISO 8601 date or time, such as 2025-01-31T18:30") from error
    return read if read.utcoffset() is not None else read.replace(tzinfo=UTC)


class View(StrEnum):
    """What answers a search."""

    EXACT = "exact"
    HNSW = "hnsw"


def is_hnsw(view: View | None) -> bool | None:
    """Say whether a view is that of an HNSW index; None where none was chosen."""
    return None if view is None else view is View.HNSW


Mode = StrEnum("Mode", {name.upper(): name for name in get_args(SearchMode)})  # type: ignore[misc]  # one list of names
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
    """Return the options of the store."""
    settings: Settings = ctx.obj
    return settings


_CONDITIONS: Final = {
    "session": Session,
    "role": Role,
    "since": Since,
    "until": Until,
    "processed": Processed,
    "metadata": Metadata,
    "namespace": Namespace,
}


def with_conditions(*, but: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command options for conditions in place of its parameter `where`, which gets the filter that they make.

    Args:
        but: the one that the command does not take.
    """
    conditions = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=option)
        for name, option in _CONDITIONS.items()
        if name != but
    ]

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        own = signature(command)
        parameters = [
            one for own_one in own.parameters.values() for one in (conditions if own_one.name == "where" else [own_one])
        ]

        @functools.wraps(command)
        def called(*arguments: Any, **given: Any) -> None:
            where = _filter(**{one.name: given.pop(one.name) for one in conditions})
            command(*arguments, where=where, **given)

        vars(called)["__signature__"] = own.replace(parameters=parameters)
        called.__annotations__ = {one.name: one.annotation for one in parameters}
        return called

    return decorated


def _filter(
    *,
    session: str | None = None,
    role: str | None,
    since: datetime | None,
    until: datetime | None,
    processed: bool | None,
    metadata: list[str] | None,
    namespace: list[str] | None,
) -> Filter:
    return Filter(
        session_id=session,
        role=role,
        since=since,
        until=until,
        processed=processed,
        metadata=dict(_pair(text) for text in metadata or ()),
        namespace=tuple(namespace or ()),
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
