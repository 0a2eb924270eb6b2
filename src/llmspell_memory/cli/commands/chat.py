"""`chat`: a conversation that remembers."""

import os
import sys
from collections.abc import Iterator
from contextlib import closing, nullcontext
from typing import Annotated, Final

import typer
from rich.text import Text

from llmspell_memory.cli import options
from llmspell_memory.cli.chatting import Conversation, Endpoint, EndpointError, new_session, told
from llmspell_memory.cli.opening import open_to_write
from llmspell_memory.cli.render import console, print_json, visible

_PROMPT: Final = "you> "


def chat(
    ctx: typer.Context,
    *,
    endpoint: Annotated[
        str | None,
        typer.Option(
            "--endpoint", metavar="URL", help="What stands before /chat/completions; without it, nothing answers."
        ),
    ] = None,
    chat_model: Annotated[
        str, typer.Option("--chat-model", metavar="NAME", help="The model that answers there.")
    ] = "gpt-4o-mini",
    session: Annotated[
        str | None, typer.Option("--session", metavar="ID", help="Go on with this session; a new one unless given.")
    ] = None,
    budget: Annotated[
        int, typer.Option("--budget", metavar="TOKENS", min=0, help="The most that what is remembered may count.")
    ] = 2000,
    as_json: options.AsJson = False,
) -> None:
    """Talk line by line, until the end of the input: every turn is kept, and what earlier ones say of it is at hand.

    With --endpoint, a model answers that is told what is remembered: OpenAI's (https://api.openai.com/v1, by
    OPENAI_API_KEY) or any server that speaks the same, such as http://localhost:11434/v1. Without it, what is
    remembered is shown. --json prints {"said": …, "answer": …, "remembered": …, "sources": […]}, one object a line.
    """
    model = None if endpoint is None else Endpoint(endpoint, chat_model, key=os.environ.get("OPENAI_API_KEY"))
    with (
        closing(model) if model else nullcontext(),
        open_to_write(options.settings_of(ctx)) as memory,
    ):
        talk = Conversation(memory.episodic, model, session=session or new_session(), budget=budget)
        for line in _lines(quiet=as_json):
            try:
                turn = talk.say(line)
            except EndpointError as error:
                sys.stderr.write(f"{' '.join(visible(str(error)).split())}\n")
                continue
            if as_json:
                print_json(told(turn, line), indent=None)
            else:
                console().print(Text(visible(turn.answer or turn.remembered.text or "nothing is remembered of that")))


def _lines(*, quiet: bool) -> Iterator[str]:
    """Yield what is typed, line by line, without what is empty."""
    asks = sys.stdin.isatty() and not quiet
    while True:
        if asks:
            sys.stdout.write(_PROMPT)
        sys.stdout.flush()
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()
