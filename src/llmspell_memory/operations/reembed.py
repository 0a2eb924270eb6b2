"""Moving a memory to another embedding space in place, while it is in use."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from llmspell_memory.errors import ClosedError, ConfigError, InputError
from llmspell_memory.types import ReembeddingEstimate, ReembeddingProgress, ReembeddingReport
from llmspell_memory.types.ending import end_at_exit

if TYPE_CHECKING:
    from llmspell_memory.embeddings import EmbeddingService
    from llmspell_memory.protocols import EpisodicBackend, VectorsBeside
    from llmspell_memory.types import EmbeddingSpace, RowText

logger = logging.getLogger(__name__)

_BATCH: Final = 256
"""Texts embedded and stored at a time, at most."""

_ROW_BYTES: Final = 40
"""What a row of vectors takes in a file beside the vector itself, about: its numbers, their index, room in pages."""

_NEIGHBOURS: Final = 10

_ENDING_SECONDS: Final = 5.0
"""How long the end of the process waits for it: texts that are being embedded may take minutes."""

_TRIES: Final = 3
"""After so many, writers are kept waiting while the last texts are embedded: they come faster than that is done."""


def estimate(backend: EpisodicBackend, service: EmbeddingService) -> ReembeddingEstimate:
    """Return what moving `backend` to the space of `service` would cost.

    Raises:
        ConfigError: it is in that space already, or cannot be moved.
    """
    counts = backend.beside(service.space).counts()
    limits = service.limits
    calls = -(-counts.missing // limits.texts)
    if limits.total_bytes:
        calls = max(calls, -(-counts.bytes // limits.total_bytes))
    return ReembeddingEstimate(
        source=backend.space,
        target=service.space,
        rows=counts.rows,
        texts=counts.missing,
        characters=counts.characters,
        calls=calls,
        disk_bytes=counts.missing * (4 * service.dimensions + _ROW_BYTES),
    )


class Reembedding:
    """Vectors of another space being made in a thread of its own, which begins with this.

    Args:
        beside: where they are put.
        service: makes them.
        source: the space in use.
        switch: move the store to the new space when every entry has its vector.
        sample: for how many entries the neighbours in both spaces are compared before that.
    """

    def __init__(
        self, beside: VectorsBeside, service: EmbeddingService, *, source: EmbeddingSpace, switch: bool, sample: int
    ) -> None:
        if isinstance(sample, bool) or not isinstance(sample, int) or sample < 0:
            raise InputError(f"sample must be an integer from 0 up, got {sample!r}")
        counts = beside.counts()
        self._beside = beside
        self._service = service
        self._source = source
        self._sample = sample
        self._total, self._done = counts.rows, counts.rows - counts.missing
        self._embedded = 0
        self._shares: list[float] = []
        self._state = "running"
        self._error: BaseException | None = None
        self._began = time.monotonic()
        self._ended: float | None = None
        self._going = threading.Event()
        self._going.set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(switch,), name="llmspell-memory-reembedding", daemon=True
        )
        end_at_exit(self)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether its thread is at work, or paused."""
        return self._thread.is_alive()

    @property
    def progress(self) -> ReembeddingProgress:
        """How far it has come."""
        paused = self._state == "running" and not self._going.is_set()
        return ReembeddingProgress(
            state="paused" if paused else self._state,
            done=self._done,
            total=max(self._total, self._done),
            embedded=self._embedded,
            seconds=(self._ended or time.monotonic()) - self._began,
        )

    def pause(self) -> None:
        """Stop after the texts being embedded at this moment, until `resume`."""
        self._going.clear()

    def resume(self) -> None:
        """Go on."""
        self._going.set()

    def stop(self) -> None:
        """End it where it is, and wait for that; what is made is kept, and the same re-embedding begun anew goes on."""
        self._stop(None)

    def end(self) -> None:
        """End it as `stop` does, but wait for some seconds at most: the process is about to end."""
        self._stop(_ENDING_SECONDS)

    def _stop(self, seconds: float | None) -> None:
        self._stopping.set()
        self._going.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(seconds)

    def wait(self, timeout: float | None = None) -> ReembeddingReport:
        """Wait for its end, and return what was done.

        Args:
            timeout: in seconds; None waits for ever.

        Raises:
            TimeoutError: it has not ended by then; it goes on.
            EpisodicError: it failed: the provider, or the store. What is made is kept.
            ClosedError: it was stopped.
        """
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise TimeoutError(f"the re-embedding has not ended after {timeout} seconds; it goes on")
        if self._error is not None:
            raise self._error
        if self._state == "stopped":
            raise ClosedError("the re-embedding was stopped; begun anew, it goes on where it was")
        return self._report()

    def switch(self) -> ReembeddingReport:
        """Move the store to the new space, once the vectors are made; embeds first what was written since.

        Raises:
            ConfigError: it is still running, or was stopped; a failure is raised as by `wait`.
        """
        if self._thread.is_alive():
            raise ConfigError("the vectors are still being made; wait() for that first")
        self.wait()
        if self._state != "switched":
            self._take_over()
        return self._report()

    def _report(self) -> ReembeddingReport:
        return ReembeddingReport(
            source=self._source,
            target=self._service.space,
            rows=self._done,
            embedded=self._embedded,
            seconds=self.progress.seconds,
            overlap=sum(self._shares) / len(self._shares) if self._shares else None,
            sample=len(self._shares),
            switched=self._state == "switched",
        )

    def _run(self, switch: bool) -> None:  # noqa: FBT001 (a thread's argument)
        try:
            self._embed_missing()
            if self._sample and not self._stopping.is_set():
                self._compare_neighbours()
            if switch:
                self._take_over()
            self._ended = time.monotonic()
            if self._state == "running":
                self._state = "stopped" if self._stopping.is_set() else "ready"
        except BaseException as error:  # noqa: BLE001 (it is raised by `wait`)
            self._ended = time.monotonic()
            self._error, self._state = error, "failed"
            logger.warning("Re-embedding from %s to %s failed: %s", self._source, self._service.space, error)

    def _compare_neighbours(self) -> None:
        for share in self._beside.overlap(self._sample, _NEIGHBOURS):
            if self._stopping.is_set():
                return
            self._shares.append(share)

    def _take_over(self) -> None:
        for tries in itertools.count(1):
            if self._stopping.is_set():
                return
            if self._beside.take_over(self._service.embed if tries > _TRIES else None):
                self._state = "switched"
                logger.info("Moved from %s to %s: %d texts embedded", self._source, self._service.space, self._embedded)
                return
            self._embed_missing()

    def _embed_missing(self) -> None:
        """Embed what has no vector, going through the rows once; what changes behind is left to the next time."""
        limit = min(_BATCH, self._service.limits.texts)
        after = -1
        while rows := self._beside.missing(limit, after=after):
            self._going.wait()
            if self._stopping.is_set():
                return
            self._embed(rows)
            after = rows[-1][0]
            if len(rows) < limit:
                return

    def _embed(self, rows: list[RowText]) -> None:
        vectors = self._service.embed([text for _, _, text in rows])
        put = self._beside.put(rows, vectors)
        self._done += put
        self._embedded += len(rows)
        if put < len(rows):
            self._forget_gone(rows, count=len(rows) - put)

    def _forget_gone(self, rows: list[RowText], *, count: int) -> None:
        """Drop texts of rows that went while they were embedded from the cache: they may have been forgotten.

        Args:
            rows: that were to get a vector.
            count: how many got none; of those whose text has only changed one can be found to be missing still.
        """
        left = {label for label, _, _ in self._beside.missing(len(rows), after=rows[0][0] - 1)}
        gone = [text for label, _, text in rows if label not in left]
        if len(rows) - len(gone) < count:
            self._service.forget(gone)
