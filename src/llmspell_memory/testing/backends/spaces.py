"""A store moves to another embedding space in place: searches never stop, nothing is lost, and it can be undone."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from llmspell_memory.embeddings import EmbeddingService, HashingProvider
from llmspell_memory.errors import (
    ClosedError,
    ConfigError,
    DimensionError,
    EmbeddingError,
    InputError,
    SpaceChangedError,
)
from llmspell_memory.testing.backends.material import DIMENSIONS, contents, entry, fields_of
from llmspell_memory.types import Filter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llmspell_memory.manager import DefaultMemoryManager
    from llmspell_memory.protocols import EmbeddingKind
    from llmspell_memory.types import EpisodicEntry, Matrix

_WIDTH = DIMENSIONS + 16
_ALL = Filter(expired=None)


class Watched(HashingProvider):
    """A provider of another space that counts its texts, and lets a test do something before each call."""

    def __init__(self, before: Callable[[int], object] = lambda _: None) -> None:
        super().__init__(_WIDTH)
        self.texts = 0
        self._before = before

    def embed(self, texts: Sequence[str], *, kind: EmbeddingKind = "document") -> Matrix:
        """Embed after what the test does."""
        self._before(self.texts)
        self.texts += len(texts)
        return super().embed(texts, kind=kind)


def without_vectors(manager: DefaultMemoryManager) -> list[object]:
    """Return every field but the vectors."""
    return [fields_of(one.changed(embedding=None))[:2] for one in manager.episodic.scan(_ALL)]


def texts(count: int) -> list[EpisodicEntry]:
    """Return entries with texts that differ."""
    return [entry(f"text number {n}", f"s{n % 7}", id=f"n{n}", minute=n, metadata={"n": n}) for n in range(count)]


class SpacesContract:
    """What a backend promises about vectors of another space beside those in use."""

    def test_a_store_moves_to_another_space_and_back(self, manager: DefaultMemoryManager) -> None:
        """All but the vectors stays as it was; what is searched and added then is in the new space."""
        memory, former = manager.episodic, manager.service
        memory.add_many(texts(300))
        memory.mark_processed(["n3"])
        before, vectors = without_vectors(manager), [fields_of(one) for one in memory.scan(_ALL)]
        service = EmbeddingService(Watched())
        report = manager.reembed(service).wait(60)
        assert (report.rows, report.embedded, report.switched) == (300, 300, True)
        assert report.sample == 100
        assert 0.0 < (report.overlap or 0.0) <= 1.0
        assert manager.service is service
        stats = manager.stats()
        assert (stats.space, stats.index.size) == (service.space, 300)
        assert [(one.space, one.vectors) for one in stats.beside] == [(former.space, 300)]
        assert without_vectors(manager) == before
        assert contents(memory.search("text number 17", 1)) == ["text number 17"]
        one = memory.get("n17").embedding
        assert one is not None
        assert len(one) == _WIDTH
        memory.add(entry("a text of the new time", id="new"))
        assert contents(memory.search("a text of the new time", 1)) == ["a text of the new time"]
        memory.delete(Filter(ids=frozenset(["new"])))
        back = manager.reembed(former).wait(60)
        assert (back.embedded, back.switched) == (0, True)
        assert [fields_of(one) for one in memory.scan(_ALL)] == vectors
        assert manager.service is former

    def test_what_is_written_meanwhile_is_there_afterwards(self, manager: DefaultMemoryManager) -> None:
        """Adds, replacements, marks and deletes of the time in between: every text has its vector, and no other has."""
        memory = manager.episodic
        memory.add_many(texts(600))

        def write(done: int) -> None:
            if done >= 600:
                return
            memory.add(entry(f"written after {done}", id=f"w{done}"))
            memory.add(entry(f"replaced after {done}", id="n1"))
            memory.delete(Filter(ids=frozenset([f"n{done // 10 + 2}"])))
            memory.mark_processed([f"n{done // 10 + 200}"])

        service = EmbeddingService(Watched(write), cache=None)
        assert manager.reembed(service).wait(60).switched
        plain = EmbeddingService(HashingProvider(_WIDTH))
        stored = list(memory.scan(_ALL))
        assert {one.id for one in stored} >= {"w0", "n1"}
        assert "n2" not in {one.id for one in stored}
        for one in stored:
            assert one.embedding is not None
            assert one.embedding.tobytes() == plain.embed([one.content])[0].tobytes(), one.content
        assert manager.stats().index.size == len(stored) or manager.stats().lag

    def test_searches_and_writes_never_stop(self, manager: DefaultMemoryManager) -> None:
        """While the space changes, twice, every search of other threads finds its entry, and every add is there."""
        memory, former = manager.episodic, manager.service
        memory.add_many(texts(200))
        faults: list[BaseException] = []
        ended = threading.Event()
        added = []

        def work() -> None:
            try:
                number = 0
                while not ended.is_set():
                    found = memory.search(f"text number {number % 200}", 1)
                    assert contents(found) == [f"text number {number % 200}"]
                    if number % 4 == 0:
                        added.append(memory.add(entry(f"added {number}", id=f"a{number}")))
                    assert sum(1 for _ in memory.scan()) >= 200
                    number += 1
            except BaseException as error:  # noqa: BLE001 (told to the test's own thread)
                faults.append(error)

        worker = threading.Thread(target=work)
        worker.start()
        try:
            for service in (EmbeddingService(Watched()), former):
                assert manager.reembed(service, sample=0).wait(60).switched
        finally:
            ended.set()
            worker.join()
        if faults:
            raise faults[0]
        assert added
        assert set(added) <= {one.id for one in memory.scan()}

    def test_writers_cannot_put_off_the_switch_for_ever(self, manager: DefaultMemoryManager) -> None:
        """Though new texts come faster than they are embedded, the store moves, and they are all there."""
        memory = manager.episodic
        memory.add_many(texts(20))
        ended = threading.Event()
        added: list[str] = []

        def write() -> None:
            while not ended.is_set():
                added.append(memory.add(entry(f"added {len(added)}", id=f"a{len(added)}")))
                time.sleep(0.002)

        def wait_for_writers(_: int) -> None:
            more, until = len(added) + 8, time.monotonic() + 0.5  # in the end it is they who wait
            while len(added) < more and time.monotonic() < until:
                time.sleep(0.002)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            assert manager.reembed(EmbeddingService(Watched(wait_for_writers), cache=None)).wait(30).switched
        finally:
            ended.set()
            writer.join()
        assert len(added) > 20, "nobody wrote meanwhile"
        assert memory.count(_ALL) == 20 + len(added)

    def test_an_interrupted_move_goes_on_where_it_was(self, manager: DefaultMemoryManager) -> None:
        """A provider that fails costs the call it fails in; the next move embeds what is missing alone."""
        memory = manager.episodic
        memory.add_many(texts(600))

        def fail(done: int) -> None:
            if done >= 256:
                raise EmbeddingError("out of credit")

        reembedding = manager.reembed(EmbeddingService(Watched(fail)))
        with pytest.raises(EmbeddingError, match="out of credit"):
            reembedding.wait(60)
        assert reembedding.progress.state == "failed"
        assert contents(memory.search("text number 17", 1)) == ["text number 17"]
        again = EmbeddingService(Watched())
        left = manager.estimate_reembedding(again)
        assert (left.rows, left.texts) == (600, 344)
        assert manager.reembed(again).wait(60).embedded == 344

    def test_a_move_can_be_paused_stopped_and_left_unfinished(self, manager: DefaultMemoryManager) -> None:
        """Paused, it embeds nothing; stopped, it says so; and the store is in its former space all the time."""
        memory, former = manager.episodic, manager.service
        memory.add_many(texts(600))
        first, go = threading.Event(), threading.Event()

        def wait(_: int) -> None:
            first.set()
            go.wait(60)

        provider = Watched(wait)
        reembedding = manager.reembed(EmbeddingService(provider))
        assert first.wait(60)
        reembedding.pause()
        go.set()
        with pytest.raises(TimeoutError):
            reembedding.wait(0.3)
        assert reembedding.progress.state == "paused"
        assert provider.texts == 256
        with pytest.raises(ConfigError, match="being re-embedded"):
            manager.reembed(EmbeddingService(Watched()))
        reembedding.stop()
        assert reembedding.progress.state == "stopped"
        with pytest.raises(ClosedError, match="stopped"):
            reembedding.wait()
        assert manager.service is former
        assert contents(memory.search("text number 17", 1)) == ["text number 17"]
        (kept,) = manager.stats().beside
        assert kept.vectors == 256
        manager.drop_space(kept.space)
        assert manager.stats().beside == ()

    def test_the_switch_can_be_made_by_hand(self, manager: DefaultMemoryManager) -> None:
        """Ready, the store stays where it is until it is told; what was written since is embedded then."""
        memory, former = manager.episodic, manager.service
        memory.add_many(texts(50))
        reembedding = manager.reembed(EmbeddingService(Watched()), switch=False)
        report = reembedding.wait(60)
        assert (report.switched, reembedding.progress.state) == (False, "ready")
        assert manager.service is former
        memory.add(entry("late", id="late"))
        report = reembedding.switch()
        assert (report.switched, report.embedded) == (True, 51)
        assert contents(memory.search("late", 1)) == ["late"]

    def test_costs_are_told_before(self, manager: DefaultMemoryManager) -> None:
        """Texts, characters and calls; to estimate changes nothing."""
        manager.episodic.add_many(texts(300))
        told = manager.estimate_reembedding(EmbeddingService(Watched()))
        assert (told.rows, told.texts, told.calls) == (300, 300, 2)
        assert told.characters == sum(len(f"text number {n}") for n in range(300))
        assert told.disk_bytes >= 300 * 4 * _WIDTH
        assert (told.source, told.target.dimensions) == (manager.backend.space, _WIDTH)
        assert manager.stats().beside == ()

    def test_what_cannot_be_is_refused(self, manager: DefaultMemoryManager) -> None:
        """The space in use, one that is not kept, a scope, a vector of the former space."""
        memory, former = manager.episodic, manager.service
        memory.add_many(texts(5))
        vector = former.embed_one("text")
        with pytest.raises(ConfigError, match="already"):
            manager.reembed(former)
        with pytest.raises(ConfigError, match="scope"):
            manager.scoped("acme").reembed(EmbeddingService(Watched()))
        with pytest.raises(ConfigError, match="scope"):
            manager.scoped("acme").drop_space(EmbeddingService(Watched()).space)
        with pytest.raises(InputError, match="none"):
            manager.drop_space(EmbeddingService(Watched()).space)
        with pytest.raises(InputError, match="sample"):
            manager.reembed(EmbeddingService(Watched()), sample=-1)
        manager.reembed(EmbeddingService(Watched())).wait(60)
        with pytest.raises(InputError, match="no vectors of"):
            manager.drop_space(manager.backend.space)
        with pytest.raises(DimensionError):
            memory.search(vector)
        with pytest.raises(SpaceChangedError):
            manager.backend.search(vector, 3, Filter(), space=former.space)

    def test_a_scope_moves_with_its_store(self, manager: DefaultMemoryManager) -> None:
        """A scope made before goes on in the new space."""
        scope = manager.scoped("acme")
        scope.episodic.add_many(texts(20))
        manager.reembed(EmbeddingService(Watched())).wait(60)
        assert contents(scope.episodic.search("text number 7", 1)) == ["text number 7"]
        scope.episodic.add(entry("later"))
        assert contents(scope.episodic.search("later", 1)) == ["later"]
        assert scope.stats().beside == ()

    def test_an_empty_store_moves_too(self, manager: DefaultMemoryManager) -> None:
        """There is nothing to embed, and then it is in the new space."""
        report = manager.reembed(EmbeddingService(Watched())).wait(60)
        assert (report.rows, report.overlap, report.switched) == (0, None, True)
        manager.episodic.add(entry("first"))
        assert contents(manager.episodic.search("first")) == ["first"]

    def test_forgetting_reaches_every_space(self, manager: DefaultMemoryManager) -> None:
        """What is forgotten or deleted has no vector in any of them."""
        memory = manager.episodic
        memory.add_many(texts(30))
        manager.reembed(EmbeddingService(Watched()), switch=False).wait(60)
        memory.forget(Filter(ids=frozenset(["n1", "n2"])))
        memory.delete(Filter(ids=frozenset(["n3"])))
        assert [one.vectors for one in manager.stats().beside] == [27]
        memory.add(entry("other words", id="n4"))
        assert [one.vectors for one in manager.stats().beside] == [26]
        memory.add(entry("text number 5", id="n5", metadata={"only": "this is new"}))
        assert [one.vectors for one in manager.stats().beside] == [26]
