"""The command itself: global options, the list of commands, and how every one of them ends."""

import errno
import logging
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

import llmspell_memory
from llmspell_memory.cli.anywhere import with_options_of
from llmspell_memory.cli.commands.add import add
from llmspell_memory.cli.commands.care import backup, check, repair
from llmspell_memory.cli.commands.chat import chat
from llmspell_memory.cli.commands.delete import delete
from llmspell_memory.cli.commands.demo import demo
from llmspell_memory.cli.commands.doctor import doctor
from llmspell_memory.cli.commands.files import export_, import_
from llmspell_memory.cli.commands.keys import keys
from llmspell_memory.cli.commands.mcp import mcp
from llmspell_memory.cli.commands.migrate import migrate, rollback
from llmspell_memory.cli.commands.recall import context, recent
from llmspell_memory.cli.commands.reembed import reembed
from llmspell_memory.cli.commands.rollout import rollout
from llmspell_memory.cli.commands.search import search
from llmspell_memory.cli.commands.serve import serve
from llmspell_memory.cli.commands.sessions import sessions
from llmspell_memory.cli.commands.show import show
from llmspell_memory.cli.commands.stats import stats
from llmspell_memory.cli.commands.sweep import sweep
from llmspell_memory.cli.commands.tune import advise, tune
from llmspell_memory.cli.render import visible
from llmspell_memory.cli.settings import ProviderName, Settings
from llmspell_memory.cli.stores import store_of
from llmspell_memory.errors import EpisodicError

_INTERRUPTED = 130
_NO_READER = 141
"""What a shell says of a command that a signal ended: 128 and the number of SIGINT, of SIGPIPE."""


class _Commands(TyperGroup):
    """Ends every command: errors of the library as one line, a closed pipe quietly."""

    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except EpisodicError as error:
            _complain(f"{error}{_notes(error)}")
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            _complain(f"interrupted{_notes(error)}")
            raise typer.Exit(_INTERRUPTED) from error
        except OSError as error:
            if not _means_no_reader(error):
                raise
            # What is still in the buffer would be tried again at exit, and complained about.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(_NO_READER) from error
        return result


def _means_no_reader(error: OSError) -> bool:
    """Windows calls it an invalid argument to write to a pipe that nobody reads."""
    return isinstance(error, BrokenPipeError) or (sys.platform == "win32" and error.errno == errno.EINVAL)


def _complain(message: str) -> None:
    sys.stderr.write(" ".join(visible(f"llmspell-memory: {message}").split()) + "\n")


def _notes(error: BaseException) -> str:
    return "".join(f"; {note}" for note in getattr(error, "__notes__", ()))


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"llmspell-memory {llmspell_memory.__version__}")
        raise typer.Exit


@app.callback()
def main(
    ctx: typer.Context,
    *,
    db: Annotated[
        str,
        typer.Option("--db", metavar="PATH|URL", envvar="LLMSPELL_MEMORY_DB", help="The store: a file, or its URL."),
    ] = "memory.db",
    provider: Annotated[
        ProviderName | None,
        typer.Option("--provider", help="Who embeds in a new store, local unless given; an existing one records it."),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="NAME", help="The provider's model.")] = None,
    base_url: Annotated[
        str | None, typer.Option("--base-url", metavar="URL", help="The server of openai or ollama.")
    ] = None,
    dimensions: Annotated[
        int | None,
        typer.Option(
            "--dimensions", metavar="N", min=1, help="Width of the vectors, where the provider lets one choose."
        ),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(
            "--language",
            metavar="NAME",
            help="Whose stems make words alike, english unless given, or none; the store records it.",
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log to stderr what is going on.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Store what was said and done, and find what matters.

    The store is one file, or is kept by a server: postgresql://user@host/database#schema, its password by PGPASSWORD or
    .pgpass; milvus+http://host:19530/database#prefix, its token by MILVUS_TOKEN. --db or LLMSPELL_MEMORY_DB names it.
    The provider openai reads OPENAI_API_KEY. These options may stand behind the command, too. Every command has its own
    --help.
    """
    del version
    if verbose:
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    source = ctx.get_parameter_source("db")
    ctx.obj = Settings(
        db=store_of(db),
        db_named=source is not None and source.name == "COMMANDLINE",
        provider=provider,
        model=model,
        base_url=base_url,
        dimensions=dimensions,
        language=language,
    )


_COMMANDS: Final[dict[str, tuple[Callable[..., None], str]]] = {
    "add": (add, "Store an entry."),
    "search": (search, "Find what answers a question."),
    "context": (context, "Print it as a text for a prompt."),
    "recent": (recent, "Show the newest entries."),
    "chat": (chat, "Talk, and remember it."),
    "sessions": (sessions, "List sessions."),
    "show": (show, "Show an entry or a session."),
    "stats": (stats, "Show figures about the store."),
    "import": (import_, "Store the entries of files."),
    "export": (export_, "Write entries to a file."),
    "delete": (delete, "Delete entries."),
    "sweep": (sweep, "Delete what has expired."),
    "migrate": (migrate, "Move the memory to another store."),
    "rollback": (rollback, "Move back what was written since."),
    "backup": (backup, "Copy the store while it is in use."),
    "check": (check, "Look for damage."),
    "repair": (repair, "Make a new store from a damaged one."),
    "reembed": (reembed, "Move to another embedding model."),
    "tune": (tune, "Measure which parameters the index wants."),
    "advise": (advise, "Say whether HNSW pays."),
    "rollout": (rollout, "Try another store beside this one."),
    "serve": (serve, "Serve the store over HTTP."),
    "keys": (keys, "Make and revoke API keys for it."),
    "mcp": (mcp, "Serve the store to language models (MCP)."),
    "doctor": (doctor, "Look at this machine and the store."),
    "demo": (demo, "Try it all on a conversation."),
}
for _name, (_command, _help) in _COMMANDS.items():
    app.command(_name, short_help=_help)(with_options_of(main, _command))
