"""OpenAI's embeddings, and every server that speaks the same: Azure, vLLM, LM Studio, llama.cpp, TEI and others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from llmspell_memory.embeddings.providers._http import HTTPProvider
from llmspell_memory.errors import ConfigError
from llmspell_memory.types import BatchLimits

if TYPE_CHECKING:
    from collections.abc import Mapping

_DIMENSIONS: Final = {
    "text-embedding-3-small": 1536,
    "text-embedding-3-large": 3072,
    "text-embedding-ada-002": 1536,
}
_LIMITS: Final = BatchLimits(texts=2048, total_bytes=280_000, text_bytes=8_000)
"""OpenAI takes 2,048 texts, 300,000 tokens in all and 8,191 a text. Its tokens are made of bytes, one or more each, so
these hold in any script."""


class OpenAIProvider(HTTPProvider):
    """Any server with OpenAI's `/embeddings`.

    Args:
        model: what the server calls the model.
        dimensions: width of its vectors. Known for OpenAI's own models; needed for any other.
        api_key: sent as bearer token where given; shown nowhere.
        base_url: what stands before `/embeddings`.
        timeout: seconds to connect, and between two bytes.
        headers: sent with every request, such as {"api-key": ...} for Azure.
        limits: what one call takes. The default suits OpenAI in any script; texts longer than 8,000 bytes are
            embedded in pieces, so raise `text_bytes` (to some 25,000 for English) where whole texts matter more, and
            lower it for models of 512 tokens.
        send_dimensions: ask the server for `dimensions`. By default done only where they differ from what an OpenAI
            model gives by itself: vLLM refuses the field for models that cannot shorten, even for their own width.
        document_prefix: put before every document; some models want "passage: ", for example.
        query_prefix: put before every query.
        client_options: further arguments of `httpx.Client` and `httpx.AsyncClient`, such as proxy or verify.

    Attributes:
        name: "openai".

    Raises:
        ConfigError: an argument is not acceptable.
        MissingDependencyError: the extra `openai` is not installed.
    """

    name = "openai"
    _extra = "openai"
    _path = "/embeddings"

    def __init__(
        self,
        model: str = "text-embedding-3-small",
        *,
        dimensions: int | None = None,
        api_key: str | None = None,
        base_url: str = "https://api.openai.com/v1",
        timeout: float = 30.0,
        headers: Mapping[str, str] | None = None,
        limits: BatchLimits = _LIMITS,
        send_dimensions: bool | None = None,
        document_prefix: str = "",
        query_prefix: str = "",
        client_options: Mapping[str, Any] | None = None,
    ) -> None:
        native = _DIMENSIONS.get(model)
        width = native if dimensions is None else dimensions
        if width is None:
            raise ConfigError(f"the width of {model!r} is not known; say dimensions=...")
        super().__init__(
            model=model,
            dimensions=width,
            base_url=base_url,
            timeout=timeout,
            headers={**(headers or {}), **({} if api_key is None else {"Authorization": f"Bearer {api_key}"})},
            limits=limits,
            document_prefix=document_prefix,
            query_prefix=query_prefix,
            client_options=client_options,
        )
        self._send_dimensions = (native is not None and width != native) if send_dimensions is None else send_dimensions

    def _payload(self, texts: list[str]) -> dict[str, Any]:
        payload: dict[str, Any] = {"model": self.model, "input": texts, "encoding_format": "float"}
        if self._send_dimensions:
            payload["dimensions"] = self.dimensions
        return payload

    def _vectors(self, answer: Any, count: int) -> Any:
        rows = answer["data"]
        if all("index" in row for row in rows):  # some servers leave it out, and keep the order
            rows = sorted(rows, key=lambda row: row["index"])
            indexes = [row["index"] for row in rows]
            if len(rows) == count and indexes != list(range(count)):
                raise ValueError(f"the rows are numbered {indexes[:5]}, expected 0 to {count - 1}")
        return [row["embedding"] for row in rows]

    def _advice(self, status: int, message: str) -> str:
        if "matryoshka" in message or "dimensions is currently not supported" in message:
            return "this model cannot shorten its vectors: say its own width as dimensions, and send_dimensions=False"
        return super()._advice(status, message)

    def _retryable(self, status: int, answer: Any) -> bool:
        # Also a 429, but waiting fills no account.
        error = answer.get("error") if isinstance(answer, dict) else None
        spent = isinstance(error, dict) and error.get("code") == "insufficient_quota"
        return super()._retryable(status, answer) and not spent
