"""Texts to vectors: batching, pieces, cache, checks, retries and unit length, once for every provider.

What is to be done stands in generators that ask for a provider's call or a wait and are told the outcome; two short
drivers, one blocking and one awaiting, do what they ask. It knows nothing of storage.
"""

from __future__ import annotations

import copy
import itertools
import logging
import time
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import numpy as np

from llmspell_memory.embeddings.cache import MemoryCache, key_of, key_prefix
from llmspell_memory.embeddings.checks import (
    check_provider,
    checked_rows,
    refuse_zeros,
    shortened,
    unit_rows,
    unit_vector,
    who,
)
from llmspell_memory.embeddings.pieces import batches, fits, piece_limit, pieces
from llmspell_memory.embeddings.retry import RetryPolicy
from llmspell_memory.errors import EmbeddingError, EpisodicError, InputError
from llmspell_memory.protocols import AsyncEmbeddingProvider
from llmspell_memory.types.arrays import as_vector
from llmspell_memory.types.locks import ForkLock
from llmspell_memory.types.text import checked_text

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from numpy.typing import ArrayLike

    from llmspell_memory.embeddings.cache import EmbeddingCache
    from llmspell_memory.protocols import EmbeddingKind, EmbeddingProvider
    from llmspell_memory.types import BatchLimits, EmbeddingSpace, Matrix, Metric, Vector

_log = logging.getLogger("llmspell_memory.embeddings")

_T = TypeVar("_T")
_Request: TypeAlias = list[str] | float
"""What a generator asks its driver for: a provider's call with these texts, or a wait of this many seconds."""

_Outcome: TypeAlias = "Matrix | EmbeddingError | None"
"""What it is told: what the provider gave or raised, nothing after a wait."""

_Steps: TypeAlias = "Generator[_Request, _Outcome, _T]"

_Observer: TypeAlias = "Callable[[int], Callable[[BaseException | None], None]]"
"""Is told that a call with so many texts begins, and returns what is told that it has ended, and by which error."""

_FRESH: Final = MemoryCache(1)
"""Stands for a new cache of the service's own, which a default value cannot be."""


class _Counts:
    """How often the cache had a text, and had it not."""

    hits = misses = 0


class EmbeddingService:
    """Turns texts into vectors that can be stored and compared, by means of a provider.

    Equal texts of one call are embedded once, texts seen before come from the cache, calls keep to the provider's
    `limits`, and failures that may pass are retried. A text longer than one call takes is embedded in pieces; its
    vector is the mean of theirs, weighted by their lengths, which is what mean pooling over the whole text would give a
    static model and comes near it for others. Under the cosine metric vectors get unit length.

    May be used by several threads and event loops at once, as far as the provider may.

    Args:
        provider: who embeds.
        metric: how its vectors are compared.
        cache: keeps vectors by text; a `MemoryCache` of its own by default, None for none.
        retry: when a failed call is tried again.

    Raises:
        ConfigError: the provider lacks a member, or a setting is out of range.
    """

    def __init__(
        self,
        provider: EmbeddingProvider,
        *,
        metric: Metric = "cosine",
        cache: EmbeddingCache | None = _FRESH,
        retry: RetryPolicy | None = None,
    ) -> None:
        self._space, self._limits = check_provider(provider, metric)
        self._piece_limit = piece_limit(self._limits)
        self._provider = provider
        self._cache = MemoryCache() if cache is _FRESH else cache
        self._retry = retry or RetryPolicy()
        self._unit = metric == "cosine"
        self._shape = (self._space.dimensions,)
        self._awaitable = provider if isinstance(provider, AsyncEmbeddingProvider) else None  # asked once: it is slow
        variant = getattr(provider, "variant", "")
        kinds: tuple[EmbeddingKind, ...] = ("document", "query")
        self._keys = {kind: key_prefix(self._space, kind, variant) for kind in kinds}
        self._lock = ForkLock()
        self._counts = _Counts()
        self._observer: _Observer | None = None

    def __repr__(self) -> str:
        return f"EmbeddingService({self._provider!r}, metric={self.metric!r}, cache={self._cache!r})"

    @property
    def provider(self) -> EmbeddingProvider:
        """Who embeds."""
        return self._provider

    @property
    def limits(self) -> BatchLimits:
        """What the provider takes in one call."""
        return self._limits

    @property
    def cache(self) -> EmbeddingCache | None:
        """What keeps vectors, None where nothing does."""
        return self._cache

    @property
    def space(self) -> EmbeddingSpace:
        """What its vectors can be compared with."""
        return self._space

    @property
    def dimensions(self) -> int:
        """Width of every vector."""
        return self._space.dimensions

    @property
    def metric(self) -> Metric:
        """How two vectors are compared."""
        return self._space.metric

    @property
    def hits(self) -> int:
        """Texts that the cache had, so far."""
        return self._counts.hits

    @property
    def misses(self) -> int:
        """Texts that were looked up in the cache and had to be embedded, so far."""
        return self._counts.misses

    def observed(self, observer: _Observer) -> EmbeddingService:
        """Return this service, with its cache and its figures, that also tells `observer` of calls of the provider.

        Args:
            observer: is called with the number of texts when a call begins, and returns what is called when it has
                ended, retries included: with the error, or None.
        """
        twin = copy.copy(self)
        twin._observer = observer  # noqa: SLF001 (its own class)
        return twin

    def embed(self, texts: Sequence[str], *, kind: EmbeddingKind = "document") -> Matrix:
        """Return one row per text, in order: float32 of shape (len(texts), dimensions), C order.

        Raises:
            InputError: a text is empty, not a str, or holds NUL or lone surrogates.
            EmbeddingError: the provider failed, retries included, or gave back something unusable.
        """
        return self._run(self._rows(texts, kind), kind)

    async def aembed(self, texts: Sequence[str], *, kind: EmbeddingKind = "document") -> Matrix:
        """Do what `embed` does without blocking the event loop; a provider that cannot be awaited runs in a thread."""
        return await self._arun(self._rows(texts, kind), kind)

    def embed_one(self, text: str, *, kind: EmbeddingKind = "query") -> Vector:
        """Return the vector of one text, read-only; what is raised is as for `embed`."""
        key = self._key(text, kind)
        vector = self._remembered(text, key)
        return self._run(self._one(text, key), kind) if vector is None else vector

    async def aembed_one(self, text: str, *, kind: EmbeddingKind = "query") -> Vector:
        """Do what `embed_one` does without blocking the event loop."""
        key = self._key(text, kind)
        vector = self._remembered(text, key)
        return await self._arun(self._one(text, key), kind) if vector is None else vector

    def check_vector(self, vector: ArrayLike) -> Vector:
        """Return a vector given from outside as float32, otherwise as it is: not brought to unit length.

        Raises:
            DimensionError: its width is not that of the space.
            InputError: it is not one vector of finite numbers, or is zero under the cosine metric.
        """
        checked = as_vector(vector, dimensions=self.dimensions)
        if (
            self._unit and not np.vdot(checked, checked) and not checked.any()
        ):  # the square may vanish where it does not
            raise InputError("a vector of zeros has no direction; the cosine metric cannot compare it")
        return checked

    def forget(self, texts: Iterable[str]) -> None:
        """Discard from the cache what these texts were embedded as, for when they must leave no trace.

        Raises:
            InputError: a text is not acceptable.
        """
        texts = list(texts)
        if texts and self._cache is not None:
            self._cache.discard([self._key(text, kind) for text in texts for kind in self._keys])

    # What is to be done.

    def _key(self, text: str, kind: EmbeddingKind) -> bytes:
        """Check a text and its kind, and return the text's key."""
        prefix = self._keys.get(kind)
        if prefix is None:
            raise InputError(f'kind must be "document" or "query", got {kind!r}')
        return key_of(prefix, checked_text(text, name="a text to embed").encode())

    def _looked_up(self, keys: Sequence[bytes]) -> list[Vector | None]:
        """Ask the cache, and count. A vector of another width, which no cache of ours gives, is no hit."""
        if self._cache is None:
            return [None] * len(keys)
        found = [None if one is None or one.shape != self._shape else one for one in self._cache.get_many(keys)]
        missing = sum([one is None for one in found])
        with self._lock:
            self._counts.hits += len(found) - missing
            self._counts.misses += missing
        return found

    def _remembered(self, text: str, key: bytes) -> Vector | None:
        if self._cache is None:
            return None
        (vector,) = self._looked_up((key,))
        return None if vector is None else self._finished_one(vector, text)

    def _finished_one(self, vector: Vector, text: str) -> Vector:
        finished = unit_vector(vector, text, self._space) if self._unit else vector.copy()
        finished.setflags(write=False)
        return finished

    def _one(self, text: str, key: bytes) -> _Steps[Vector]:
        """Return the vector of a text that the cache does not have; `_embedded` without its bookkeeping."""
        if not fits(text, self._piece_limit):
            rows = yield from self._embedded((text,), (key,))
            return self._finished_one(rows[0], text)
        rows = checked_rows((yield from self._called([text])), (text,), self._space)
        vector = self._finished_one(rows[0], text)
        if self._cache is not None:
            self._cache.put_many((key,), rows)
        return vector

    def _rows(self, texts: Sequence[str], kind: EmbeddingKind) -> _Steps[Matrix]:
        """Return the rows of `texts`: each distinct text once, from the cache where it is there."""
        if isinstance(texts, str):
            raise InputError("texts must be a sequence of str, got a str; use embed_one for one text")
        texts = list(texts)
        keys = {text: self._key(text, kind) for text in texts}
        rows = np.empty((len(keys), self.dimensions), dtype=np.float32)
        missing = {}
        for row, (text, vector) in enumerate(zip(keys, self._looked_up(list(keys.values())), strict=True)):
            if vector is None:
                missing[text] = row
            else:
                rows[row] = vector
        if missing:
            rows[list(missing.values())] = yield from self._embedded(list(missing), [keys[text] for text in missing])
        if self._unit:
            rows = unit_rows(rows, list(keys), self._space)
        if len(keys) == len(texts):
            return rows
        place = {text: row for row, text in enumerate(keys)}
        return rows[[place[text] for text in texts]]

    def _embedded(self, texts: Sequence[str], keys: Sequence[bytes]) -> _Steps[Matrix]:
        """Embed texts call by call; what a call completes is cached before the next, nothing of one that failed."""
        rows = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        begin = 0
        for batch in batches(pieces(texts, self._limits), self._limits):
            parts = [piece.text for piece in batch]
            given = checked_rows((yield from self._called(parts)), parts, self._space)
            first, end = batch[0].owner, batch[-1].owner + 1
            if end - first == len(batch) and all(piece.weight == 1.0 for piece in batch):
                rows[first:end] = given
            else:
                weights = np.array([[piece.weight] for piece in batch], dtype=np.float32)
                np.add.at(rows, [piece.owner for piece in batch], given * weights)
            end -= not batch[-1].last
            if end > begin:
                self._keep(texts[begin:end], keys[begin:end], rows[begin:end])
                begin = end
        return rows

    def _keep(self, texts: Sequence[str], keys: Sequence[bytes], rows: Matrix) -> None:
        if self._unit:
            refuse_zeros(rows, texts, self._space)
        if self._cache is not None:
            self._cache.put_many(keys, rows)

    def _called(self, texts: list[str]) -> _Steps[Any]:
        """Ask for one call of the provider, and again after a wait where that may help; tell who observes it."""
        if self._observer is None:
            return (yield from self._attempts(texts))
        ended = self._observer(len(texts))
        try:
            outcome = yield from self._attempts(texts)
        except BaseException as error:
            ended(error)
            raise
        ended(None)
        return outcome

    def _attempts(self, texts: list[str]) -> _Steps[Any]:
        began = time.monotonic()
        for failures in itertools.count(1):
            outcome = yield texts
            if not isinstance(outcome, EmbeddingError):
                return outcome
            if not outcome.retryable or self._retry.attempts == 1:
                raise outcome
            wait = self._retry.delay(failures, at_least=outcome.retry_after)
            if reason := self._retry.why_stop(failures, wait, elapsed=time.monotonic() - began):
                again = EmbeddingError(f"{outcome} ({reason})", retryable=True, retry_after=outcome.retry_after)
                raise again from outcome
            _log.warning("%s: call %d failed, trying again in %.2f s", who(self._space), failures, wait)
            yield wait
        raise AssertionError  # pragma: no cover (counting has no end)

    # Doing it.

    def _run(self, steps: _Steps[_T], kind: EmbeddingKind) -> _T:
        try:
            request = next(steps)
            while True:
                try:
                    outcome = self._outcome(request, kind)
                except BaseException as error:
                    steps.throw(error)  # comes back from there, once who observes it has been told
                    raise
                request = steps.send(outcome)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    async def _arun(self, steps: _Steps[_T], kind: EmbeddingKind) -> _T:
        try:
            request = next(steps)
            while True:
                try:
                    outcome = await self._aoutcome(request, kind)
                except BaseException as error:
                    steps.throw(error)
                    raise
                request = steps.send(outcome)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    def _outcome(self, request: _Request, kind: EmbeddingKind) -> _Outcome:
        if isinstance(request, float):
            time.sleep(request)
            return None
        try:
            return self._provider.embed(request, kind=kind)
        except EmbeddingError as error:
            return error  # for the generator to weigh
        except EpisodicError:
            raise
        except Exception as error:
            raise _foreign(error, self._space) from error

    async def _aoutcome(self, request: _Request, kind: EmbeddingKind) -> _Outcome:
        import asyncio  # noqa: PLC0415 (10 ms, and who awaits has it)

        if isinstance(request, float):
            await asyncio.sleep(request)
            return None
        if self._awaitable is None:
            return await asyncio.to_thread(self._outcome, request, kind)
        try:
            return await self._awaitable.aembed(request, kind=kind)
        except EmbeddingError as error:
            return error
        except EpisodicError:
            raise
        except Exception as error:
            raise _foreign(error, self._space) from error


def _foreign(error: Exception, space: EmbeddingSpace) -> EmbeddingError:
    """Return what a provider's own exception becomes; whether trying again may help is not known, so it is not."""
    return EmbeddingError(f"{who(space)} failed: {type(error).__name__}: {shortened(str(error), 200)}")
