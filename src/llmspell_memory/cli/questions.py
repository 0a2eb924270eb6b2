"""Reads files of questions that a store is to be measured with."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from llmspell_memory.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

_LONGEST: Final = 1_000_000
"""Characters of a line; more is no question."""


def questions_in(path: Path) -> list[str]:
    """Return the questions of a file: of each line its text, or what a JSON object has under "query" or "content".

    Raises:
        InputError: the file cannot be read, or a line is no question; names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # a text may hold what else ends a line in Unicode
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text: {error}") from error
    found = [_question(line, f"{path}:{number}") for number, line in enumerate(lines, start=1) if line.strip()]
    questions = [text for text in found if text is not None]
    if not questions:
        raise InputError(f"{path} holds no query")
    return questions


def _question(line: str, where: str) -> str | None:
    if len(line) > _LONGEST:
        raise InputError(f"{where}: a query of more than {_LONGEST:,} characters")
    if not line.lstrip().startswith("{"):
        return line.strip()
    try:
        read = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: begins like a JSON object and is none: {error}") from error
    if "llmspell_memory" in read:
        return None  # the first line of an export
    text = read.get("query", read.get("content"))
    if not isinstance(text, str) or not text.strip():
        raise InputError(f'{where}: has no text under "query" or "content"')
    return text
