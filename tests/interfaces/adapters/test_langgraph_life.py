"""The LangGraph store over time: how items end, how it is opened, killed and awaited."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from langgraph.store.base import PutOp

from llmspell_memory import DefaultMemoryManager, EmbeddingService, Filter
from llmspell_memory.adapters.langgraph import EpisodicStore
from llmspell_memory.adapters.langgraph.sweeping import Sweeper
from llmspell_memory.embeddings import CallableProvider, HashingProvider, MemoryCache
from llmspell_memory.errors import ClosedError, ConfigError, EmbeddingError, SchemaError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

PROVIDER = HashingProvider()
HERE = ("users", "ada")


def keys(items: Sequence[Any]) -> list[str]:
    return [one.key for one in items]


def expire(store: EpisodicStore, key: str) -> None:
    """Let an item's time be over."""
    where = Filter(session_id=f"langgraph:{key}")
    assert store.memory.set_expiry(where, datetime.now(UTC) - timedelta(seconds=1)) > 0


def expiries(store: EpisodicStore) -> set[datetime | None]:
    return {one.expires_at for one in store.memory.scan(Filter(expired=None))}


class TestTimeToLive:
    def test_what_has_expired_is_unseen_and_swept(self, store: EpisodicStore) -> None:
        """No verb sees it before the sweep, which tells how many items it removed, parts and all."""
        store.put(HERE, "old", {"text": "tea", "tags": ["a", "b"]}, ttl=5)
        store.put(("other",), "old too", {"text": "tea"}, ttl=5)
        store.put(HERE, "new", {"text": "tea"}, ttl=5)
        store.put(HERE, "ever", {"text": "tea"})
        expire(store, "old")
        expire(store, "old too")
        assert store.get(HERE, "old") is None
        assert sorted(keys(store.search((), query="tea"))) == sorted(keys(store.search(()))) == ["ever", "new"]
        assert store.list_namespaces() == [HERE]
        assert store.memory.count(Filter(expired=True)) == 4
        assert store.sweep_ttl() == 2
        assert store.memory.count(Filter(expired=None)) == 2
        assert store.sweep_ttl() == 0

    def test_reading_prolongs_and_may_be_told_not_to(self, store: EpisodicStore) -> None:
        """Get and search move the end of all of an item to a time to live from now, unless `refresh_ttl` is False."""
        store.put(HERE, "k", {"text": "tea", "tags": ["a"]}, ttl=5)
        store.put(HERE, "k2", {"text": "tea"}, ttl=5.5)
        store.put(HERE, "ever", {"text": "tea"})
        before = expiries(store)
        assert len(before) == 3
        store.get(HERE, "k", refresh_ttl=False)
        store.search(HERE, query="tea", refresh_ttl=False)
        assert expiries(store) == before
        store.get(HERE, "k")
        assert len(expiries(store) & before) == 2
        (last,) = expiries(store) - before
        assert last is not None
        assert timedelta(minutes=4.9) < last - datetime.now(UTC) < timedelta(minutes=5)
        store.search(HERE, query="tea")
        assert expiries(store) & before == {None}
        assert len(expiries(store)) == 3  # one for each item, its part included
        kept = store.memory.get("langgraph:k", namespace=HERE)
        assert kept.metadata["value.text"] == "tea"

    def test_a_put_decides_anew(self, manager: DefaultMemoryManager) -> None:
        """The default is for puts that say nothing; None is for ever; and what expired is made anew."""
        store = EpisodicStore(manager, ttl={"default_ttl": 7, "refresh_on_read": False})
        store.put(HERE, "k", {})
        (end,) = expiries(store)
        assert end is not None
        assert timedelta(minutes=6.9) < end - datetime.now(UTC) < timedelta(minutes=7)
        store.get(HERE, "k")
        assert expiries(store) == {end}
        first = store.get(HERE, "k")
        store.put(HERE, "k", {}, ttl=None)
        assert expiries(store) == {None}
        assert store.get(HERE, "k").created_at == first.created_at  # type: ignore[union-attr]  # both are there
        store.put(HERE, "k", {})
        expire(store, "k")
        store.put(HERE, "k", {"n": 1})
        assert store.get(HERE, "k").created_at > first.created_at  # type: ignore[union-attr]  # both are there

    def test_prolonging_never_puts_back_what_was(self, store: EpisodicStore) -> None:
        """A reader that prolongs what another has meanwhile put anew, or for ever, or deleted, leaves that alone."""
        changes: list[Callable[[], object]] = [
            lambda: store.put(HERE, "k", {"n": 2}),
            lambda: store.put(HERE, "k", {"n": 2}, ttl=9),
            lambda: store.delete(HERE, "k"),
        ]
        for change in changes:
            store.put(HERE, "k", {"n": 1}, ttl=5)
            (read,) = store.memory.scan()
            change()
            before = [(one, one.expires_at) for one in store.memory.scan()]
            store._writer.refresh([read])
            assert [(one, one.expires_at) for one in store.memory.scan()] == before

    def test_a_thread_sweeps_until_it_is_stopped(
        self, manager: DefaultMemoryManager, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is started on request alone, survives a busy store, and ends when told."""
        store = EpisodicStore(manager, ttl={"sweep_interval_minutes": 1})
        assert store.stop_ttl_sweeper()
        store.put(HERE, "k", {}, ttl=5)
        expire(store, "k")
        store.start_ttl_sweeper(0.0001)
        store.start_ttl_sweeper(0.0001)
        deadline = time.monotonic() + 60
        while store.memory.count(Filter(expired=None)) and time.monotonic() < deadline:
            time.sleep(0.005)
        assert store.memory.count(Filter(expired=None)) == 0
        assert store.stop_ttl_sweeper(timeout=60)
        calls: list[Exception] = [ClosedError("closed"), UnavailableError("busy")]
        done = threading.Event()

        def sweep() -> None:
            done.set() if len(calls) == 1 else None
            raise calls.pop()

        with caplog.at_level(logging.ERROR):
            sweeper = Sweeper(sweep, 0.001)
            assert done.wait(60)
            sweeper._thread.join(60)
        assert not sweeper._thread.is_alive()
        assert "busy" in caplog.text

    @pytest.mark.parametrize("ttl", [{"default_ttl": 0}, {"sweep_interval_minutes": -1}, {"default_ttl": "5"}])
    def test_settings_are_checked(self, manager: DefaultMemoryManager, ttl: Any) -> None:
        """A setting that cannot be meant is an error when the store is made."""
        with pytest.raises(ConfigError):
            EpisodicStore(manager, ttl=ttl)


CHILD = """
import sys
from llmspell_memory.adapters.langgraph import EpisodicStore
from llmspell_memory.embeddings import HashingProvider
with EpisodicStore.open(sys.argv[1], index={"embed": HashingProvider(), "fields": ["text"]}) as store:
    assert store.get(("users",), "parent").value == {"text": "from the parent"}
    store.put(("users",), "child", {"text": "from the child"})
    print("stored", flush=True)
    sys.stdin.readline()
"""


class TestOpening:
    def test_what_was_put_survives_a_kill_and_is_seen_by_others(self, tmp_path: Path) -> None:
        """Two processes on one file see each other's items at once, and a kill -9 after `put` takes nothing."""
        path = tmp_path / "store.db"
        with EpisodicStore.open(path, index={"embed": PROVIDER, "fields": ["text"]}) as store:
            store.put(("users",), "parent", {"text": "from the parent"})
            child = subprocess.Popen(
                [sys.executable, "-c", CHILD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            with child:
                assert child.stdout is not None
                assert child.stdout.readline() == "stored\n"
                assert keys(store.search(("users",), query="from the child", limit=1)) == ["child"]
                child.kill()
        with EpisodicStore.open(path, index={"embed": PROVIDER, "fields": ["text"]}) as store:
            assert keys(store.search(("users",))) == ["parent", "child"]
        with pytest.raises(ClosedError):
            store.get(("users",), "child")

    def test_embeddings_of_every_kind(self) -> None:
        """LangChain's Embeddings, a function, an async function, a provider and a service: each embeds."""

        def function(texts: Sequence[str]) -> list[list[float]]:
            rows: list[list[float]] = PROVIDER.embed(texts).tolist()
            return rows

        async def awaited(texts: Sequence[str]) -> list[list[float]]:
            await asyncio.sleep(0)
            return function(texts)

        fake = DeterministicFakeEmbedding(size=8)
        indexes: list[Any] = [
            {"dims": 8, "embed": fake}, {"embed": fake}, {"dims": PROVIDER.dimensions, "embed": function},
            {"dims": PROVIDER.dimensions, "embed": awaited}, {"embed": PROVIDER}, {"embed": EmbeddingService(PROVIDER)},
        ]  # fmt: skip
        for index in indexes:
            with EpisodicStore.open(index=index) as store:
                store.put(HERE, "k", {"text": "tea"})
                asyncio.run(store.aput(HERE, "k2", {"text": "coffee"}))
                for found in (
                    store.search(HERE, query='{"text": "tea"}'),
                    asyncio.run(store.asearch(HERE, query='{"text": "tea"}')),
                ):
                    assert keys(found)[0] == "k"
                    assert found[0].score == pytest.approx(1, abs=1e-5)

    def test_what_cannot_be_an_index_is_refused(self, manager: DefaultMemoryManager) -> None:
        """The message says what is missing or does not fit."""
        for index, words in [
            ({"dims": 3}, "embed"),
            ({"embed": len}, "width"),
            ({"dims": 3, "embed": PROVIDER}, "3 dimensions"),
            ({"dims": 3, "embed": 5}, "got 5"),
            ({"dims": 3, "embed": HashingProvider}, "HashingProvider"),
        ]:
            with pytest.raises(ConfigError, match=words):
                EpisodicStore.open(index=index)  # type: ignore[arg-type]  # wrong on purpose
        with pytest.raises(ConfigError, match="fields"):
            EpisodicStore(manager, fields="text")
        with pytest.raises(ConfigError, match="memory must be"):
            EpisodicStore("memory.db")  # type: ignore[arg-type]  # wrong on purpose

    def test_another_model_is_refused(self, tmp_path: Path) -> None:
        """A file knows whose vectors it holds."""
        path = tmp_path / "store.db"
        EpisodicStore.open(path, index={"embed": PROVIDER}).close()
        with pytest.raises(SchemaError):
            EpisodicStore.open(path, index={"embed": DeterministicFakeEmbedding(size=PROVIDER.dimensions)})

    def test_an_embedding_that_fails_leaves_nothing(self) -> None:
        """A put whose text cannot be embedded stores nothing, also in a batch."""

        def nothing(texts: Sequence[str]) -> list[list[float]]:
            return [[0.0, 0.0] for _ in texts]

        with EpisodicStore.open(index={"dims": 2, "embed": nothing}) as store:
            ops = [PutOp(HERE, "a", {"n": 1}, index=False), PutOp(HERE, "b", {"n": 2})]
            with pytest.raises(EmbeddingError):
                store.batch(ops)
            with pytest.raises(EmbeddingError):
                asyncio.run(store.abatch(ops))
            assert store.search(()) == []


class TestAsync:
    def test_awaited_verbs_do_the_same(self, store: EpisodicStore) -> None:
        """Every awaited verb has its blocking one's result, also many at once."""

        async def use() -> None:
            await asyncio.gather(*[store.aput(HERE, f"k{n}", {"text": f"tea {n}", "n": n}) for n in range(20)])
            found = await store.asearch(HERE, query="tea 7", filter={"n": {"$lt": 10}}, limit=3)
            assert found == store.search(HERE, query="tea 7", filter={"n": {"$lt": 10}}, limit=3)
            assert await store.aget(HERE, "k3") == store.get(HERE, "k3")
            assert await store.alist_namespaces() == [HERE]
            await store.adelete(HERE, "k3")
            assert await store.aget(HERE, "k3") is None

        asyncio.run(use())
        assert len(store.search(HERE, limit=50)) == 19

    def test_a_write_that_nobody_waits_for_is_whole_or_absent(self, store: EpisodicStore) -> None:
        """Cancelled at any point, a batch is stored with all of its puts or none."""

        async def cancelled(hops: int) -> None:
            ops = [PutOp(("c", str(hops)), f"k{n}", {"text": f"tea {n}"}) for n in range(5)]
            task = asyncio.ensure_future(store.abatch(ops))
            for _ in range(hops):
                await asyncio.sleep(0.0005)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        for hops in range(8):
            asyncio.run(cancelled(hops))
        assert {len(store.search(("c", str(hops)))) for hops in range(8)} <= {0, 5}

    @pytest.mark.parametrize("cache", [None, MemoryCache(2)])
    def test_each_text_is_embedded_once(self, cache: MemoryCache | None) -> None:
        """Without a cache, or with one too small for a batch, an awaited batch embeds nothing twice."""
        seen: list[str] = []

        async def embed(texts: Sequence[str]) -> list[list[float]]:
            seen.extend(texts)
            rows: list[list[float]] = PROVIDER.embed(texts).tolist()
            return rows

        service = EmbeddingService(CallableProvider(embed, PROVIDER.dimensions), cache=cache)
        with EpisodicStore.open(index={"embed": service, "fields": ["text"]}) as store:
            asyncio.run(store.abatch([PutOp(HERE, f"k{n}", {"text": f"tea {n}"}) for n in range(5)]))
            assert sorted(seen) == [f"tea {n}" for n in range(5)]
            assert keys(asyncio.run(store.asearch(HERE, query="tea 3", limit=1))) == ["k3"]

    def test_the_event_loop_is_not_held_while_an_async_function_embeds(self) -> None:
        """An async function is awaited in the caller's own loop."""
        loops = set()

        async def embed(texts: Sequence[str]) -> list[list[float]]:
            loops.add(asyncio.get_running_loop())
            rows: list[list[float]] = PROVIDER.embed(texts).tolist()
            return rows

        async def use(store: EpisodicStore) -> None:
            await store.aput(HERE, "k", {"text": "tea"})
            await store.asearch(HERE, query="tea")
            assert loops == {asyncio.get_running_loop()}

        with EpisodicStore.open(index={"dims": PROVIDER.dimensions, "embed": embed}) as store:
            asyncio.run(use(store))
