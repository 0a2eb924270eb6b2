"""Caches: keys, the one in memory, the one on disk."""

from __future__ import annotations

import multiprocessing
import sqlite3
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from llmspell_memory.embeddings import DiskCache, EmbeddingCache, EmbeddingService, HashingProvider, MemoryCache
from llmspell_memory.embeddings.cache import cache_key
from llmspell_memory.errors import (
    ClosedError,
    ConfigError,
    CorruptDataError,
    SchemaError,
    StorageError,
    UnavailableError,
)
from llmspell_memory.types import EmbeddingSpace

SPACE = EmbeddingSpace(provider="p", model="m", dimensions=3)
KEYS = [bytes([number]) * 32 for number in range(5)]
ROWS = np.arange(15, dtype=np.float32).reshape(5, 3) + 1


@pytest.fixture(params=["memory", "disk"])
def cache(request: Any, tmp_path: Any) -> Any:
    if request.param == "memory":
        yield MemoryCache(3)
        return
    with DiskCache(tmp_path / "cache.db", max_entries=3) as disk:
        yield disk


def found(cache: Any, keys: Any = KEYS) -> Any:
    return [None if vector is None else int(vector[0]) // 3 for vector in cache.get_many(keys)]


def test_keys_differ_by_everything_but_the_metric() -> None:
    """A key depends on provider, model, dimensions, kind, variant and text, each for itself; not on the metric."""
    base = cache_key(SPACE, "document", "text")
    assert len(base) == 32
    others = [
        cache_key(EmbeddingSpace(provider="pm", model="", dimensions=3), "document", "text"),
        cache_key(EmbeddingSpace(provider="p", model=None, dimensions=3), "document", "text"),
        cache_key(EmbeddingSpace(provider="p", model="", dimensions=3), "document", "text"),
        cache_key(EmbeddingSpace(provider="p", model="m", dimensions=33), "document", "text"),
        cache_key(SPACE, "query", "text"),
        cache_key(SPACE, "document", "text "),
        cache_key(SPACE, "document", "text", variant="passage: "),
    ]
    assert len({base, *others}) == 8
    same = EmbeddingSpace(provider="p", model="m", dimensions=3, metric="euclidean")
    assert cache_key(same, "document", "text") == base


def test_keys_are_the_same_everywhere() -> None:
    """A key made on another machine or by an earlier release is found again."""
    assert cache_key(SPACE, "document", "é").hex() == GOLDEN_KEY


GOLDEN_KEY = "c4ebeb961f1bce7da171b7d01b0b8a491b4ade24f66aeb29733ae7950b272e66"


def test_both_are_caches(cache: Any) -> None:
    """Ours fulfil the protocol."""
    assert isinstance(cache, EmbeddingCache)


def test_what_was_put_is_found(cache: Any) -> None:
    """Vectors come back in the order of the keys, equal, read-only; unknown keys give None."""
    cache.put_many(KEYS[:2], ROWS[:2])
    one, none, two = cache.get_many([KEYS[1], KEYS[4], KEYS[0]])
    assert none is None
    assert_array_equal(one, ROWS[1])
    assert_array_equal(two, ROWS[0])
    assert one.dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        one[0] = 5


def test_a_cache_keeps_a_copy(cache: Any) -> None:
    """Changing what was put changes nothing that is kept."""
    rows = ROWS[:1].copy()
    cache.put_many(KEYS[:1], rows)
    rows[:] = 0
    assert_array_equal(cache.get_many(KEYS[:1])[0], ROWS[0])


def test_a_known_key_is_replaced(cache: Any) -> None:
    """Putting a key again replaces its vector."""
    cache.put_many(KEYS[:1], ROWS[:1])
    cache.put_many(KEYS[:1], ROWS[4:])
    assert found(cache, KEYS[:1]) == [4]
    assert len(cache) == 1


def test_the_oldest_make_room(cache: Any) -> None:
    """Never more than max_entries are kept; the first written leave first."""
    for number in range(5):
        cache.put_many(KEYS[number : number + 1], ROWS[number : number + 1])
    assert found(cache) == [None, None, 2, 3, 4]
    assert len(cache) == 3


def test_discarded_keys_are_gone(cache: Any) -> None:
    """Discarding forgets the keys, and ignores unknown ones."""
    cache.put_many(KEYS[:2], ROWS[:2])
    cache.discard(KEYS[1:4])
    assert found(cache) == [0, None, None, None, None]


def test_use_keeps_a_vector_in_memory() -> None:
    """In memory it is the least recently used that leaves."""
    cache = MemoryCache(3)
    cache.put_many(KEYS[:3], ROWS[:3])
    cache.get_many([KEYS[0]])
    cache.put_many(KEYS[3:4], ROWS[3:4])
    assert found(cache) == [0, None, 2, 3, None]


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "3"])
def test_sizes_are_checked(tmp_path: Any, wrong: Any) -> None:
    """A size that is no positive integer is refused."""
    with pytest.raises(ConfigError, match="max_entries"):
        MemoryCache(wrong)
    with pytest.raises(ConfigError, match="max_entries"):
        DiskCache(tmp_path / "cache.db", max_entries=wrong)


def test_the_disk_survives_reopening(tmp_path: Any) -> None:
    """A second service over the same file embeds nothing that the first embedded."""
    texts = [f"text {number}" for number in range(1200)]
    with DiskCache(tmp_path / "cache.db") as disk:
        first = EmbeddingService(HashingProvider(), cache=disk).embed(texts)
    with DiskCache(tmp_path / "cache.db") as disk:
        service = EmbeddingService(HashingProvider(), cache=disk)
        assert_array_equal(service.embed(texts), first)
        assert (service.hits, service.misses) == (1200, 0)


def fill(path: Any, start: Any, barrier: Any) -> None:
    """Open the file at the same moment as others, and write."""
    barrier.wait()
    with DiskCache(path) as disk:
        service = EmbeddingService(HashingProvider(32), cache=disk)
        for number in range(start, start + 40):
            service.embed([f"text {number}"])


def test_processes_share_a_file(tmp_path: Any) -> None:
    """Processes that make and write one file at once leave every vector in it."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    workers = [context.Process(target=fill, args=(tmp_path / "cache.db", start, barrier)) for start in (0, 20, 40)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    with DiskCache(tmp_path / "cache.db") as disk:
        service = EmbeddingService(HashingProvider(32), cache=disk)
        service.embed([f"text {number}" for number in range(80)])
        assert (service.hits, service.misses) == (80, 0)


def test_a_damaged_row_is_embedded_again(tmp_path: Any, caplog: Any) -> None:
    """A row whose checksum does not fit is never given out: it counts as missing, is logged, and is overwritten."""
    path = tmp_path / "cache.db"
    with DiskCache(path) as disk:
        service = EmbeddingService(HashingProvider(32), cache=disk)
        right = service.embed(["a", "b", "c", "d"])
    connection = sqlite3.connect(path)
    connection.execute("UPDATE vectors SET vector = substr(vector, 1, 128) || zeroblob(8) WHERE id = 1")
    connection.execute("UPDATE vectors SET vector = substr(vector, 1, 40) WHERE id = 2")
    connection.execute("UPDATE vectors SET vector = (SELECT vector FROM vectors WHERE id = 4) WHERE id = 3")
    connection.commit()
    connection.close()
    with DiskCache(path) as disk:
        service = EmbeddingService(HashingProvider(32), cache=disk)
        assert_array_equal(service.embed(["a", "b", "c", "d"]), right)
        assert (service.hits, service.misses) == (1, 3)
        assert caplog.text.count("is damaged") == 3
        service.embed(["a", "b", "c", "d"])
        assert service.hits == 5


def test_a_file_of_something_else_is_refused_untouched(tmp_path: Any) -> None:
    """Another program's database raises SchemaError, and stays as it was."""
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SchemaError, match=r"other\.db is a database of something else"):
        DiskCache(path)
    assert path.read_bytes() == before


def test_a_newer_version_is_refused(tmp_path: Any) -> None:
    """A cache of a newer version raises SchemaError and says what to do."""
    path = tmp_path / "cache.db"
    DiskCache(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(SchemaError, match="version 99"):
        DiskCache(path)


def test_what_is_no_database_is_refused(tmp_path: Any) -> None:
    """A file that is no database, and one torn in its middle, raise CorruptDataError that names it."""
    path = tmp_path / "cache.db"
    path.write_bytes(b"hello" * 1000)
    with pytest.raises(CorruptDataError, match=r"cache\.db"):
        DiskCache(path)
    whole = tmp_path / "whole.db"
    with DiskCache(whole) as disk:
        EmbeddingService(HashingProvider(), cache=disk).embed([f"text {number}" for number in range(300)])
    data = bytearray(whole.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    whole.write_bytes(data)
    with DiskCache(whole) as disk, pytest.raises(CorruptDataError, match=r"whole\.db"):
        EmbeddingService(HashingProvider(), cache=disk).embed(["text 1"])


def test_a_folder_that_is_not_there(tmp_path: Any) -> None:
    """A path that cannot be opened raises StorageError."""
    with pytest.raises(StorageError, match="cannot be used"):
        DiskCache(tmp_path / "missing" / "cache.db")


def test_a_closed_cache_says_so(tmp_path: Any) -> None:
    """After `close` every call raises ClosedError; closing again does nothing."""
    disk = DiskCache(tmp_path / "cache.db")
    disk.close()
    disk.close()
    with pytest.raises(ClosedError):
        disk.get_many(KEYS)
    with pytest.raises(ClosedError):
        disk.put_many(KEYS, ROWS)


def test_a_vector_of_another_width_is_no_hit(provider: Any) -> None:
    """A cache that gives back a wrong width is not believed."""

    class Wrong(MemoryCache):
        def get_many(self, keys: Any) -> Any:
            return [np.ones(7, dtype=np.float32) for _ in keys]

    service = EmbeddingService(provider, cache=Wrong())
    assert service.embed(["a", "b"]).shape == (2, 32)
    assert service.embed_one("a").shape == (32,)
    assert service.hits == 0


def test_a_locked_file_is_unavailable(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that another process keeps locked raises UnavailableError, and works again afterwards."""
    monkeypatch.setattr("llmspell_memory.embeddings.disk_cache._BUSY_SECONDS", 0.05)
    with DiskCache(tmp_path / "cache.db") as disk:
        other = sqlite3.connect(tmp_path / "cache.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UnavailableError, match="locked"):
            disk.put_many(KEYS, ROWS)
        other.execute("ROLLBACK")
        other.close()
        disk.put_many(KEYS, ROWS)
        assert found(disk) == [0, 1, 2, 3, 4]


def test_a_forked_child_opens_the_file_anew(tmp_path: Any) -> None:
    """A cache that was opened before a fork serves parent and child, each over its own connection."""
    script = """
import os, sys
import numpy as np
from llmspell_memory.embeddings import DiskCache
disk = DiskCache(sys.argv[1])
mine = disk._connection
disk.put_many([b"parent"], np.ones((1, 3), dtype=np.float32))
child = os.fork()
if not child:
    disk.put_many([b"child"], np.ones((1, 3), dtype=np.float32))
    os._exit(0 if len(disk) == 2 and disk._connection is not mine else 1)
assert os.waitpid(child, 0)[1] == 0
assert disk._connection is mine and len(disk) == 2
disk.close()
"""
    subprocess.run([sys.executable, "-c", script, tmp_path / "cache.db"], check=True)
