"""`show`: one entry with everything, or one session as a transcript."""

from typing import Annotated

import typer
from rich.text import Text

from llmspell_memory.cli.opening import open_to_read
from llmspell_memory.cli.options import AsJson, Namespace, settings_of
from llmspell_memory.cli.render import console, entry_facts, print_json, turn, visible
from llmspell_memory.errors import InputError, NotFoundError
from llmspell_memory.memory import EpisodicMemory
from llmspell_memory.operations.files.jsonl import entry_object
from llmspell_memory.types import EpisodicEntry, Filter


def show(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="ID_OR_SESSION", help="An entry's id, or else a session's.")],
    *,
    namespace: Namespace = None,
    as_json: AsJson = False,
) -> None:
    """Show an entry with everything it has, or a session from its first entry to its last.

    --json prints {"entry": {…, "embedding": […]}} or {"session_id": …, "entries": […]}.
    """
    settings = settings_of(ctx)
    below = tuple(namespace or ())
    with open_to_read(settings) as memory:
        entry = _entry(memory.episodic, name, below)
        if entry is not None:
            _show_entry(entry, as_json=as_json)
        else:
            _show_session(memory.episodic, name, below, as_json=as_json)


def _entry(memory: EpisodicMemory, name: str, namespace: tuple[str, ...]) -> EpisodicEntry | None:
    found = list(memory.scan(Filter(ids=frozenset([name]), namespace=namespace), limit=2))
    if len(found) > 1:
        raise InputError(f"several namespaces have an entry {name!r}; say which with --namespace")
    return found[0] if found else None


def _show_entry(entry: EpisodicEntry, *, as_json: bool) -> None:
    if as_json:
        vector = [] if entry.embedding is None else entry.embedding.tolist()
        print_json({"entry": entry_object(entry) | {"embedding": vector}})
        return
    out = console()
    out.print(entry_facts(entry))
    out.print()
    out.print(Text(visible(entry.content)))


def _show_session(memory: EpisodicMemory, name: str, namespace: tuple[str, ...], *, as_json: bool) -> None:
    where = Filter(session_id=name, namespace=namespace)
    if not memory.count(where):
        raise NotFoundError(f"no entry and no session is called {name!r}")
    if as_json:
        print_json({"session_id": name, "entries": [entry_object(entry) for entry in memory.scan(where)]})
        return
    out = console()
    for entry in memory.scan(where):
        for line in turn(entry):
            out.print(line)
