"""The command line as the program describes it: commands with help, arguments, options and environment variables.

Names, values, defaults and ranges are what `--help` shows, for it is asked for them.
"""

from __future__ import annotations

import inspect
from typing import Any, Final

import typer.main

from llmspell_memory.cli.app import app
from reference.markdown import VARIABLE, code, definitions, document, heading, paragraphs, prose

PROGRAM: Final = "llmspell-memory"
_REQUIRED: Final = "required"


def page() -> str:
    """Return all commands, in the order that the program lists them."""
    group: Any = typer.main.get_command(app)
    context = group.context_class(group, info_name=PROGRAM)
    return document(
        heading(2, "For all commands", "options"),
        _described(group, context, "options"),
        *(_command(one, context) for one in group.commands.values()),
        heading(2, "Environment variables", "environment"),
        "Each with the commands whose help tells of it.",
        _variables(group, context),
    )


def _command(command: Any, above: Any) -> str:
    context = command.context_class(command, info_name=command.name, parent=above)
    return document(
        heading(2, code(command.name), command.name),
        _described(command, context, command.name),
        f"What it prints, and more: [the guide](cli.md#{command.name}).",
    )


def _described(command: Any, context: Any, anchor: str) -> str:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    parameters = [one for one in _seen(command, context) if "--help" not in one.opts]
    arguments = [_parameter(one, context, anchor) for one in parameters if one.param_type_name == "argument"]
    options = [_parameter(one, context, anchor) for one in parameters if one.param_type_name == "option"]
    return document(
        paragraphs(_help(command)),
        f"```text\n{usage}\n```",
        "**Arguments**" if arguments else "",
        definitions(arguments),
        "**Options**" if options else "",
        definitions(options),
    )


def _seen(command: Any, context: Any) -> list[Any]:
    """Return the parameters that `--help` shows; those of the store may stand behind a command, where it hides them."""
    return [one for one in command.get_params(context) if one.get_help_record(context)]


def _help(command: Any) -> str:
    return inspect.cleandoc(command.help or "")


def _parameter(parameter: Any, context: Any, anchor: str) -> tuple[str, str]:
    """Return a parameter's name as `--help` writes it, and what that says of it."""
    name, told = parameter.get_help_record(context)
    if parameter.param_type_name == "argument":
        name = name.partition(" <")[0]  # its type, which stands there beside its name
    text, bracket, more = told.rpartition("  [") if told.endswith("]") else (told, "", "")
    notes = more.removesuffix("]").split("; ") if bracket else []
    needed = " *required*" if _REQUIRED in notes else ""
    further = ", ".join(_note(one) for one in notes if one != _REQUIRED)
    sentences = [prose(text.strip()), f"{further[0].upper()}{further[1:]}." if further else ""]
    return f"{code(name)}{needed} {{: #{anchor}{_long(parameter)} }}", " ".join(one for one in sentences if one)


def _note(told: str) -> str:
    """Return what stands in brackets after a help text: a default, a range, a variable."""
    what, colon, value = told.partition(": ")
    return f"{'environment variable' if what == 'env var' else what} {code(value)}" if colon else code(told)


def _long(parameter: Any) -> str:
    named: str = max(parameter.opts, key=len)
    return named if named.startswith("-") else f"-{named}"


def _variables(group: Any, context: Any) -> str:
    """Return the environment variables that options and help texts name, and where they do."""
    named: dict[str, list[str]] = {}
    for link, command in ((f"[{code(PROGRAM)}](#options)", group), *_links(group)):
        texts = [_help(command), *(f"{one.help or ''} {one.envvar or ''}" for one in _seen(command, context))]
        for variable in sorted(set(VARIABLE.findall(" ".join(texts)))):
            named.setdefault(variable, []).append(link)
    return definitions((code(name), ", ".join(links)) for name, links in sorted(named.items()))


def _links(group: Any) -> list[tuple[str, Any]]:
    return [(f"[{code(name)}](#{name})", one) for name, one in group.commands.items()]
