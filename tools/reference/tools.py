"""The MCP tools as a client is told of them, in Markdown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from llmspell_memory.mcp.tools import TOOLS
from reference.markdown import code, document, heading, prose
from reference.schemas import Teller

if TYPE_CHECKING:
    from mcp.types import ToolAnnotations

    from llmspell_memory.mcp.tools import MemoryTool


def page() -> str:
    """Return all tools, in the order that they are listed."""
    return document(*(_tool(name, one) for name, one in TOOLS.items()))


def _tool(name: str, tool: MemoryTool) -> str:
    taken = tool.arguments.model_json_schema()
    return document(
        heading(2, code(name), name),
        f"*{prose(tool.title)}.* {prose(tool.description)}",
        f"**Annotations** {_annotations(tool.annotations)}",
        "**Arguments**, and no others" if taken["additionalProperties"] is False else "**Arguments**",
        Teller(lambda _: "").members(taken),
        _result(tool),
    )


def _annotations(told: ToolAnnotations) -> str:
    """Return what a tool says about itself, in the protocol's names."""
    given = told.model_dump(mode="json", by_alias=True, exclude_none=True)
    return ", ".join(f"{code(name)} {code(json.dumps(value))}" for name, value in given.items())


def _result(tool: MemoryTool) -> str:
    if tool.result is None:
        return "**Result**: a text."
    schema = tool.result.model_json_schema(mode="serialization")
    among = {f"#/$defs/{name}": one for name, one in schema.get("$defs", {}).items()}
    return document("**Result**", Teller(lambda _: "", among).members(schema))
