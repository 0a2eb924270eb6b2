"""`demo`: a conversation imported, asked about, measured, closed and opened again."""

import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from llmspell_memory.cli import options
from llmspell_memory.cli.demonstration import material, measure, pages
from llmspell_memory.cli.progress import progress
from llmspell_memory.cli.providers import provider_for_new
from llmspell_memory.cli.render import console, one_line, print_json
from llmspell_memory.cli.settings import Settings
from llmspell_memory.cli.stores import file_of
from llmspell_memory.config import MemoryConfig
from llmspell_memory.embeddings import EmbeddingService
from llmspell_memory.errors import InputError, StorageError
from llmspell_memory.manager import DefaultMemoryManager
from llmspell_memory.operations import fitting, import_entries, open_source


def demo(
    ctx: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A conversation; the project's example unless given.")
    ] = None,
    *,
    question: Annotated[
        list[str] | None, typer.Option("--question", metavar="TEXT", help="Ask this; may be given again.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Import a conversation into a new store, ask it questions, measure both kinds of search, and open it again.

    The store stands in a temporary folder, or where --db says, and is kept. --json prints everything as one document.
    """
    settings = options.settings_of(ctx)
    path = _place(settings)
    watch = material.Stopwatch(provider_for_new(settings))
    service = EmbeddingService(watch)
    show = _Printer(silent=as_json)
    with DefaultMemoryManager.with_config(MemoryConfig.for_production(service, path=path)) as memory:
        report = _import(memory, file or material.example(), watch, show)
        questions, whose = _questions(memory, question, is_example=file is None)
        show(f"{whose}\n")
        answers = measure.answers(memory, questions)
        for number, answer in enumerate(answers, start=1):
            show.all(pages.question_page(number, answer))
        show(f"{pages.evidence_line(answers)}\n")
        views = measure.both_views(path, service, [answer.vector for answer in answers])
        show.all(pages.views_page(views))
        found = measure.reopened(path, service, memory, answers[0])
        show.all(pages.reopened_page(found))
    if not as_json:
        typer.echo(f"The store is {one_line(str(path))}. Go on with:")
        typer.echo(f"  {pages.next_command(path, questions[0].text)}")
    else:
        shown = [pages.answer_object(answer) for answer in answers]
        judged = {"questions": shown, "views": [asdict(view) for view in views], "reopened": asdict(found)}
        print_json({"db": str(path), "import": report, **judged})
    if not found.equal:
        raise StorageError(f"{path} is not what it was before it was closed")


class _Printer:
    """Prints to the terminal, or nothing where JSON is to be printed."""

    def __init__(self, *, silent: bool) -> None:
        self.silent = silent
        self._console = console()

    def __call__(self, line: RenderableType) -> None:
        if not self.silent:
            self._console.print(line)

    def all(self, lines: Iterable[RenderableType]) -> None:
        for line in lines:
            self(line)


def _place(settings: Settings) -> Path:
    """Return where the store is to be. Never the user's own: the environment's name for it does not count here."""
    if not settings.db_named:
        return Path(tempfile.mkdtemp(prefix="llmspell-memory-demo-")) / "memory.db"
    path = file_of(settings.db, "demo", instead="leave --db out, or name a new file")
    if path.exists():
        raise InputError(f"{path} exists, and the demo makes a store of its own; name another file with --db")
    return path


def _import(memory: DefaultMemoryManager, path: Path, watch: material.Stopwatch, show: _Printer) -> dict[str, Any]:
    began = time.perf_counter()
    with open_source(path) as source, progress("importing", quiet=show.silent) as on_progress:
        import_entries(memory.episodic, fitting(source, memory.service.space), on_progress=on_progress)
    seconds = time.perf_counter() - began
    sessions = memory.episodic.sessions()
    if not sessions:
        raise InputError(f"{path} holds no entries to ask about")
    entries = sum(line.entries for line in sessions)
    months = len({entry.timestamp.strftime("%Y-%m") for entry in memory.episodic.scan()})
    space = memory.service.space
    show(
        f"{entries:,} entries of {len(sessions):,} sessions in {months:,} months, from {one_line(str(path))}\n"
        f"imported in {seconds:.2f} s, of which {watch.seconds:.2f} s to embed them with {space}\n"
    )
    return {
        "file": str(path),
        "entries": entries,
        "sessions": len(sessions),
        "months": months,
        "seconds": seconds,
        "embed_seconds": watch.seconds,
        "space": asdict(space),
    }


def _questions(
    memory: DefaultMemoryManager, given: list[str] | None, *, is_example: bool
) -> tuple[list[material.Question], str]:
    """Return the questions, and a sentence that says whose they are."""
    if given:
        return [material.Question(text=text) for text in given], "The questions are yours."
    if is_example:
        return material.example_questions(), "The questions are those of examples/questions.json; ✓ marks the evidence."
    own = material.own_questions(memory.episodic)
    if not own:
        raise InputError("the conversation has no short user turn to ask again; give one with --question")
    return own, "The questions are turns of the conversation itself, each left out of its own hits."
