"""`tune` and `advise` on the command line: tables, JSON, pictures, and what holds afterwards."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicEntry, HNSWConfig, MemoryConfig
from llmspell_memory.backends.sqlite.index_file import saved_parameters
from llmspell_memory.backends.tuned import NOTE
from llmspell_memory.cli.chart import chart
from llmspell_memory.embeddings import HashingProvider

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

    Invoke = Callable[..., Result]

POOR = HNSWConfig(m=6, ef_construction=40, ef_search=12)


@pytest.fixture
def config(db: Path) -> MemoryConfig:
    return MemoryConfig.for_production(EmbeddingService(HashingProvider(96)), path=db)


@pytest.fixture
def notes(invoke: Invoke, config: MemoryConfig) -> Invoke:
    """A store of 2,000 vectors, whose index was saved with a poor graph."""
    random = np.random.default_rng(0)
    vectors = random.standard_normal((40, 24))[random.integers(0, 40, 2_000)] * 2 + random.standard_normal((2_000, 24))
    vectors = vectors @ random.standard_normal((24, 96))
    with DefaultMemoryManager.with_config(config.with_hnsw_config(POOR)) as memory:
        memory.episodic.add_many(
            EpisodicEntry("s", "user", f"note {n}", id=f"{n}", embedding=vector) for n, vector in enumerate(vectors)
        )
    return invoke


def document(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_table_a_chart_and_a_verdict(notes: Invoke) -> None:
    """People see every point, the chosen one marked, the curve in letters, and one line of what to do."""
    result = notes("tune", "--target-recall", "0.9", "--sample", "200")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert any("recall@10" in line and "ef_construction" in line for line in lines)
    assert sum(line.startswith(" * ") for line in lines) == 1
    assert sum("┤" in line for line in lines) > 10
    assert any("*" in line for line in lines if "┤" in line)
    assert lines[-1].startswith("the cheapest that meets the target, recall@10 of 0.9, is m=6, ef_construction=40")
    assert "200 queries made from stored entries" in result.stdout


def test_json_is_the_report(notes: Invoke, db: Path) -> None:
    """--json prints every figure, and nothing else."""
    report = document(notes("tune", "--target-p95", "100000", "-k", "5", "--json"))
    assert report["db"] == str(db)
    assert (report["k"], report["entries"], report["kind"], report["met"]) == (5, 2_000, "sampled", True)
    assert report["chosen"] in report["points"]
    assert report["before"]["m"] == 6
    assert "recall@5" in report["verdict"]


def test_applied_it_holds_for_whoever_opens_the_store(notes: Invoke, config: MemoryConfig) -> None:
    """--apply records the parameters: a configuration without its own takes them, and so does `search --index hnsw`."""
    report = document(notes("tune", "--target-recall", "0.95", "--apply", "--json"))
    assert report["applied"]
    chosen = HNSWConfig(**report["chosen"]["hnsw"])
    with DefaultMemoryManager.with_config(config) as memory:
        assert memory.backend.hnsw == chosen
    assert notes("search", "note", "--index", "hnsw").exit_code == 0
    assert document(notes("stats", "--index", "hnsw", "--json"))["index"]["config"] == report["chosen"]["hnsw"]
    assert document(notes("tune", "--target-recall", "0.95", "--json"))["before"] == report["chosen"]["hnsw"]


def test_what_is_in_use_is_measured(notes: Invoke, config: MemoryConfig, db: Path) -> None:
    """The index measured is the one saved beside the store, even where something else is recorded; it stays saved."""
    with DefaultMemoryManager.with_config(config.with_hnsw_config(POOR)) as memory:
        memory.tune(target_recall=0.5, builds=[HNSWConfig(m=9)], apply=False)
        text = json.dumps({"hnsw": {"m": 9}})
        memory.backend.write_note(NOTE, text)
    assert document(notes("tune", "--target-recall", "0.9", "--json"))["before"]["m"] == 6
    assert saved_parameters(db) == POOR


def test_trial_builds_and_a_picture(notes: Invoke, tmp_path: Path) -> None:
    """--builds measures other graphs, --plot draws them all."""
    picture = tmp_path / "curve.svg"
    result = notes("tune", "--target-recall", "0.9", "--builds", "--sample", "60", "--plot", picture, "--json")
    report = document(result)
    assert {point["hnsw"]["m"] for point in report["points"]} == {6, 8, 16, 32}
    assert b"m=32, ef_construction=400" in picture.read_bytes() or b"<svg" in picture.read_bytes()
    assert not report["applied"]


def test_a_target_out_of_reach(notes: Invoke) -> None:
    """The exit code is 1, and the best there is is named."""
    result = notes("tune", "--target-p95", "0.001", "--apply")
    assert result.exit_code == 1
    assert "nothing measured meets the target, p95 of 0.001 µs; the best is m=6" in result.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "content",
    [
        "note 3\n\n  what about note 17?\n",
        '{"query": "note 3"}\n{"content": "what about note 17?", "session_id": "s"}\n',
        '{"llmspell_memory":1}\n{"content": "note 3"}\nplain\n',
    ],
)
def test_queries_of_a_file(notes: Invoke, tmp_path: Path, content: str) -> None:
    """Lines of text, and of JSON objects with a text; the first line of an export is none."""
    asked = tmp_path / "queries.txt"
    asked.write_text(content, encoding="utf-8")
    report = document(notes("tune", "--target-recall", "0.1", "--queries", asked, "--json"))
    assert (report["kind"], report["queries"]) == ("given", 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no query"),
        (b"\n \n", "holds no query"),
        (b"\xff\xfe\x00", "cannot be read as text"),
        (b"fine\n{broken\n", "queries.txt:2: begins like a JSON object and is none"),
        (b'{"text": "x"}', 'queries.txt:1: has no text under "query" or "content"'),
        (b'{"query": 3}', 'queries.txt:1: has no text under "query" or "content"'),
        (b'{"query": ""}', 'queries.txt:1: has no text under "query" or "content"'),
        (b'{"a": ' * 100_000, "queries.txt:1: begins like a JSON object and is none"),
        (b"x" * 1_000_001, "queries.txt:1: a query of more than 1,000,000 characters"),
    ],
    ids=lambda one: repr(one[:24]),
)
def test_a_file_that_holds_no_queries(filled: Invoke, tmp_path: Path, content: bytes, message: str) -> None:
    """Whatever is in the file, the error is one line that names file and line."""
    asked = tmp_path / "queries.txt"
    asked.write_bytes(content)
    result = filled("tune", "--target-recall", "0.9", "--queries", asked)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert message in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give one target"),
        (("--target-recall", "0.9", "--target-p95", "10"), "give one target"),
        (("--target-recall", "1.5"), "target_recall must be"),
        (("--target-recall", "nan"), "target_recall must be"),
        (("--target-p95", "-3"), "target_p95_us must be"),
        (("--target-recall", "0.9", "--plot", "curve.gif"), ".png or .svg"),
        (("--target-recall", "0.9", "--queries", "absent.txt"), "cannot be read"),
        (("--target-recall", "0.9", "--queries", "/"), "cannot be read"),
    ],
)
def test_wrong_arguments(filled: Invoke, arguments: tuple[str, ...], message: str) -> None:
    """An error of the library's kind: exit code 1, one line, before anything is measured."""
    result = filled("tune", *arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert message in line


def test_few_entries(filled: Invoke, db: Path) -> None:
    """A store of four entries is left as it is, and says why."""
    result = filled("tune", "--target-recall", "0.9", "--apply")
    assert result.exit_code == 0
    assert "4 entries are too few to choose by" in result.stdout
    assert saved_parameters(db) in (None, HNSWConfig())


def test_one_entry(invoke: Invoke) -> None:
    """Both commands say so in words, and the chart names no recall that nobody measured."""
    assert invoke("--provider", "hashing", "add", "one", "--session", "s", "--role", "user").exit_code == 0
    tuned = invoke("tune", "--target-recall", "0.9").stdout.splitlines()
    assert tuned[-1].startswith("1 entry is too few to choose by")
    (axis,) = [line.split() for line in tuned if line.endswith("  recall@10")]
    assert axis == ["1", "recall@10"]
    assert not any("│" in line for line in tuned)  # the target lies beyond the picture
    assert " µs at 1 entry, and an HNSW index" in invoke("advise").stdout.splitlines()[-1]


def test_a_plot_without_its_folder(notes: Invoke, tmp_path: Path) -> None:
    """It is told before anything is measured or applied."""
    plot = str(tmp_path / "absent" / "plot.png")
    result = notes("tune", "--target-recall", "0.9", "--apply", "--plot", plot)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "there is no folder" in result.stderr
    assert document(notes("tune", "--target-recall", "0.9", "--json"))["before"]["ef_search"] == POOR.ef_search


def test_advice(notes: Invoke) -> None:
    """A table of sizes, memory, and a line of advice; as JSON every figure."""
    shown = notes("advise").stdout
    assert "times as quick" in shown
    assert "bytes an entry" in shown
    assert "at 2,000 entries" in shown.splitlines()[-1]
    found = document(notes("advise", "-k", "3", "--json"))
    assert (found["entries"], found["view"], found["k"], found["hnsw"]["m"]) == (2_000, "hnsw", 3, 6)
    assert [point["entries"] for point in found["points"]] == [500, 2_000]


def test_advice_on_few_entries(filled: Invoke) -> None:
    """Four entries need no index, and are told so."""
    assert "either view will do" in filled("advise").stdout.splitlines()[-1]


def test_the_chart_places_what_it_shows(notes: Invoke, config: MemoryConfig) -> None:
    """The quickest point stands on the lowest line, the one that finds most at the right end, the target between."""
    del notes
    with DefaultMemoryManager.with_config(config.with_hnsw_config(POOR)) as memory:
        report = memory.tune(target_recall=0.9, sample=200)
    by_recall = sorted(report.points, key=lambda point: point.recall)
    told = {point: replace(point, p50_us=10.0 + n) for n, point in enumerate(by_recall)}  # the clock may say otherwise
    assert report.chosen is not None
    lines = chart(replace(report, points=tuple(told[point] for point in report.points), chosen=told[report.chosen]))
    plotted = [line.partition("┤")[2] for line in lines if "┤" in line]
    assert plotted[-1][0] in "o*"
    assert max(len(line) for line in plotted) <= 72
    assert any(line.endswith("o") and len(line) == 72 for line in plotted)
    assert all("│" in line or "*" in line or "o" in line for line in plotted)
    assert lines[-1].endswith("recall@10")
