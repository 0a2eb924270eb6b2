"""The MCP tools as a client is told of them, in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from llmspell_memory.mcp.tools import TOOLS
from reference.markdown import code, document, heading, prose
from reference.schemas import Teller

if TYPE_CHECKING:
    from mcp.types import ToolAnnotations

    from llmspell_memory.mcp.tools import MemoryTool

_HINTS: Final = {
    "read_only_hint": ("reads alone", "changes what is stored"),
    "destructive_hint": ("may destroy", "destroys nothing"),
    "idempotent_hint": ("done twice is done once", "done twice does more"),
    "open_world_hint": ("reaches beyond the memory", "reaches nothing beyond the memory"),
}


def page() -> str:
    """Return all tools, in the order that they are listed."""
    return document(*(_tool(name, one) for name, one in TOOLS.items()))


def _tool(name: str, tool: MemoryTool) -> str:
    taken = tool.arguments.model_json_schema()
    return document(
        heading(2, code(name), name),
        f"{prose(tool.title)}: {annotations(tool.annotations)}.",
        prose(tool.description),
        "**Arguments**, and no others" if taken["additionalProperties"] is False else "**Arguments**",
        Teller(lambda _: "", {}).members(taken),
        _result(tool),
    )


def annotations(told: ToolAnnotations) -> str:
    """Return in words what a tool says about itself, each with the protocol's name for it."""
    given = told.model_dump(exclude_none=True, exclude={"title"})
    return ", ".join(f"{_HINTS[name][0 if value else 1]}" for name, value in given.items())


def _result(tool: MemoryTool) -> str:
    if tool.result is None:
        return "**Result**: a text."
    schema = tool.result.model_json_schema(mode="serialization")
    among = {f"#/$defs/{name}": one for name, one in schema.get("$defs", {}).items()}
    return document("**Result**", Teller(lambda _: "", among).members(schema))
