"""A memory behind the protocol, whatever it is carried by: requests become calls, and the library's errors answers.

Calls run in threads: other requests are answered meanwhile, and a write once begun is finished, whoever cancels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread
import mcp.types as protocol
from mcp import MCPError
from mcp.server import Server
from pydantic import ValidationError

import llmspell_memory
from llmspell_memory.errors import EpisodicError, NotFoundError
from llmspell_memory.mcp import resources
from llmspell_memory.mcp.tools import TOOLS

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp.server import ServerRequestContext

    from llmspell_memory.mcp.tools import Answer, MemoryTool
    from llmspell_memory.memory import EpisodicMemory

_INSTRUCTIONS: Final = (
    "A memory of earlier conversations. Search it (search_memories, or get_context for a text) before answering what "
    "the past may tell, and add to it (add_memory) what will matter later."
)


def create_server(memory: EpisodicMemory) -> Server[Any]:
    """Return a server of the protocol with a memory's tools and resources; a scoped memory shows its namespace alone.

    Args:
        memory: what it is about; must be open for as long as the server is used.
    """
    handlers = _Handlers(memory)
    return Server(
        "llmspell-memory",
        version=llmspell_memory.__version__,
        title="Episodic memory",
        instructions=_INSTRUCTIONS,
        on_list_tools=handlers.list_tools,
        on_call_tool=handlers.call_tool,
        on_list_resources=handlers.list_resources,
        on_list_resource_templates=handlers.list_templates,
        on_read_resource=handlers.read_resource,
    )


class _Handlers:
    """What is done with each kind of request."""

    def __init__(self, memory: EpisodicMemory) -> None:
        self._memory = memory

    async def list_tools(
        self, _context: ServerRequestContext[Any], _params: protocol.PaginatedRequestParams | None
    ) -> protocol.ListToolsResult:
        return protocol.ListToolsResult(tools=[_described(name, tool) for name, tool in TOOLS.items()])

    async def call_tool(
        self, _context: ServerRequestContext[Any], params: protocol.CallToolRequestParams
    ) -> protocol.CallToolResult:
        tool = TOOLS.get(params.name)
        if tool is None:
            message = f"there is no tool {params.name!r}; there are {', '.join(TOOLS)}"
            raise MCPError(protocol.INVALID_PARAMS, message)
        try:
            given = tool.arguments.model_validate(params.arguments or {})
        except ValidationError as error:
            return _failed(_told(error, tool))
        try:
            answer = await anyio.to_thread.run_sync(tool.call, self._memory, given)
        except EpisodicError as error:
            return _failed(str(error))
        return _answered(answer)

    async def list_resources(
        self, _context: ServerRequestContext[Any], _params: protocol.PaginatedRequestParams | None
    ) -> protocol.ListResourcesResult:
        return protocol.ListResourcesResult(resources=await self._read(resources.listed, self._memory))

    async def list_templates(
        self, _context: ServerRequestContext[Any], _params: protocol.PaginatedRequestParams | None
    ) -> protocol.ListResourceTemplatesResult:
        return protocol.ListResourceTemplatesResult(resource_templates=[resources.TEMPLATE])

    async def read_resource(
        self, _context: ServerRequestContext[Any], params: protocol.ReadResourceRequestParams
    ) -> protocol.ReadResourceResult:
        content = await self._read(resources.read, self._memory, params.uri)
        return protocol.ReadResourceResult(contents=[content])

    @staticmethod
    async def _read(call: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a call does in a thread; resources have no other way to tell errors than the protocol's."""
        try:
            return await anyio.to_thread.run_sync(call, *arguments)
        except NotFoundError as error:
            raise MCPError(protocol.INVALID_PARAMS, str(error)) from error
        except EpisodicError as error:
            raise MCPError(protocol.INTERNAL_ERROR, str(error)) from error


def _described(name: str, tool: MemoryTool) -> protocol.Tool:
    return protocol.Tool(
        name=name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.arguments.model_json_schema(),
        output_schema=None if tool.result is None else tool.result.model_json_schema(mode="serialization"),
        annotations=tool.annotations,
    )


def _answered(answer: Answer) -> protocol.CallToolResult:
    if isinstance(answer, str):
        return protocol.CallToolResult(content=[protocol.TextContent(text=answer)])
    return protocol.CallToolResult(
        content=[protocol.TextContent(text=answer.model_dump_json())], structured_content=answer.model_dump(mode="json")
    )


def _failed(message: str) -> protocol.CallToolResult:
    return protocol.CallToolResult(content=[protocol.TextContent(text=message)], is_error=True)


def _told(error: ValidationError, tool: MemoryTool) -> str:
    """Return in one line what is wrong with arguments, and which there are."""
    faults = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'arguments'}: {one['msg']}" for one in error.errors())
    return f"the arguments cannot be used: {faults}. There are: {', '.join(tool.arguments.model_fields)}"
