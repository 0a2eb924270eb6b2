"""The services that a store's memory embeds with: one for each embedding space that it is, was or will be in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmspell_memory.errors import SpaceChangedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from llmspell_memory.embeddings.service import EmbeddingService
    from llmspell_memory.types import EmbeddingSpace


class Services:
    """Services by their spaces; shared by a memory and its scopes.

    Args:
        service: the first one.
    """

    def __init__(self, service: EmbeddingService) -> None:
        self._known = {service.space: service}

    def __iter__(self) -> Iterator[EmbeddingService]:
        return iter(list(self._known.values()))

    def know(self, service: EmbeddingService) -> None:
        """Use `service` where the store is in its space."""
        self._known[service.space] = service

    def of(self, space: EmbeddingSpace) -> EmbeddingService:
        """Return the service of a space.

        Raises:
            SpaceChangedError: there is none: others have moved the store there.
        """
        try:
            return self._known[space]
        except KeyError:
            raise SpaceChangedError(
                f"the store holds vectors of {space} by now; open it anew with the embedding service it was moved to"
            ) from None

    def forget(self, texts: Iterable[str]) -> None:
        """Drop the vectors of `texts` from every cache."""
        texts = list(texts)
        for service in self:
            service.forget(texts)
