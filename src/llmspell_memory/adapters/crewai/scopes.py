"""CrewAI's scopes: paths such as "/crew/research", compared segment by segment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmspell_memory.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable


def path_of(scope: str | None) -> str:
    """Return a scope as it is compared: one slash before each segment and none behind the last; "/" for all.

    Raises:
        InputError: it is no text.
    """
    if scope is not None and not isinstance(scope, str):
        raise InputError(f'a scope must be a text such as "/crew/research", got {type(scope).__name__}')
    return "/" + "/".join(segment for segment in (scope or "").split("/") if segment)


def paths_to(path: str) -> list[str]:
    """Return the paths that a record of `path` lies in: itself and all above it but "/", in which all lie."""
    segments = path.split("/")
    return ["/".join(segments[:n]) for n in range(2, len(segments) + 1)] if path != "/" else []


def children_of(path: str, scopes: Iterable[str]) -> list[str]:
    """Return the paths one segment below `path` that one of `scopes` lies in, in order."""
    start = path.rstrip("/") + "/"
    below = (one[len(start) :].partition("/")[0] for one in scopes if one.startswith(start))
    return sorted({start + segment for segment in below if segment})
