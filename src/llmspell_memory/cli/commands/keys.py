"""`keys`: who may use a memory that is served."""

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, cast, get_args

import typer

from llmspell_memory.cli import options
from llmspell_memory.cli.opening import open_to_read, open_to_write
from llmspell_memory.cli.render import one_line, print_json
from llmspell_memory.errors import InputError
from llmspell_memory.operations.keys import Access, ApiKey, add_key, read_keys, revoke_key


class _Act(StrEnum):
    """What is to be done."""

    ADD = "add"
    LIST = "list"
    REVOKE = "revoke"


_Allowed = StrEnum("_Allowed", {name.upper(): name for name in get_args(Access)})  # type: ignore[misc]  # one list of names


def keys(
    ctx: typer.Context,
    act: Annotated[_Act, typer.Argument(metavar="add|list|revoke", help="What to do.")],
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The key's name; to revoke, its id will do.")
    ] = None,
    *,
    access: Annotated[_Allowed, typer.Option("--access", help="What a new key may do.")] = _Allowed("read"),
    namespace: options.OwnNamespace = None,
    as_json: options.AsJson = False,
) -> None:
    """Make an API key for `serve`, list those there are, or revoke one; servers know it within seconds.

    A new key is printed this once: the store keeps what it can be recognized by. With --namespace, it shows that
    namespace alone, as if there were no other. --json prints {"key": …, "id": …, "name": …, "namespace": […], …} for a
    new key, the same without "key" for a revoked one, and a list of these.
    """
    settings = options.settings_of(ctx)
    if act is _Act.LIST:
        if name is not None:
            raise typer.BadParameter("`keys list` lists all keys, and takes no name")
        with open_to_read(settings) as memory:
            _list(read_keys(memory.backend), as_json=as_json)
        return
    if name is None:
        raise InputError(f"name the key: llmspell-memory keys {act} NAME")
    if act is _Act.ADD:
        with open_to_write(settings) as memory:
            key, secret = add_key(
                memory.backend, name, namespace=tuple(namespace or ()), access=cast("Access", access.value)
            )
        if as_json:
            print_json({"key": secret, **_told(key)})
        else:
            typer.echo(secret)
        return
    with open_to_read(settings) as memory:
        revoked = revoke_key(memory.backend, name)
    if as_json:
        print_json(_told(revoked))
    else:
        typer.echo(f"revoked {one_line(revoked.name)}")


def _list(there: list[ApiKey], *, as_json: bool) -> None:
    if as_json:
        print_json([_told(key) for key in there])
        return
    for key in there:
        place = "/".join(key.namespace) or "the whole store"
        typer.echo(one_line(f"{key.id}  {key.access:5}  {key.created:%Y-%m-%d}  {key.name}  {place}"))


def _told(key: ApiKey) -> dict[str, object]:
    told = asdict(key)
    del told["digest"]
    return told | {"created": key.created.isoformat(), "namespace": list(key.namespace)}
