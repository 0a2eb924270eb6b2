"""Sessions as resources: a list of them, and each as a text to put before a language model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mcp import UriTemplate
from mcp.types import Resource, ResourceTemplate, TextResourceContents

from llmspell_memory.errors import NotFoundError
from llmspell_memory.mcp import results
from llmspell_memory.types.text import shortened

if TYPE_CHECKING:
    from llmspell_memory.memory import EpisodicMemory

SESSIONS: Final = "memory://sessions"
_SESSION: Final = UriTemplate.parse(f"{SESSIONS}/{{session_id}}")
_SHOWN: Final = 100
"""How many sessions are listed each as a resource of its own: clients show all of them at once."""

_TEXT: Final = "text/markdown"

TEMPLATE: Final = ResourceTemplate(
    name="session",
    title="A session",
    uri_template=f"{SESSIONS}/{{session_id}}",
    description="A session as a text: what was said, by whom, under its dates. An id's special characters are escaped "
    "as in any URI.",
    mime_type=_TEXT,
)


def listed(memory: EpisodicMemory) -> list[Resource]:
    """Return the list of sessions, and the latest of them."""
    index = Resource(
        name="sessions",
        title="Sessions",
        uri=SESSIONS,
        description="All sessions, latest first, as JSON.",
        mime_type="application/json",
    )
    names = dict.fromkeys(one.session_id for one in memory.sessions())
    return [index, *map(_resource, list(names)[:_SHOWN])]


def read(memory: EpisodicMemory, uri: str) -> TextResourceContents:
    """Return a resource.

    Raises:
        NotFoundError: there is none at `uri`.
    """
    if uri == SESSIONS:
        found = [results.Session.of(one) for one in memory.sessions()]
        text = results.Sessions(sessions=found, total=len(found)).model_dump_json()
        return TextResourceContents(uri=uri, mime_type="application/json", text=text)
    matched = _SESSION.match(uri)
    session_id = matched["session_id"] if matched else None
    if not isinstance(session_id, str) or not session_id:
        raise NotFoundError(f"there is no resource {shortened(uri)}; there are {SESSIONS} and {TEMPLATE.uri_template}")
    text = memory.recall_session(session_id).text
    if not text:
        raise NotFoundError(f"there is no session {shortened(session_id)}; {SESSIONS} names those there are")
    return TextResourceContents(uri=uri, mime_type=_TEXT, text=text)


def _resource(session_id: str) -> Resource:
    return Resource(name=session_id, uri=_SESSION.expand({"session_id": session_id}), mime_type=_TEXT)
