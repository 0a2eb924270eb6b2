"""Embeddings of a local Ollama server, by its own API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from llmspell_memory.embeddings.providers._http import _NOT_FOUND, HTTPProvider
from llmspell_memory.errors import ConfigError
from llmspell_memory.types import BatchLimits

if TYPE_CHECKING:
    from collections.abc import Mapping

_MODELS: Final = {
    "nomic-embed-text": (768, 2048),
    "nomic-embed-text-v2-moe": (768, 512),
    "mxbai-embed-large": (1024, 512),
    "all-minilm": (384, 256),
    "bge-m3": (1024, 2048),
    "snowflake-arctic-embed2": (1024, 2048),
    "embeddinggemma": (768, 2048),
    "qwen3-embedding:0.6b": (1024, 2048),
    "qwen3-embedding:4b": (2560, 2048),
    "qwen3-embedding:8b": (4096, 2048),
}
"""Width, and tokens that Ollama lets a text have: some models could take more, but it cuts at 2,048 by default."""

_UNKNOWN_TOKENS: Final = 512


class OllamaProvider(HTTPProvider):
    """A model served by Ollama.

    Texts are sent with `truncate: false`: what does not fit is an error rather than lost. To keep that rare, texts are
    cut into pieces of nearly as many bytes as the model takes tokens, which is safe in any script; raise `text_bytes`
    of `limits` where whole texts matter more.

    Args:
        model: what `ollama list` calls it.
        dimensions: width of its vectors; known for the usual embedding models, needed for any other.
        base_url: of the server.
        timeout: seconds to connect, and between two bytes; the first call may have to load the model.
        headers: sent with every request, for a server behind a gateway.
        limits: what one call takes.
        document_prefix: put before every document; nomic-embed-text was trained with "search_document: ".
        query_prefix: put before every query; nomic-embed-text was trained with "search_query: ".
        client_options: further arguments of `httpx.Client` and `httpx.AsyncClient`.

    Attributes:
        name: "ollama".

    Raises:
        ConfigError: an argument is not acceptable.
        MissingDependencyError: the extra `ollama` is not installed.
    """

    name = "ollama"
    _extra = "ollama"
    _path = "/api/embed"

    def __init__(
        self,
        model: str = "nomic-embed-text",
        *,
        dimensions: int | None = None,
        base_url: str = "http://127.0.0.1:11434",
        timeout: float = 120.0,
        headers: Mapping[str, str] | None = None,
        limits: BatchLimits | None = None,
        document_prefix: str = "",
        query_prefix: str = "",
        client_options: Mapping[str, Any] | None = None,
    ) -> None:
        width, tokens = _MODELS.get(str(model).removesuffix(":latest"), (None, _UNKNOWN_TOKENS))
        if dimensions is None and width is None:
            raise ConfigError(f"the width of {model!r} is not known; say dimensions=... (`ollama show {model}` has it)")
        self._shorten = dimensions is not None and width is not None and dimensions != width
        super().__init__(
            model=model,
            dimensions=dimensions or width or 0,
            base_url=base_url,
            timeout=timeout,
            headers=headers or {},
            limits=limits or BatchLimits(texts=64, text_bytes=tokens - 32),  # 32 for prefix and special tokens
            document_prefix=document_prefix,
            query_prefix=query_prefix,
            client_options=client_options,
        )

    def _payload(self, texts: list[str]) -> dict[str, Any]:
        payload: dict[str, Any] = {"model": self.model, "input": texts, "truncate": False}
        if self._shorten:
            payload["dimensions"] = self.dimensions
        return payload

    def _vectors(self, answer: Any, count: int) -> Any:
        del count
        return answer["embeddings"]

    def _advice(self, status: int, message: str) -> str:
        if status == _NOT_FOUND and "not found" in message and "page" not in message:
            return f"run: ollama pull {self.model}"
        if "context length" in message:
            return "give limits=BatchLimits(text_bytes=...) lower than now"
        return super()._advice(status, message)
