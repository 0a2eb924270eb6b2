"""How things look on a terminal: tables, transcripts, times; and that no stored text can drive it."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from llmspell_memory.operations.files.jsonl import DIRECTION, dumped, entry_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from llmspell_memory.types import EpisodicEntry, Hit, Part, SessionSummary, Vector

_WIDTH: Final = 120
"""Columns where nobody says how many: a pipe, a file."""

SHOWN: Final = 240
"""Characters of a content in a table."""

_BESIDE: Final = 120
"""Characters of a turn beside a hit."""

_PICTURES: Final = (
    {code: 0x2400 + code for code in range(0x20) if code not in {0x09, 0x0A}}  # a picture of each, such as ␛
    | {0x7F: 0x2421}
    | dict.fromkeys((*range(0x80, 0xA0), *DIRECTION), 0xFFFD)
)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise  # noqa: PLE0704 (called while a BrokenPipeError is handled; the command's frame ends it quietly)


def console() -> Console:
    """Return a console on stdout that takes every text literally."""
    given = sys.stdout.isatty() or "COLUMNS" in os.environ
    return _Console(
        file=sys.stdout, width=None if given else _WIDTH, markup=False, highlight=False, emoji=False, soft_wrap=False
    )


def visible(text: str) -> str:
    """Return `text` with control characters replaced by pictures of them; line feeds and tabs stay."""
    return text.translate(_PICTURES)


def one_line(text: str, limit: int = SHOWN) -> str:
    """Return the start of `text` as a single line."""
    line = " ".join(visible(text[: 4 * limit]).split())
    return line if len(line) <= limit and len(text) <= 4 * limit else line[: limit - 1] + "…"


def minute(moment: datetime) -> str:
    """Return a moment in UTC to the minute; the heading above it says UTC."""
    return moment.isoformat(sep=" ", timespec="minutes")[:16]


def period(first: datetime, last: datetime) -> str:
    """Return two moments in UTC to the minute, the day once where it is one."""
    return f"{minute(first)} - {minute(last)[11:] if first.date() == last.date() else minute(last)}"


def path_of(namespace: tuple[str, ...]) -> str:
    """Return a namespace as text."""
    return one_line(" / ".join(namespace))


def entry_count(count: int) -> str:
    """Return a number of entries for people."""
    return "1 entry" if count == 1 else f"{count:,} entries"


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print one JSON document in UTF-8; on one line without an indent."""
    print_text(dumped(value, indent=indent) + "\n")


def print_text(text: str) -> None:
    """Print a text that a program reads, in UTF-8 and as it is."""
    sys.stdout.buffer.write(text.encode())


def hit_object(hit: Hit) -> dict[str, Any]:
    """Return a hit as a JSON object; with its parts and what stands around it, where it has them."""
    made: dict[str, Any] = {"score": hit.score, "entry": entry_object(hit.entry)}
    if hit.parts is not None:
        made["parts"] = {name: asdict(part) for name, part in hit.parts.items()}
    if hit.before or hit.after:
        made["before"] = [entry_object(entry) for entry in hit.before]
        made["after"] = [entry_object(entry) for entry in hit.after]
    return made


def session_object(line: SessionSummary) -> dict[str, Any]:
    """Return a session's line as a JSON object."""
    return {
        "session_id": line.session_id,
        "namespace": list(line.namespace),
        "entries": line.entries,
        "unprocessed": line.unprocessed,
        "first": line.first.isoformat(),
        "last": line.last.isoformat(),
    }


def table(*headings: str, right: Iterable[str] = (), title: str | None = None) -> Table:
    """Return an empty table; columns named in `right` hold numbers."""
    made = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left", title_style="bold", header_style="bold"
    )
    for heading in headings:
        made.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    return made


def hits_table(hits: list[Hit], excerpt: Callable[[str], Text]) -> Table:
    """Return a table of hits, best first: whose each is, an excerpt of its content, and its id."""
    made = table("score", "session, role, when (UTC); content; id", right=["score"])
    made.columns[0].no_wrap = True
    for hit in hits:
        entry = hit.entry
        words = Text()
        words.append(one_line(entry.session_id), style="cyan")
        words.append(f"  {one_line(entry.role, 20)}  {minute(entry.timestamp)}\n")
        for other in hit.before:
            words.append(f"{_beside(other)}\n", style="dim")
        words.append(excerpt(entry.content))
        words.append(f"\n{one_line(entry.id)}", style="dim")
        for other in hit.after:
            words.append(f"\n{_beside(other)}", style="dim")
        if hit.parts is not None:
            words.append(f"\n{_shares(hit.parts)}", style="italic")
        made.add_row(Text(f"{hit.score:.3f}"), words)
    return made


def _beside(entry: EpisodicEntry) -> str:
    """Return a turn beside a hit as one line."""
    return f"{one_line(entry.role, 20)}: {one_line(entry.content, _BESIDE)}"


def _shares(parts: Mapping[str, Part]) -> str:
    """Return what a score is made of, with the rank where an arm has found the hit itself."""
    return "  ".join(
        f"{name} {part.share:.2f}{'' if part.rank is None else f' (#{part.rank})'}" for name, part in parts.items()
    )


def sessions_table(lines: list[SessionSummary]) -> Table:
    """Return a table of sessions in the order given."""
    namespaced = any(line.namespace for line in lines)
    headings = ["session", *(["namespace"] if namespaced else []), "entries", "unprocessed", "when (UTC)"]
    made = table(*headings, right=["entries", "unprocessed"])
    made.columns[-1].no_wrap = True
    for line in lines:
        cells = [
            Text(one_line(line.session_id), style="cyan"),
            *([Text(path_of(line.namespace))] if namespaced else []),
            *map(Text, (f"{line.entries:,}", f"{line.unprocessed:,}", period(line.first, line.last))),
        ]
        made.add_row(*cells)
    return made


def facts(pairs: Iterable[tuple[str, str]]) -> Table:
    """Return names and values in two columns."""
    grid = Table.grid(padding=(0, 2))
    for name, value in pairs:
        grid.add_row(Text(name, style="bold"), Text(value, overflow="fold"))
    return grid


def entry_facts(entry: EpisodicEntry) -> Table:
    """Return everything about an entry but its content."""
    vector = entry.embedding
    return facts(
        (
            ("id", one_line(entry.id)),
            ("session", one_line(entry.session_id)),
            ("namespace", path_of(entry.namespace) or "none"),
            ("role", one_line(entry.role)),
            ("happened", entry.timestamp.isoformat()),
            ("learned", entry.ingestion_time.isoformat()),
            ("processed", "yes" if entry.processed else "no"),
            ("expires", "never" if entry.expires_at is None else entry.expires_at.isoformat()),
            ("metadata", visible(dumped(dict(entry.metadata)))),
            ("vector", "none" if vector is None else _vector_in_short(vector)),
        )
    )


def _vector_in_short(vector: Vector) -> str:
    first = ", ".join(f"{number:.3f}" for number in vector[:4].tolist())
    return f"{len(vector)} numbers: {first}{', …' if len(vector) > 4 else ''}"  # noqa: PLR2004 (as many as shown)


def turn(entry: EpisodicEntry) -> Iterable[Text | Padding]:
    """Yield an entry as a turn of a transcript: a line with who and when, and the whole content below."""
    head = Text(one_line(entry.role), style="bold cyan")
    head.append(f"  {minute(entry.timestamp)} UTC", style="dim")
    yield head
    yield Padding(Text(visible(entry.content)), (0, 0, 1, 2))
