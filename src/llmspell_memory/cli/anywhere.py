"""The options of the store may stand behind the command as well, where people write them."""

from __future__ import annotations

import copy
import functools
import inspect
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args, get_type_hints

from llmspell_memory.cli.stores import store_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmspell_memory.cli.settings import Settings

_ONLY_BEFORE: Final = {"ctx", "verbose", "version"}


@functools.cache
def _behind(main: Callable[..., None]) -> tuple[inspect.Parameter, ...]:
    """Return the options of `main` as they may stand behind a command."""
    hints = get_type_hints(main, include_extras=True)
    return tuple(
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_unseen(hints[name]))
        for name in inspect.signature(main).parameters
        if name not in _ONLY_BEFORE
    )


def with_options_of(main: Callable[..., None], command: Callable[..., None]) -> Callable[..., None]:
    """Return `command` with the options of `main`, unseen in its help; given behind it, they count instead."""
    behind = _behind(main)
    own = inspect.signature(command)

    @functools.wraps(command)
    def called(ctx: Any, *arguments: Any, **values: Any) -> None:
        given = {one.name: value for one in behind if (value := values.pop(one.name)) is not None}
        ctx.obj = _changed(ctx.obj, given)
        command(ctx, *arguments, **values)

    vars(called)["__signature__"] = own.replace(parameters=[*own.parameters.values(), *behind])
    called.__annotations__ = command.__annotations__ | {one.name: one.annotation for one in behind}
    return called


def _unseen(hint: Any) -> Any:
    """Return an option that may be left out, that no environment variable gives, and that no help names."""
    kind, option = get_args(hint)
    option = copy.copy(option)
    option.hidden = True
    option.envvar = None
    return Annotated[kind | None, option]


def _changed(settings: Settings, given: dict[str, Any]) -> Settings:
    if "db" in given:
        given |= {"db": store_of(given["db"]), "db_named": True}
    return replace(settings, **given)
