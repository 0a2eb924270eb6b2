"""ChatGPT's data export: `conversations.json`, a list of conversations, each a tree of messages.

Every edit and every regenerated answer is a branch of the tree; `current_node` is the leaf of the branch that the user
last saw, and its ancestors are the conversation as it stands.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from llmspell_memory.errors import InputError
from llmspell_memory.operations.files.chats import clean, conversations, entry_of, epoch, part

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmspell_memory.types import EpisodicEntry

_ROLES: Final = frozenset({"user", "assistant", "tool"})
_INNER: Final = frozenset({"thoughts", "reasoning_recap", "user_editable_context", "model_editable_context"})
"""Kinds of content that are no part of what was said: a model's reasoning, and settings passed along."""

_INSTANT: Final = timedelta(microseconds=1)


def entries(document: list[Any], *, name: str, written: datetime, left_out: Counter[str]) -> Iterator[EpisodicEntry]:
    """Yield the visible messages of every conversation, from the first to the last.

    The conversation is the session, the message's id the entry's. A message that was copied into a later conversation
    keeps its id there, so every copy but the oldest gets its session's id after its own. A message without a time gets
    that of the one before it and a microsecond more. Parts that are no text (pictures, sound, files) are counted in
    the metadata.

    Args:
        document: the list.
        name: of the file, for messages.
        written: when the file was written, for conversations without a time.
        left_out: counts the messages that are no entries, by the reason.

    Raises:
        InputError: the file is not such an export; says the conversation and the message.
    """
    seen: set[str] = set()
    for where, conversation in sorted(conversations(document, name), key=_began):
        session = conversation.get("conversation_id") or conversation.get("id")
        if not isinstance(session, str):
            raise InputError(f"{where} has no id")
        moment = epoch(conversation.get("create_time"), where=where) or written
        about = {"source": "chatgpt", "title": clean(part(conversation, "title", str, where))}
        for node, message in _branch(conversation, where):
            here = f"{where}, message {node}"
            happened = epoch(message.get("create_time"), where=here) or moment + _INSTANT
            text, others = _content(message, here)
            reason = _why_not(message, text, others, here)
            if reason:
                left_out[reason] += 1
                continue
            moment = happened
            own_id = str(message.get("id") or node)
            entry_id = f"{own_id}/{session}" if own_id in seen else own_id
            seen.add(own_id)
            yield entry_of(
                here,
                session_id=session,
                role=message["author"]["role"],
                content=text,
                id=entry_id,
                timestamp=happened,
                metadata=about | _details(message, others, here),
            )


def _began(item: tuple[str, dict[str, Any]]) -> float:
    where, conversation = item
    moment = epoch(conversation.get("create_time"), where=where)
    return moment.timestamp() if moment else 0.0


def _branch(conversation: dict[str, Any], where: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the messages from the root to the current node, each with its node's id."""
    nodes: dict[str, Any] = part(conversation, "mapping", dict, where)
    if not all(isinstance(node, dict) for node in nodes.values()):
        raise InputError(f"{where}: mapping must hold objects only")
    at = conversation.get("current_node")
    if at not in nodes:
        at = _latest_leaf(nodes, where)
    branch: dict[str, dict[str, Any]] = {}
    while at in nodes:
        if at in branch:
            raise InputError(f"{where}: message {at} is its own ancestor")
        branch[at] = part(nodes[at], "message", dict, f"{where}, message {at}")
        at = nodes[at].get("parent")
    return [(node, message) for node, message in reversed(branch.items()) if message]


def _latest_leaf(nodes: dict[str, Any], where: str) -> str | None:
    parents = {node.get("parent") for node in nodes.values()}

    leaves = [(where, part(nodes[node], "message", dict, where) | {"node": node}) for node in nodes.keys() - parents]
    return max(leaves, key=_began)[1]["node"] if leaves else None


def _why_not(message: dict[str, Any], text: str, others: Counter[str], where: str) -> str:
    """Return why a message is no entry, "" when it is one."""
    role = part(message, "author", dict, where).get("role")
    if role not in _ROLES:
        return f"{role} messages"
    hidden = part(message, "metadata", dict, where).get("is_visually_hidden_from_conversation")
    if hidden or message.get("weight") == 0:
        return "hidden messages"
    if text:
        return ""
    return f"messages of {' and '.join(sorted(others))} only" if others else "empty messages"


def _content(message: dict[str, Any], where: str) -> tuple[str, Counter[str]]:
    """Return a message's text, and how many parts of which kind are none."""
    content = part(message, "content", dict, where)
    kind = str(content.get("content_type"))
    if kind in _INNER:
        return "", Counter([kind])
    texts, others = [], Counter[str]()
    for one in part(content, "parts", list, where) or [content.get("text") or content.get("result")]:
        text = one.get("text") if isinstance(one, dict) else one  # a dictated part carries its transcript
        if isinstance(text, str):
            texts.append(text)
        elif one is not None:
            others[str(one.get("content_type")) if isinstance(one, dict) else type(one).__name__] += 1
        elif kind not in {"text", "code"}:
            others[kind] += 1
    return clean("\n".join(text for text in texts if text.strip())), others


def _details(message: dict[str, Any], others: Counter[str], where: str) -> dict[str, Any]:
    extra = part(message, "metadata", dict, where)
    attachments = [one.get("name") for one in part(extra, "attachments", list, where) if isinstance(one, dict)]
    details = {
        "model": extra.get("model_slug"),
        "tool": message["author"].get("name") if message["author"]["role"] == "tool" else None,
        "attachments": [clean(name) for name in attachments if isinstance(name, str)],
        "not_text": dict(others),
    }
    return {key: clean(value) if isinstance(value, str) else value for key, value in details.items() if value}
