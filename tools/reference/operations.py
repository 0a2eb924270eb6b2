"""The operations of the server as its OpenAPI document has them, in Markdown."""

from __future__ import annotations

import json
from typing import Any, Final

from llmspell_memory.server.openapi import document as openapi
from llmspell_memory.server.settings import ServerConfig
from reference.markdown import code, definitions, document, heading, prose
from reference.schemas import Teller

DIMENSIONS: Final = 256
"""Width of the vectors of the store that is described: those of the provider `local`."""

_RIGHTS: Final = {
    (): "Needs no key",
    ("read",): "Needs any key",
    ("write",): "Needs a key with `--access write`",
    ("read", "whole"): "Needs a key without `--namespace`",
    ("write", "whole"): "Needs a key with `--access write` and without `--namespace`",
}
_COMPONENT: Final = "#/components/schemas/"
_VERBS: Final = "backend"
"""The tag of the verbs."""


def operations_page() -> str:
    """Return what people and programs ask for, by tag, and what errors mean."""
    described = _described()
    return document(
        *(_tag(tag, described) for tag in described["tags"] if tag["name"] != _VERBS),
        heading(2, "Errors", "errors"),
        definitions((f"{code(one)} {{: #error-{one} }}", prose(told)) for one, told in sorted(_errors(described))),
    )


def verbs_page() -> str:
    """Return the verbs of a backend."""
    return document(*(_operation(2, *one) for one in operations(_described()) if _VERBS in one[2]["tags"]))


def schemas_page() -> str:
    """Return the schemas that operations share."""
    schemas = _described()["components"]["schemas"].items()
    return document(*(document(heading(2, name, _anchor(name)), _TELLER.told(schema)) for name, schema in schemas))


def _described() -> dict[str, Any]:
    return openapi(ServerConfig(), DIMENSIONS)


def _linked(reference: str) -> str:
    name = reference.removeprefix(_COMPONENT)
    return f"[{name}](schemas.md#{_anchor(name)})"


def _anchor(schema: str) -> str:
    return schema.lower()


_TELLER: Final = Teller(_linked)


def operations(described: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Return method, path and description of each operation of an OpenAPI document."""
    return [
        (method.upper(), path, told) for path, methods in described["paths"].items() for method, told in methods.items()
    ]


def _tag(tag: dict[str, str], described: dict[str, Any]) -> str:
    of_it = [one for one in operations(described) if tag["name"] in one[2]["tags"]]
    return document(
        heading(2, tag["name"].capitalize(), f"tag-{tag['name']}"),
        prose(tag["description"]),
        *(_operation(3, *one) for one in of_it),
    )


def _operation(level: int, method: str, path: str, told: dict[str, Any]) -> str:
    answers = {status: one for status, one in told["responses"].items() if status.startswith("2")}
    errors = [status for status in told["responses"] if status not in answers]
    return document(
        heading(level, code(f"{method} {path}"), told["operationId"]),
        f"{prose(told['summary'])}.",
        f"{_RIGHTS[_roles(told)]}. OperationId {code(told['operationId'])}.",
        "**Parameters**" if "parameters" in told else "",
        definitions(_parameter(one) for one in told.get("parameters", ())),
        _body(told["requestBody"]) if "requestBody" in told else "",
        *(_answer(status, one) for status, one in answers.items()),
        f"**Errors** {' '.join(f'[{one}](operations.md#error-{one})' for one in errors)}" if errors else "",
    )


def _roles(told: dict[str, Any]) -> tuple[str, ...]:
    """Return the rights that a key must have."""
    needs = told["security"]
    return tuple(needs[0]["key"]) if needs else ()


def _parameter(told: dict[str, Any]) -> tuple[str, str]:
    ((_, schema),) = told["content"].items() if "content" in told else (("", told),)
    where = {"path": "in the path", "query": "", "header": "a header"}[told["in"]]
    name = f"{code(told['name'])}{' *required*' if told.get('required') else ''}{f' {where}' if where else ''}"
    as_json = "JSON: " if "content" in told else ""
    meaning = as_json + _TELLER.told(schema["schema"])
    return name, f"{meaning} {prose(told.get('description', ''))}".strip()


def _body(told: dict[str, Any]) -> str:
    ((media_type, content),) = told["content"].items()
    return document(
        _content("Body", media_type, content),
        f"```json\n{json.dumps(content['example'], indent=2, ensure_ascii=False)}\n```" if "example" in content else "",
    )


def _answer(status: str, told: dict[str, Any]) -> str:
    ((media_type, content),) = told["content"].items()
    return _content(status, media_type, content)


def _content(what: str, media_type: str, content: dict[str, Any]) -> str:
    told = _TELLER.told(content["schema"])
    return f"**{what}** {code(media_type)}{chr(10) * 2 if told.startswith('<') else ' '}{told}"


def _errors(described: dict[str, Any]) -> set[tuple[str, str]]:
    """Return what each status of an error means, which is the same for all operations."""
    return {
        (status, one["description"])
        for _, _, told in operations(described)
        for status, one in told["responses"].items()
        if not status.startswith("2")
    }
