"""`import` and `export`: a store from files and into them."""

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TextIO, cast

import typer
from rich.text import Text

from llmspell_memory.cli import options
from llmspell_memory.cli.opening import open_to_read, open_to_write
from llmspell_memory.cli.progress import progress
from llmspell_memory.cli.render import console, one_line, print_json, table
from llmspell_memory.cli.settings import Settings
from llmspell_memory.errors import InputError
from llmspell_memory.memory import OnDuplicate
from llmspell_memory.operations import Format, export_jsonl, fitting, import_entries, open_source
from llmspell_memory.operations.files.output import written_whole
from llmspell_memory.types import EpisodicEntry, Filter


def import_(
    ctx: typer.Context,
    files: options.Files,
    *,
    file_format: options.ImportFormat = None,
    namespace: Annotated[
        list[str] | None,
        typer.Option("--namespace", metavar="SEGMENT", help="Put the entries below this namespace; once a segment."),
    ] = None,
    reembed: options.Reembed = False,
    skip_duplicates: options.SkipDuplicates = False,
    as_json: options.AsJson = False,
) -> None:
    """Store the entries of files: JSONL, or conversations.json out of an export of ChatGPT or Claude.

    What is there already is passed over, so an import can be repeated. The store is made when it does not exist.
    --json prints {"files": [{"file": …, "format": …, "read": …, "new": …, "left_out": {…}, …}, …]}.
    """
    settings = options.settings_of(ctx)
    below = tuple(namespace or ())
    repeats: OnDuplicate = "skip" if skip_duplicates else "keep"
    wanted = cast("Format | None", None if file_format is None else file_format.value)
    done = []
    for path in files:
        with progress(f"importing {one_line(path.name)}", quiet=as_json) as on_progress:
            done.append(_import_file(path, settings, wanted, below, on_progress, reembed=reembed, repeats=repeats))
    if as_json:
        print_json({"files": done})
    else:
        _print_imports(done)


def _import_file(
    path: Path,
    settings: Settings,
    file_format: Format | None,
    below: tuple[str, ...],
    on_progress: Callable[[int], None],
    *,
    reembed: bool,
    repeats: OnDuplicate,
) -> dict[str, Any]:
    with (
        open_source(path, format=file_format) as source,
        open_to_write(settings, space=None if reembed else source.space) as memory,
    ):
        entries = fitting(source, memory.service.space, reembed=reembed)
        if below:
            entries = (_moved(entry, below) for entry in entries)
        report = import_entries(memory.episodic, entries, on_duplicate=repeats, on_progress=on_progress)
        return {"file": str(path), "format": source.format, **asdict(report), "left_out": dict(source.left_out)}


def _moved(entry: EpisodicEntry, below: tuple[str, ...]) -> EpisodicEntry:
    return entry.changed(namespace=(*below, *entry.namespace))


def _print_imports(done: list[dict[str, Any]]) -> None:
    counts = ["read", "new", "replaced", "unchanged", "embedded"]
    if any(one["skipped"] for one in done):
        counts.insert(4, "skipped")
    shown = table("file", "format", *counts, right=counts)
    for one in done:
        shown.add_row(Text(one_line(one["file"])), one["format"], *(f"{one[name]:,}" for name in counts))
    out = console()
    out.print(shown)
    for one in done:
        if one["left_out"]:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(one["left_out"].items()))
            out.print(Text(one_line(f"left out of {one['file']}: {reasons}")))


@options.with_conditions()
def export_(
    ctx: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE|-", help="Where to; a name in .gz is compressed, - is stdout.")
    ] = "-",
    *,
    no_vectors: Annotated[bool, typer.Option("--no-vectors", help="Leave the vectors out.")] = False,
    where: Filter,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Write entries as JSONL, vectors included, in the order they happened; `import` reads them back without loss.

    --json prints {"file": …, "entries": …, "vectors": true or false}; it needs a FILE.
    """
    settings = options.settings_of(ctx)
    if as_json and file == "-":
        raise typer.BadParameter("with --json give a FILE; on stdout stand the entries, which are JSON already")
    with open_to_read(settings) as memory:
        space = None if no_vectors else memory.service.space
        total = memory.episodic.count(where)
        with (
            _output(file, store=settings.db.path, force=force) as stream,
            progress("exporting", total=total, quiet=as_json) as on_progress,
        ):
            count = export_jsonl(memory.episodic, stream, space=space, where=where, on_progress=on_progress)
    if as_json:
        print_json({"file": file, "entries": count, "vectors": not no_vectors})
    elif file != "-":
        typer.echo(f"exported {count:,} entries to {one_line(file)}")


@contextmanager
def _output(name: str, *, store: Path | None, force: bool) -> Iterator[TextIO]:
    """Give a stream in UTF-8, on stdout or into a file."""
    if name == "-":
        stream = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", newline="\n", write_through=True)
        try:
            yield stream
        finally:
            stream.detach()  # stdout stays open
        return
    path = Path(name)
    if path.exists() and (not force or (store is not None and path.samefile(store))):
        raise InputError(f"{path} exists; choose another name, or replace it with --force (the store itself never is)")
    with written_whole(path) as file:
        yield file
