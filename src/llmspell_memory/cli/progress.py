"""A moving line on stderr while something takes long; nothing where no person watches."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmspell_memory.operations.migration.report import Phase
    from llmspell_memory.operations.migration.report import Progress as Phases


class Done(Protocol):
    """Says how many are done, and, where that changes, of what and of how many."""

    def __call__(self, done: int, *, what: str | None = None, total: int | None = None) -> None:
        """Move the line."""
        ...


_PHASES: Final[dict[str, str]] = {
    "copy": "copying entries",
    "index": "building the index",
    "compare": "comparing entries",
    "search": "comparing searches",
}


@contextmanager
def progress(what: str, *, total: int | None = None, quiet: bool = False) -> Iterator[Done]:
    """Show how many are done, of `total` where that is known; gives the function to say it by."""
    columns = [
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    ]
    hidden = quiet or not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True, markup=False), transient=True, disable=hidden) as bar:
        task = bar.add_task(what, total=total)

        def move(done: int, *, what: str | None = None, total: int | None = None) -> None:
            bar.update(task, completed=done, description=what, total=total)

        yield move


@contextmanager
def phases(*, quiet: bool = False) -> Iterator[Phases]:
    """Show the phases of a migration, one after the other on one line; gives the function to tell them by."""
    with progress(_PHASES["copy"], quiet=quiet) as move:

        def tell(phase: Phase, done: int, total: int) -> None:
            move(done, what=_PHASES[phase], total=total or None)

        yield tell
