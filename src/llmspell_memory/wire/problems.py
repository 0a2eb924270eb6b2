"""Errors as problem details (RFC 9457), and back: what one side raises, the other side raises, too.

The member `type` names the class, as in `urn:llmspell-memory:InputError`; the server's own refusals have names of their
own, and come back as the class of this library that says the same.
"""

from __future__ import annotations

import json
from typing import Any, Final

from llmspell_memory.errors import (
    ClosedError,
    ConfigError,
    CorruptDataError,
    DimensionError,
    EmbeddingError,
    EpisodicError,
    InputError,
    MissingDependencyError,
    NotFoundError,
    NotReadyError,
    SchemaError,
    SpaceChangedError,
    StorageError,
    UnavailableError,
)

CONTENT_TYPE: Final = "application/problem+json"
_URN: Final = "urn:llmspell-memory:"

_STATUS: Final[dict[type[EpisodicError], int]] = {
    InputError: 422,
    DimensionError: 422,
    ConfigError: 422,
    NotFoundError: 404,
    NotReadyError: 409,
    SchemaError: 409,
    SpaceChangedError: 409,
    EmbeddingError: 502,
    ClosedError: 503,
    UnavailableError: 503,
    CorruptDataError: 500,
    MissingDependencyError: 500,
    StorageError: 500,
}
_TITLES: Final = {
    400: "The request is malformed",
    401: "An API key is needed",
    403: "The API key does not allow this",
    404: "Not found",
    405: "Method not allowed",
    408: "The request took too long",
    409: "The store is not in the expected state",
    413: "The request is too large",
    415: "The content type is not accepted",
    422: "The request is not acceptable",
    429: "Too many requests",
    431: "The headers are too large",
    500: "The server failed",
    502: "The embedding provider failed",
    503: "Not available",
}
_REFUSALS: Final[dict[int, type[EpisodicError]]] = {
    401: ConfigError,
    403: ConfigError,
    404: ConfigError,
    405: ConfigError,
    408: UnavailableError,
    429: UnavailableError,
    502: UnavailableError,
    503: UnavailableError,
    504: UnavailableError,
}
"""What a status means where no type of ours says so, as from a proxy in between; others are a StorageError."""


def problem(status: int, detail: str, *, name: str | None = None, **members: Any) -> dict[str, Any]:
    """Return a problem's members."""
    return {
        "type": f"{_URN}{name}" if name else "about:blank",
        "title": _TITLES.get(status, "The server failed"),
        "status": status,
        "detail": detail,
        **members,
    }


def problem_of(error: EpisodicError) -> dict[str, Any]:
    """Return the problem that tells of an error."""
    kind = next(base for base in type(error).__mro__ if base in _STATUS or base is EpisodicError)
    status = _STATUS.get(kind, 500)
    members: dict[str, Any] = {}
    if isinstance(error, ClosedError):  # the server is about to end: to the other side, that is a moment without it
        kind = UnavailableError
    if isinstance(error, DimensionError):
        members = {"expected": error.expected, "got": error.got}
    elif isinstance(error, NotReadyError):
        members = {"missing": list(error.missing)}
    elif isinstance(error, EmbeddingError):
        members = {"retryable": error.retryable, "retry_after": error.retry_after}
    elif isinstance(error, MissingDependencyError):
        members = {"package": error.package, "extra": error.extra}
    return problem(status, str(error), name=kind.__name__, **members)


def error_from(told: dict[str, Any], status: int) -> EpisodicError:
    """Return the error that a problem tells of."""
    detail = str(told.get("detail") or told.get("title") or f"the server answered {status}")
    name = str(told.get("type", "")).removeprefix(_URN)
    if name == DimensionError.__name__ and {"expected", "got"} <= told.keys():
        return DimensionError(expected=told["expected"], got=told["got"])
    if name == NotReadyError.__name__ and isinstance(told.get("missing"), list):
        return NotReadyError(told["missing"])
    if name == EmbeddingError.__name__:
        return EmbeddingError(detail, retryable=bool(told.get("retryable")), retry_after=told.get("retry_after"))
    if name == MissingDependencyError.__name__ and {"package", "extra"} <= told.keys():
        return StorageError(f"the server lacks a package: {detail}")
    kind = _BY_NAME.get(name) or _REFUSALS.get(status, StorageError)
    return kind(detail)


_BY_NAME: Final = {
    kind.__name__: kind
    for kind in (
        *(InputError, ConfigError, NotFoundError, SchemaError, SpaceChangedError),
        *(UnavailableError, CorruptDataError, StorageError),
    )
}


def written(told: dict[str, Any]) -> bytes:
    """Return a problem as it is sent; texts may hold anything, so all but ASCII is escaped."""
    return json.dumps(told).encode()
