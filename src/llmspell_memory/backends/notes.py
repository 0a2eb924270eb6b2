"""Notes that a store keeps about itself: what was chosen, and that it is being brought level and is not yet whole."""

from __future__ import annotations

import json
import logging
import secrets
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from llmspell_memory.errors import ConfigError
from llmspell_memory.types import KeywordConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import Identity

logger = logging.getLogger(__name__)

MIGRATION: Final = "migration"
ROLLBACK: Final = "rollback"
KEPT: Final = "rollback-kept"
"""Identities of rows that a rollback has left alone, since they did not come from the store it brings back."""

KEYWORDS: Final = "keywords"
"""How words are told apart and scored, as it was last chosen."""

ERAS: Final = "eras"
"""Of a file: pairs of the first number that was written after each opening of it, and something random."""

_OF_A_MOVE: Final = ("migration", "rollback", "rollout")
"""How the names of notes begin that tell how a store stands to another."""

UNFINISHED: Final = "unfinished"
FINISHED: Final = "finished"

_ERAS: Final = 64
"""Openings that a file remembers."""

REMEDY: Final = {
    MIGRATION: "the same `llmspell-memory migrate` goes on where it stopped; until then use the store it comes from",
    ROLLBACK: "the same `llmspell-memory rollback` goes on where it stopped; until then use the store it comes from",
}
"""What to do about one that is unfinished."""


def is_of_this_store(name: str) -> bool:
    """Say whether a note tells of one store and its past: it would not be true of a copy that is a store of its own."""
    return name == ERAS or name.startswith(_OF_A_MOVE)


def fields_of(text: str | None) -> dict[str, Any] | None:
    """Return a note's fields; None where it is no JSON object."""
    try:
        fields = json.loads(text or "null")
    except ValueError:
        return None
    return fields if isinstance(fields, dict) else None


def read_note(backend: EpisodicBackend, name: str) -> dict[str, Any] | None:
    """Return a note of a store that is a JSON object; None where there is none, or something else."""
    return fields_of(backend.read_note(name))


def noted_keywords(text: str | None) -> KeywordConfig:
    """Return how a store's words are told apart and scored; as by default where its note cannot be read."""
    fields = fields_of(text)
    try:
        return KeywordConfig() if fields is None else KeywordConfig(**fields)
    except (TypeError, ConfigError) as error:
        logger.warning("What the store records of its keywords cannot be read: %s", error)
        return KeywordConfig()


def keywords_note(config: KeywordConfig) -> str:
    """Return the note of a choice."""
    return json.dumps(asdict(config))


def era_of(backend: EpisodicBackend, number: int) -> str | None:
    """Return what tells by which opening of a store a number was written; None where it does not say.

    A backup that was put back gets other numbers, and then the same ones again: by this they are told apart.
    """
    eras = (read_note(backend, ERAS) or {}).get("eras", ())
    return next((era for first, era in reversed(eras) if first <= number), None)


def with_era(text: str | None, first: int) -> str:
    """Return the note of a store that is written to for the first time since it was opened, at this number."""
    known = (fields_of(text) or {}).get("eras", [])
    return json.dumps({"eras": [*known, [first, secrets.token_hex(4)]][-_ERAS:]})


def with_names(name: str, text: str, there: Callable[[Identity], bool]) -> str:
    """Return a note with those identities alone of which there still is a row: the others may be forgotten."""
    value = json.loads(text)
    names = value if name == KEPT else value.get("writing")
    if not names:
        return text
    left = [[namespace, one] for namespace, one in names if there((tuple(namespace), one))]
    return json.dumps(left if name == KEPT else value | {"writing": left})


def unfinished(backend: EpisodicBackend) -> str | None:
    """Return the name of what has been begun in a store and not finished, "migration" or "rollback"; None for neither.

    Such a store may lack entries.
    """
    for name in (MIGRATION, ROLLBACK):
        fields = read_note(backend, name)
        if fields is not None and fields.get("state") == UNFINISHED:
            return name
    return None
