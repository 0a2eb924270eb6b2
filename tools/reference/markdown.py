"""Markdown that shows a text as it is: nothing in help texts and descriptions is read as markup, but for `code`."""

from __future__ import annotations

import html
import re
import textwrap
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_FLAT: Final = r"\{[^{}]*\}"
_JSON: Final = rf"\{{(?:[^{{}}]|\{{(?:[^{{}}]|{_FLAT})*\}})*\}}"
_CODE: Final = re.compile(
    r"`(?P<marked>[^`\n]+)`"
    rf"|(?P<json>{_JSON})"
    r"|(?P<option>(?<![\w-])--[a-z][a-z-]*)"
    r"|(?P<variable>\b(?:[A-Z]+_[A-Z_]+|PG[A-Z]+)\b)"
    r"|(?P<address>\b[a-z+]+://[^\s,;)]*[\w/#])"
)
"""What is set as code in a text: what is marked so, JSON, options, environment variables and addresses."""

VARIABLE: Final = re.compile(r"\b(?:[A-Z]+_[A-Z_]+|PG[A-Z]+)\b")
"""How environment variables are written in help texts, and nothing else is."""

_SPECIAL: Final = re.compile(r"[\\*_\[\]{}#|~^`]")


_LONG: Final = 40
"""Characters from which on code in a line of text may be broken."""


def code(text: str) -> str:
    """Return a text set as code."""
    kind = ' class="long"' if len(text) > _LONG else ""
    return f"<code{kind}>{_SPECIAL.sub(_entity, html.escape(text))}</code>"


def prose(text: str) -> str:
    """Return a text that reads as it stands, what is code set as such."""
    pieces, end = [], 0
    for found in _CODE.finditer(text):
        pieces += [_plain(text[end : found.start()]), code(found["marked"] or found[0])]
        end = found.end()
    return "".join([*pieces, _plain(text[end:])])


def _plain(text: str) -> str:
    return _SPECIAL.sub(_entity, html.escape(text, quote=False))


def _entity(found: re.Match[str]) -> str:
    return f"&#{ord(found[0])};"


def paragraphs(text: str) -> str:
    """Return a text whose paragraphs are separated by empty lines, each on a line of its own."""
    return "\n\n".join(prose(" ".join(one.split())) for one in re.split(r"\n\s*\n", text.strip()))


def definitions(terms: Iterable[tuple[str, str]]) -> str:
    """Return a list of terms, each with what it means, which may have several paragraphs and lists."""
    return "\n\n".join(f"{term}\n:   {textwrap.indent(meaning, '    ').strip()}" for term, meaning in terms)


def heading(level: int, text: str, anchor: str) -> str:
    """Return a heading that is linked to by its anchor."""
    return f"{'#' * level} {text} {{#{anchor}}}"


def document(*parts: str) -> str:
    """Return parts, each a block, with empty lines between; empty ones are left out."""
    return "\n\n".join(part for part in parts if part)
