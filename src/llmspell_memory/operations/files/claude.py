"""Claude's data export: `conversations.json`, a list of conversations with their messages in order."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from llmspell_memory.errors import EpisodicError, InputError
from llmspell_memory.operations.files.chats import clean, conversations, entry_of, objects, part
from llmspell_memory.operations.files.jsonl import as_moment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from llmspell_memory.types import EpisodicEntry


def entries(document: list[Any], *, name: str, written: datetime, left_out: Counter[str]) -> Iterator[EpisodicEntry]:
    """Yield the messages of every conversation, from the first to the last.

    The conversation is the session, the message's uuid the entry's id; "human" becomes "user". Text that was pasted or
    taken out of an attached file is part of the content, under the file's name. Blocks that are no text (tools,
    thinking) are counted in the metadata.

    Args:
        document: the list.
        name: of the file, for messages.
        written: when the file was written, for conversations without a time.
        left_out: counts the messages that are no entries, by the reason.

    Raises:
        InputError: the file is not such an export; says the conversation and the message.
    """
    for where, conversation in conversations(document, name):
        session = conversation.get("uuid")
        if not isinstance(session, str):
            raise InputError(f"{where} has no uuid")
        moment = _moment(conversation, where) or written
        about = {"source": "claude", "title": clean(part(conversation, "name", str, where))}
        for number, message in enumerate(objects(conversation, "chat_messages", where), start=1):
            here = f"{where}, message {message.get('uuid') or number}"
            moment = _moment(message, here) or moment
            text, others = _content(message, here)
            if not text:
                reason = f"messages of {' and '.join(sorted(others))} only" if others else "empty messages"
                left_out[reason] += 1
                continue
            sender = message.get("sender")
            yield entry_of(
                here,
                session_id=session,
                role="user" if sender == "human" else sender,
                content=text,
                id=message.get("uuid"),
                timestamp=moment,
                metadata=about | _details(message, others, here),
            )


def _moment(fields: dict[str, Any], where: str) -> datetime | None:
    if fields.get("created_at") is None:
        return None
    try:
        return as_moment(fields["created_at"], name="created_at")
    except EpisodicError as error:
        raise InputError(f"{where}: {error}") from error


def _content(message: dict[str, Any], where: str) -> tuple[str, Counter[str]]:
    """Return a message's text, and how many blocks and files of which kind are none."""
    texts, others = [], Counter[str]()
    for block in objects(message, "content", where):
        if block.get("type") == "text":
            texts.append(part(block, "text", str, where))
        else:
            others[str(block.get("type"))] += 1
    if not texts:  # older exports have no blocks
        texts.append(part(message, "text", str, where))
    for attached in objects(message, "attachments", where):
        extracted = part(attached, "extracted_content", str, where)
        name = part(attached, "file_name", str, where)
        texts.append(f"[{name}]\n{extracted}" if name and extracted else extracted)
    others["files"] += len(part(message, "files", list, where))
    return clean("\n\n".join(text for text in texts if text.strip())), +others


def _details(message: dict[str, Any], others: Counter[str], where: str) -> dict[str, Any]:
    attached = objects(message, "attachments", where) + objects(message, "files", where)
    names = [clean(part(one, "file_name", str, where)) for one in attached]
    details = {"attachments": [name for name in names if name], "not_text": dict(others)}
    return {key: value for key, value in details.items() if value}
