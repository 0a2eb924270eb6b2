"""What the tools take: a model each, whose JSON schema is what a language model reads.

An argument that no tool knows is refused: a condition that is misspelt must not make a deletion wider.
"""

import json
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from llmspell_memory.types import Filter, SearchMode
from llmspell_memory.types.query import DEFAULT_MODE

_MOST_FOUND = 100
_MOST_LISTED = 1_000


def _aware(moment: datetime) -> datetime:
    return moment if moment.utcoffset() is not None else moment.replace(tzinfo=UTC)


def _decoded(value: Any) -> Any:
    """Return an object or a list that came as its JSON text, as some clients send them, as what it is."""
    if isinstance(value, str) and value[:1] in {"{", "["}:
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


Moment = Annotated[datetime, AfterValidator(_aware)]
Metadata = Annotated[dict[str, Any], BeforeValidator(_decoded)]
Ids = Annotated[list[str], BeforeValidator(_decoded), Field(max_length=_MOST_LISTED)]

_HOW = "ISO 8601, such as 2025-01-31T18:30:00Z; UTC if it has no offset."


class Arguments(BaseModel):
    """Arguments of a tool, and no others."""

    model_config = ConfigDict(extra="forbid")


class Conditions(Arguments):
    """Which memories a tool is about; each condition narrows them."""

    session_id: str | None = Field(None, description="Only memories of this session.")
    role: str | None = Field(None, description='Only what this one said, such as "user" or "assistant".')
    since: Moment | None = Field(None, description=f"Only what happened then or later. {_HOW}")
    until: Moment | None = Field(None, description=f"Only what happened before. {_HOW}")
    metadata: Metadata | None = Field(None, description="Only memories that have these keys with equal values.")

    def where(self, ids: list[str] | None = None) -> Filter:
        """Return the filter that the conditions make."""
        return Filter(
            session_id=self.session_id,
            role=self.role,
            since=self.since,
            until=self.until,
            metadata=self.metadata or {},
            ids=None if ids is None else frozenset(ids),
        )


class AddMemory(Arguments):
    """Arguments of `add_memory`."""

    content: str = Field(
        description="What is to be remembered, in words that can be understood without the conversation around them."
    )
    session_id: str = Field(
        description="The conversation or task it belongs to: a name that you choose once for a conversation, such as "
        '"2025-01-31-garden-plan".'
    )
    role: str = Field("user", description='Who said or did it: "user", "assistant", or another name.')
    timestamp: Moment | None = Field(None, description=f"When it happened; now if left out. {_HOW}")
    metadata: Metadata | None = Field(None, description='A JSON object to find it by later, such as {"topic": "dog"}.')
    expires_at: Moment | None = Field(None, description=f"From when on it is forgotten; never if left out. {_HOW}")


class SearchMemories(Conditions):
    """Arguments of `search_memories`."""

    query: str = Field(description="What is looked for: a question, or words that the memory is likely to have.")
    limit: int = Field(10, ge=1, le=_MOST_FOUND, description="How many memories to return at most.")
    mode: SearchMode = Field(
        DEFAULT_MODE,
        description='"hybrid" looks by meaning and by words, "semantic" by meaning alone, "keyword" for exact words.',
    )


class GetContext(Conditions):
    """Arguments of `get_context`."""

    query: str = Field(description="What the text is to be about: usually the user's question.")
    budget_tokens: int = Field(
        4_000,
        ge=1,
        le=1_000_000,
        description="The most tokens the text may have, by an estimate that is never too low: a token for each byte.",
    )


class ListSessions(Arguments):
    """Arguments of `list_sessions`."""

    since: Moment | None = Field(None, description=f"Only sessions with memories of then or later. {_HOW}")
    until: Moment | None = Field(None, description=f"Only sessions with memories of before. {_HOW}")
    limit: int = Field(50, ge=1, le=_MOST_LISTED, description="How many sessions to return at most.")


class GetSession(Arguments):
    """Arguments of `get_session`."""

    session_id: str = Field(description="The session, as list_sessions or search_memories name it.")
    limit: int = Field(100, ge=1, le=_MOST_LISTED, description="How many memories to return at most: the newest.")
    skip: int = Field(0, ge=0, description="How many of the newest to leave out first, to read further back.")


class DeleteMemories(Conditions):
    """Arguments of `delete_memories`."""

    ids: Ids | None = Field(None, description="Only memories with these ids, as the other tools name them.")
