"""The memory block in LlamaIndex's own `Memory`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.core.memory import Memory
from sqlalchemy.ext.asyncio import create_async_engine

from llmspell_memory import ConfigError, DefaultMemoryManager, EpisodicEntry, InputError
from llmspell_memory.adapters.llama_index import EpisodicMemoryBlock

if TYPE_CHECKING:
    from pathlib import Path


def said(text: str, role: MessageRole = MessageRole.USER) -> ChatMessage:
    return ChatMessage(content=text, role=role)


async def test_what_the_short_term_memory_drops_is_told_again(manager: DefaultMemoryManager, tmp_path: Path) -> None:
    """Messages that no longer fit are kept by the block, of their session, and come back where they answer."""
    block = EpisodicMemoryBlock(manager, namespace=("users", "ada"), k=1)
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'short.db'}")
    memory = Memory.from_defaults(
        session_id="monday",
        token_limit=60,
        token_flush_size=20,
        chat_history_token_ratio=0.5,
        memory_blocks=[block],
        async_engine=engine,
    )
    await memory.aput(said("My dog is called Ada."))
    for n in range(12):
        await memory.aput(
            said(f"The weather is nice on day {n}.", MessageRole.USER if n % 2 else MessageRole.ASSISTANT)
        )
    kept = manager.episodic.get_session("monday", namespace=("users", "ada"))
    assert (kept[0].role, kept[0].content) == ("user", "My dog is called Ada.")
    assert 1 < len(kept) < 13
    history = await memory.aget(input="what is my dog called")
    told = str(history[0].content)
    assert "My dog is called Ada." in told
    assert "## monday" in told
    assert not any("session_id" in one.additional_kwargs for one in history)
    await engine.dispose()


async def test_a_block_tells_of_its_namespace(manager: DefaultMemoryManager) -> None:
    """It tells of all sessions there, or of the one that asks, and shows nobody another's."""
    blocks = {who: EpisodicMemoryBlock(manager, namespace=("users", who)) for who in ("ada", "ada2")}
    for who, block in blocks.items():
        for name in ("monday", "friday"):
            await block.aput([said(f"The bread of {who} on {name}.")], session_id=name)
    told = await blocks["ada"].aget([said("bread")], session_id="friday")
    assert "bread of ada on monday" in told
    assert "bread of ada on friday" in told
    assert "ada2" not in told
    alone = EpisodicMemoryBlock(manager, namespace=("users", "ada"), this_session=True)
    told = await alone.aget([said("bread")], session_id="friday")
    assert "on friday" in told
    assert "on monday" not in told
    assert await EpisodicMemoryBlock(manager.scoped("x")).aget([said("bread")]) == ""
    manager.episodic.add(EpisodicEntry("s", "user", "Bread by other ways.", namespace=("users", "ada")))
    assert "Bread by other ways." in await blocks["ada"].aget([said("bread")])


async def test_what_is_asked_and_told(manager: DefaultMemoryManager) -> None:
    """The newest messages are the question; blank ones ask and keep nothing, and the budget is kept."""
    block = EpisodicMemoryBlock(manager, budget_tokens=120, messages_asked=2, name="long")
    picture = ChatMessage(role=MessageRole.USER, blocks=[ImageBlock(url="https://example.invalid/x.png")])
    await block.aput([picture, said(" "), said("NUL \0 bread")])
    assert [(one.session_id, one.content) for one in manager.episodic.scan()] == [("long", "NUL   bread")]
    await block.aput([said(f"bread number {n}") for n in range(30)], session_id="s")
    await block.aput([], session_id="s")
    blocks = ChatMessage(role=MessageRole.USER, blocks=[TextBlock(text="bread"), TextBlock(text="number 7")])
    told = await block.aget([said("zeppelin"), blocks, said(" ")])
    assert "bread number 7" in told
    assert len(told.encode()) <= 120
    for nothing in ([], None, [said(" ")], [picture]):
        assert await block.aget(nothing) == ""
    with pytest.raises(InputError, match="budget_tokens"):
        EpisodicMemoryBlock(manager, budget_tokens=-1)
    with pytest.raises(ConfigError, match="memory must be"):
        EpisodicMemoryBlock("memory.db")  # type: ignore[arg-type]
