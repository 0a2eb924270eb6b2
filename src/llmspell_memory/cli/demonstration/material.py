"""What the demo is about: a conversation, and questions to it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from llmspell_memory.errors import InputError
from llmspell_memory.types import BatchLimits, Filter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmspell_memory.memory import EpisodicMemory
    from llmspell_memory.protocols import EmbeddingKind, EmbeddingProvider
    from llmspell_memory.types import EpisodicEntry, Matrix

_CONVERSATION: Final = "conversation.jsonl"
_QUESTIONS: Final = "questions.json"
_OWN: Final = 5
_LONGEST: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question to the conversation.

    Attributes:
        text: what is asked.
        evidence: ids of the entries that the answer stands in; empty where nobody has said.
        asked_in: id of the entry whose words it is; that one is no answer to itself.
    """

    text: str
    evidence: frozenset[str] = frozenset()
    asked_in: str | None = None


class Stopwatch:
    """A provider that measures how long another one takes.

    Attributes:
        seconds: spent embedding so far.
    """

    def __init__(self, provider: EmbeddingProvider) -> None:
        self._provider = provider
        self.name, self.model, self.dimensions = provider.name, provider.model, provider.dimensions
        self.limits = getattr(provider, "limits", BatchLimits())
        self.seconds = 0.0

    def embed(self, texts: Sequence[str], *, kind: EmbeddingKind = "document") -> Matrix:
        """Return what the other provider does."""
        began = time.perf_counter()
        try:
            return self._provider.embed(texts, kind=kind)
        finally:
            self.seconds += time.perf_counter() - began


def example() -> Path:
    """Return the conversation that the project comes with.

    Raises:
        InputError: it is not below the current folder.
    """
    path = Path("examples") / _CONVERSATION
    if not path.exists():
        raise InputError(
            f"there is no {path} below {Path.cwd()}; run this in a checkout of the project, or give a file: "
            "llmspell-memory demo FILE"
        )
    return path


def example_questions() -> list[Question]:
    """Return the questions that belong to the example.

    Raises:
        InputError: their file cannot be read.
    """
    path = Path("examples") / _QUESTIONS
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        return [Question(text=one["question"], evidence=frozenset(one["evidence"])) for one in listed]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def own_questions(memory: EpisodicMemory) -> list[Question]:
    """Return a few of the conversation's own user turns, spread over its length; questions where it has some."""
    turns = [entry for entry in memory.scan(Filter(role="user")) if len(entry.content) <= _LONGEST]
    asking = [entry for entry in turns if entry.content.rstrip().endswith("?")]
    chosen: list[EpisodicEntry] = asking or turns
    step = max(1, len(chosen) // _OWN)
    return [Question(text=entry.content, asked_in=entry.id) for entry in chosen[::step][:_OWN]]
