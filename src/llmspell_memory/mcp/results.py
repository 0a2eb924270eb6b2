"""What the tools return: a model each, whose JSON schema is the tool's output schema."""

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, Field

from llmspell_memory.types import EpisodicEntry, Hit, SessionSummary


class Memory(BaseModel):
    """A memory."""

    id: str
    session_id: str
    role: str
    content: str
    timestamp: datetime = Field(description="When it happened.")
    metadata: dict[str, Any]
    namespace: list[str] = Field(description="Whom it belongs to; empty for the whole store.")

    @classmethod
    def of(cls, entry: EpisodicEntry, **more: Any) -> Self:
        """Return what is shown of an entry."""
        return cls(
            id=entry.id,
            session_id=entry.session_id,
            role=entry.role,
            content=entry.content,
            timestamp=entry.timestamp,
            metadata=dict(entry.metadata),
            namespace=list(entry.namespace),
            **more,
        )


class FoundMemory(Memory):
    """A memory that was found."""

    score: float = Field(description="Higher is better; to be compared within one answer alone.")

    @classmethod
    def found(cls, hit: Hit) -> Self:
        """Return what is shown of a hit."""
        return cls.of(hit.entry, score=hit.score)


class Session(BaseModel):
    """A session in one line."""

    session_id: str
    namespace: list[str] = Field(description="Whom it belongs to; empty for the whole store.")
    memories: int = Field(description="How many memories it has.")
    first: datetime = Field(description="When the first of them happened.")
    last: datetime = Field(description="When the last of them happened.")

    @classmethod
    def of(cls, summary: SessionSummary) -> Self:
        """Return what is shown of a session."""
        return cls(
            session_id=summary.session_id,
            namespace=list(summary.namespace),
            memories=summary.entries,
            first=summary.first,
            last=summary.last,
        )


class Added(BaseModel):
    """What `add_memory` returns."""

    id: str = Field(description="Its id; where its session has the same words already, the id of those.")


class Found(BaseModel):
    """What `search_memories` returns."""

    memories: list[FoundMemory] = Field(description="The best first.")


class Sessions(BaseModel):
    """What `list_sessions` returns."""

    sessions: list[Session] = Field(description="Latest activity first.")
    total: int = Field(description="How many there are, those beyond the limit among them.")


class SessionMemories(BaseModel):
    """What `get_session` returns."""

    session_id: str
    memories: list[Memory] = Field(description="In the order they happened.")
    total: int = Field(description="How many the session has, those not returned among them.")


class Deleted(BaseModel):
    """What `delete_memories` returns."""

    deleted: int = Field(description="How many memories were deleted.")
