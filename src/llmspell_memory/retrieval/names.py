"""Who a question names: what was said by Ada hardly ever contains "Ada", so her name is not to be looked for in it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import Filter

_WORD: Final = re.compile(r"[^\W_]+")

_NOBODY: Final = frozenset(
    "user assistant system tool function agent human ai bot model developer customer client support operator".split()  # noqa: SIM905 (to be read)
)
"""Roles that are no names: a question with such a word may well mean the thing."""

_SELDOM_NAMES: Final = frozenset("will may can mark art grace hope joy rose sue bill rob pat jack frank max".split())  # noqa: SIM905 (to be read)
"""Words that are names where they are written like one."""


def named_roles(text: str, where: Filter, backend: EpisodicBackend) -> tuple[str, ...]:
    """Return the words of `text` that name the role of some entry that matches, such as "Ada"."""
    words = {
        name for word in _WORD.findall(text) if (name := word.casefold()) not in _NOBODY and word not in _SELDOM_NAMES
    }
    return tuple(sorted(backend.named_roles(words, where)))


def without_names(text: str, names: Collection[str]) -> str:
    """Return `text` without these words, and "'s" behind them; as it is, where nothing would be left."""
    if not names:
        return text
    either = "|".join(map(re.escape, names))
    rest = re.sub(rf"(?<!\w)(?:{either})(?:['\u2019]s)?(?!\w)", " ", text, flags=re.IGNORECASE)
    return " ".join(rest.split()) if _WORD.search(rest) else text
