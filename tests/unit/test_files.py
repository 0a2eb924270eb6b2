"""Who may read the files that a memory makes: their owner alone, unless somebody has decided otherwise."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING

import pytest

from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicEntry, Filter, MemoryConfig
from llmspell_memory.backends.sqlite import pages
from llmspell_memory.embeddings import DiskCache, HashingProvider
from llmspell_memory.operations import backup, repair

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="rights are not modes there")


@pytest.fixture(params=[0, 0o022], ids="umask {:03o}".format, autouse=True)
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """With a umask that takes nothing away, only what is asked for at the making of a file protects it."""
    before = os.umask(request.param)
    yield
    os.umask(before)


def config(path: Path) -> MemoryConfig:
    cache = DiskCache(path.with_name("cache.db"))
    return MemoryConfig.for_production(EmbeddingService(HashingProvider(), cache=cache), path=path)


def modes(folder: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir() if file.is_file()}


def filled(path: Path) -> Iterator[DefaultMemoryManager]:
    """Open a memory twice, with entries: once so that its index is saved, once with its log there."""
    with DefaultMemoryManager.with_config(config(path)) as memory:
        memory.episodic.add_many(EpisodicEntry("s", "user", f"text {number}") for number in range(20))
        memory.episodic.search("text", 3)
    with DefaultMemoryManager.with_config(config(path)) as memory:
        memory.episodic.add(EpisodicEntry("s", "user", "one more"))
        yield memory


def test_what_is_made_is_its_owners_alone(tmp_path: Path) -> None:
    """Store, log, shared memory, index, words, backup, repaired store and embedding cache: 0600 each."""
    path = tmp_path / "memory.db"
    for _ in filled(path):
        backup(path, tmp_path / "backup.db")
        found = modes(tmp_path)
    repair(path, tmp_path / "repaired.db")
    found |= modes(tmp_path)
    assert {"memory.db", "memory.db-wal", "memory.db-shm", "memory.db-index", "cache.db"} <= set(found)
    assert {"backup.db", "repaired.db"} <= set(found)
    assert {name: oct(mode) for name, mode in found.items() if mode != 0o600} == {}


def test_a_store_that_is_shared_shares_what_stands_beside_it(tmp_path: Path) -> None:
    """Who gives a group the store gives it log, shared memory and index, also those that are written anew."""
    path = tmp_path / "memory.db"
    for _ in filled(path):
        pass
    path.chmod(0o660)
    for memory in filled(path):
        memory.episodic.forget(Filter(session_id="s"))
        found = modes(tmp_path)
    beside = {name: oct(mode) for name, mode in found.items() if name.startswith("memory.db")}
    assert len(beside) > 3
    assert set(beside.values()) == {"0o660"}


def test_an_empty_file_says_who_may_read(tmp_path: Path) -> None:
    """Made beforehand with other rights, the store keeps them."""
    path = tmp_path / "memory.db"
    path.touch()
    path.chmod(0o640)
    for _ in filled(path):
        assert oct(modes(tmp_path)["memory.db"]) == "0o640"
    assert oct(modes(tmp_path)["memory.db-index"]) == "0o640"


def test_a_store_without_checksums_is_its_owners_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where SQLite makes the file by itself, and copies it."""
    monkeypatch.setattr(pages, "_outcome", ["none here"])
    path = tmp_path / "memory.db"
    for _ in filled(path):
        backup(path, tmp_path / "backup.db")
        found = modes(tmp_path)
    assert {name: oct(mode) for name, mode in found.items() if mode != 0o600} == {}
