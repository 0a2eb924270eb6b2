"""Nothing leaves the process unless a provider or a server is chosen that sends it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import llmspell_memory

WATCHED = """
import sys, threading
def refuse(event, args):
    if event.startswith(("socket.", "urllib.", "http.client", "ftplib.", "smtplib.", "subprocess.", "os.system")):
        told = f"{event} {args}"
        sys.stderr.write(told)
        sys.stderr.flush()
        import os
        os._exit(3)  # an exception could be caught by whoever wants to send
sys.addaudithook(refuse)
"""
SESSION = """
from datetime import UTC, datetime, timedelta
from llmspell_memory import *
from llmspell_memory.embeddings import DiskCache, LocalProvider
from llmspell_memory.operations import backup, check, migrate
from llmspell_memory.retrieval import NamedTimes

class Facts:
    def consolidate(self, entries):
        yield EpisodicEntry(entries[0].session_id, "fact", "a fact")

service = EmbeddingService(LocalProvider(), cache=DiskCache("cache.db"))
config = MemoryConfig.for_production(service, path="memory.db").with_retention(RetentionRule(max_entries=500))
with DefaultMemoryManager.with_config(config) as memory:
    memory.episodic.add_many(EpisodicEntry(f"s{n % 9}", "user", f"text number {n}") for n in range(300))
    for mode in ("semantic", "keyword", "hybrid"):
        assert memory.episodic.search("number 7", 5, mode=mode)
    memory.episodic.search("in May", 5, ranking=Ranking(dates=NamedTimes()))
    assert memory.episodic.context("number 8", budget_tokens=500).text
    assert memory.episodic.consolidate(Facts()).added
    memory.tune(target_recall=0.9, k=5, sample=50)
    memory.rebuild(m=8)
    memory.switch_backend(EpisodicBackendType.IN_MEMORY)
    memory.switch_backend(EpisodicBackendType.HNSW)
    assert memory.stats().entries
    memory.sweep()
    backup("memory.db", "backup.db")
    assert memory.scoped("a").episodic.count() == 0
    memory.episodic.forget(Filter(session_id="s1"))
    with DefaultMemoryManager.with_config(config.with_path("other.db")) as other:
        assert migrate(memory, other).verified
assert check("backup.db").sound
print(threading.active_count(), "whole")
"""
LOGGED = """
import logging
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
from llmspell_memory import *
from llmspell_memory.embeddings import DiskCache, LocalProvider
service = EmbeddingService(LocalProvider(), cache=DiskCache("cache.db"))
config = MemoryConfig.for_production(service, path="memory.db")
for _ in range(2):
    with DefaultMemoryManager.with_config(config) as memory:
        memory.episodic.add_many(EpisodicEntry("Zanzibar", "Zanzibar", f"Zanzibar {n}", id=f"Zanzibar{n}",
                                 namespace=("Zanzibar",), metadata={"Zanzibar": "Zanzibar"}) for n in range(50))
        for mode in ("semantic", "keyword", "hybrid"):
            memory.episodic.search("Zanzibar", 5, mode=mode, where=Filter(session_id="Zanzibar"))
        memory.rebuild(m=8)
        memory.episodic.forget(Filter(ids=["Zanzibar7"]))
        try:
            memory.episodic.add(EpisodicEntry("Zanzibar", "user", "x", embedding=[1.0]))
        except InputError as error:
            assert "Zanzibar" not in str(error)
"""
COMMANDS = """
from llmspell_memory.cli import main
for command in (
    ["add", "My dog is called Ada.", "--session", "s", "--role", "user"], ["search", "dog"], ["context", "dog"],
    ["stats"], ["sessions"], ["recent"],
    ["backup", "copy.db"], ["check"], ["doctor"], ["export", "out.jsonl"], ["delete", "--session", "s", "--yes"],
):
    sys.argv = ["llmspell-memory", "--db", "cli.db", *command]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (command, end.code)
print("whole")
"""
NAMES = ("socket", "connect", "sendto", "sendmsg", "getaddrinfo", "gethostbyname", "WSAStartup")


def run(script: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", WATCHED + script],
        cwd=folder,
        env={"PATH": "", "HOME": str(folder), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_a_whole_session_opens_no_socket(tmp_path: Path) -> None:
    """Embedding, storing, searching, tuning, moving and forgetting ask nobody: there is no socket and no child."""
    assert run(SESSION, tmp_path).endswith("whole\n")


def test_no_log_holds_a_word(tmp_path: Path) -> None:
    """At its most talkative the log has lines, and none with a text, a query, an id, a session or a namespace."""
    log = run(LOGGED, tmp_path)
    assert "Creating HNSW episodic backend" in log
    assert "Zanzibar" not in log


def test_no_command_opens_a_socket(tmp_path: Path) -> None:
    """Nor does the command line, but where it serves or is told to reach a server."""
    assert run(COMMANDS, tmp_path).endswith("whole\n")


@pytest.mark.parametrize("attempt", ["import socket; socket.socket()", "import subprocess; subprocess.run(['true'])"])
def test_what_watches_would_see_it(attempt: str, tmp_path: Path) -> None:
    """The judge is awake: a socket, or a process that might open one, is told."""
    with pytest.raises(AssertionError, match=r"socket\.__new__|subprocess\.Popen"):
        run(attempt, tmp_path)


def test_the_native_modules_know_no_network() -> None:
    """What Python cannot watch has no such functions linked in."""
    modules = [one for one in Path(llmspell_memory.__file__).parent.rglob("*") if one.suffix in {".so", ".pyd"}]
    modules += _installed()
    assert len(modules) >= 2
    for module in modules:
        data = module.read_bytes()
        assert [name for name in NAMES if f"\0{name}\0".encode() in data] == [], module


def _installed() -> list[Path]:
    """Where an editable install keeps the native modules."""
    from llmspell_memory import _core, _pages  # noqa: PLC0415 (their places are all that is wanted)

    return [Path(str(one.__file__)) for one in (_core, _pages)]
