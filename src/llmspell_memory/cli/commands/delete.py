"""`delete`: remove entries, and where asked every trace of them."""

import dataclasses
import sys
from typing import Annotated, Any

import typer

from llmspell_memory.cli import options
from llmspell_memory.cli.opening import open_to_read
from llmspell_memory.cli.render import entry_count, one_line, print_json
from llmspell_memory.cli.settings import Settings
from llmspell_memory.types import Filter, ForgetReceipt


@options.with_conditions()
def delete(
    ctx: typer.Context,
    *,
    entry_id: Annotated[
        list[str] | None, typer.Option("--id", metavar="ID", help="Only the entry with this id; may be given again.")
    ] = None,
    where: Filter,
    everything: Annotated[
        bool, typer.Option("--all", help="Delete every entry; needed where no condition is.")
    ] = False,
    erase: Annotated[
        bool, typer.Option("--erase", help="Leave no trace of them in any file; rewrites the store.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Delete the entries that meet every condition given, after asking.

    --json prints {"deleted": …}; with --erase also {"sessions": …, "ids": […], "finished": …}. Exit code 1 when the
    question was not answered with yes.
    """
    settings = options.settings_of(ctx)
    where = dataclasses.replace(where, ids=frozenset(entry_id) if entry_id else None)
    if where.is_everything != everything:
        raise typer.BadParameter(
            "give a condition (--id, --session, --until …), or --all to delete everything, but not both"
        )
    with open_to_read(settings) as memory:
        count = memory.episodic.count(dataclasses.replace(where, expired=None) if erase else where)
        if count and not yes and not _agreed(count, settings):
            raise typer.Exit(1)
        if erase:
            told = _receipt(memory.episodic.forget(where, everything=everything))
        else:
            told = {"deleted": memory.episodic.delete(where, everything=everything) if count else 0}
    if as_json:
        print_json(told)
    else:
        typer.echo(f"{'erased' if erase else 'deleted'} {entry_count(told['deleted'])}")


def _receipt(receipt: ForgetReceipt) -> dict[str, Any]:
    return {
        "deleted": receipt.entries,
        "sessions": receipt.sessions,
        "ids": [{"namespace": list(namespace), "id": entry_id} for namespace, entry_id in receipt.ids],
        "finished": receipt.finished.isoformat(),
    }


def _agreed(count: int, settings: Settings) -> bool:
    sys.stderr.write(f"Delete {entry_count(count)} from {one_line(str(settings.db))}? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() in {"y", "yes"}:
        return True
    sys.stderr.write("nothing was deleted (--yes skips the question)\n")
    return False
