"""Who a question means: by a name, which what that one says hardly ever contains, or by "I" and "you"."""

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

_USER: Final = frozenset({"user", "human"})
_ASSISTANT: Final = frozenset({"assistant", "ai", "bot", "model", "agent"})
"""Roles of who asks, and of who is asked."""

_OF_ASKER: Final = re.compile(r"\b(?:I|[Mm]y|[Mm]ine)\b")
_OF_BOTH: Final = re.compile(
    r"\bremind me\b|\bwe (?:\w+ )?(?:talked|discussed|spoke|chatted|went|covered|said)\b|"
    r"\bour (?:\w+ )?(?:conversations?|chats?|discussions?|talks?|sessions?)\b",
    re.IGNORECASE,
)
_TOLD: Final = """
    recommended suggested said told advised mentioned explained proposed provided gave described listed showed wrote
    offered warned pointed shared taught helped
"""
_WHAT_IS_TOLD: Final = "recommendation suggestion advice answer explanation proposal repl(?:y|ies) response warning"
_OF_ASKED: Final = re.compile(
    rf"\bdid you\b|\byou(?:'ve|'d| have| had)? (?:\w+ )?(?:{'|'.join(_TOLD.split())})\b|"
    rf"\byour (?:\w+ )?(?:{'|'.join(_WHAT_IS_TOLD.split())})",
    re.IGNORECASE,
)


def meant_roles(text: str, where: Filter, backend: EpisodicBackend) -> tuple[str, ...]:
    """Return who is meant by "I" and "you", of a user and an assistant who have entries that match.

    What the assistant said is meant by "you recommended"; what the user did, where it speaks of itself alone.
    """
    if "you" in text.lower() and _OF_ASKED.search(text):
        meant = _ASSISTANT
    elif _OF_ASKER.search(text) and not _OF_BOTH.search(text):
        meant = _USER
    else:
        return ()
    return tuple(sorted(backend.named_roles(meant, where)))


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
