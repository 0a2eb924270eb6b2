"""The OpenAPI document, made of the operations themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import llmspell_memory
from llmspell_memory.server.operations import LOOKS, VERBS, WORDS
from llmspell_memory.server.schemas import CONDITIONS, PARAMETERS, TEXT, answers, bodies, ref, schemas
from llmspell_memory.server.streaming import MEDIA_TYPE
from llmspell_memory.wire.problems import CONTENT_TYPE

if TYPE_CHECKING:
    from llmspell_memory.server.gate import Need
    from llmspell_memory.server.operations import Operation
    from llmspell_memory.server.settings import ServerConfig

_TOLD: Final = {
    400: "The body is not JSON.",
    401: "There is no API key, or it is not known.",
    403: "The key may not do this.",
    404: "There is none.",
    408: "The body came too slowly.",
    409: "The store is in another embedding space.",
    413: "The body is too large.",
    415: "The body is of another content type.",
    422: "Something in the request is not acceptable; the detail says what.",
    429: "Too many requests with this key; Retry-After says how long to wait.",
    500: "The store failed.",
    502: "The embedding provider failed.",
    503: "The store or the server is not available; try again.",
}
_RIGHTS: Final[dict[Need, list[str]]] = {
    "nothing": [],
    "read": ["read"],
    "write": ["write"],
    "whole": ["write", "whole"],
}
"""What a key must be allowed, by what an operation needs; roles, as OpenAPI 3.1 has them for keys."""

_ALLOWED: Final = (
    "An API key, lsm_…. Operations name what it must be allowed: `read`, which every key is; `write`; `whole`, which "
    "keys without a namespace are."
)
_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    "description": "Sent again with the same body, the request is done once and answered twice.",
}


def document(settings: ServerConfig, dimensions: int) -> dict[str, Any]:
    """Return the document for a server with these limits, whose vectors are so wide."""
    paths: dict[str, dict[str, Any]] = {}
    taken, given = bodies(settings), answers()
    for tag, operations in (("memory", WORDS), ("backend", VERBS), ("page", LOOKS)):
        for one in operations:
            paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, tag, settings, taken, given)
    for path, name, told in (
        ("/healthz", "health", "Say that the server runs"),
        ("/readyz", "ready", "Say whether the store answers"),
    ):
        paths[path] = {"get": _open(name, told, {"application/json": {"schema": given[name]}}, failing=name == "ready")}
    text = {"text/plain": {"schema": {"type": "string"}}}
    paths["/metrics"] = {
        "get": _open("metrics", "Return figures as Prometheus reads them, to a key of the whole store", text)
        | {"security": [{"key": ["read", "whole"]}]}
    }
    paths["/metrics"]["get"]["responses"] |= {str(status): _problem(status) for status in (401, 403, 429, 500, 503)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "llmspell-memory",
            "version": llmspell_memory.__version__,
            "description": "Episodic memory for AI agents. The namespace of an API key is the root of what it sees.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [
            {"name": "memory", "description": "What people and programs use."},
            {"name": "backend", "description": "The verbs of a backend, which the client in Python is made of."},
            {"name": "page", "description": "What the page at / asks for beside those."},
            {"name": "operation", "description": "For who runs the server."},
        ],
        "paths": paths,
        "components": {
            "schemas": schemas(settings, dimensions),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": _ALLOWED}},
        },
        "security": [{"key": []}],
    }


def _operation(
    one: Operation, tag: str, settings: ServerConfig, taken: dict[str, dict[str, Any]], given: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    statuses = [401, 403, 422, 429, 500, 503]
    told: dict[str, Any] = {"operationId": one.name, "summary": one.summary, "tags": [tag]}
    told["security"] = [{"key": _RIGHTS[one.need]}] if one.need != "nothing" else []
    parameters = [_parameter(name, settings) for name in one.parameters]
    if "{id}" in one.path:
        parameters.insert(0, {"name": "id", "in": "path", "required": True, "schema": TEXT})
        statuses.append(404)
    if one.repeats:
        parameters.append(_KEY)
    if parameters:
        told["parameters"] = parameters
    if one.takes_body:
        content: dict[str, Any] = {"schema": taken[one.name]}
        if one.example is not None:
            content["example"] = one.example
        told["requestBody"] = {"required": True, "content": {"application/json": content}}
    elif one.method == "POST":
        told["requestBody"] = {"required": True, "content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}
    if one.method == "POST":
        statuses += [400, 408, 409, 413, 415, 502]
    schema = {"schema": {"type": "string"}} if one.lines else {"schema": given[one.name]}
    done: dict[str, Any] = {
        "description": "Lines of JSON." if one.lines else "Done.",
        "content": {MEDIA_TYPE if one.lines else "application/json": schema},
    }
    if one.name == "addEntries":
        first = {"id": "$response.body#/ids/0"}
        done["links"] = {name: {"operationId": name, "parameters": first} for name in ("getEntry", "deleteEntry")}
    told["responses"] = {str(one.status): done} | {str(status): _problem(status) for status in sorted(statuses)}
    return told


def _parameter(name: str, settings: ServerConfig) -> dict[str, Any]:
    limit = {"type": "integer", "minimum": 0, "maximum": settings.batch, "description": "How many at most."}
    schema = limit if name == "limit" else CONDITIONS.get(name) or PARAMETERS[name]
    if name == "metadata":
        return {"name": name, "in": "query", "content": {"application/json": {"schema": schema}}}
    return {"name": name, "in": "query", "schema": schema}


def _problem(status: int) -> dict[str, Any]:
    return {"description": _TOLD[status], "content": {CONTENT_TYPE: {"schema": ref("Problem")}}}


def _open(name: str, summary: str, content: dict[str, Any], *, failing: bool = False) -> dict[str, Any]:
    responses = {"200": {"description": "Done.", "content": content}}
    if failing:
        responses["503"] = _problem(503)
    return {"operationId": name, "summary": summary, "tags": ["operation"], "security": [], "responses": responses}
