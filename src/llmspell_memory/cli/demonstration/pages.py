"""How the demo looks: on a terminal, and as JSON."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from rich.text import Text

from llmspell_memory.cli.demonstration.measure import K
from llmspell_memory.cli.render import hit_object, minute, one_line, table
from llmspell_memory.types.text import bytes_told

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rich.console import RenderableType

    from llmspell_memory.cli.demonstration.measure import Answer, Reopened, ViewFigures

_SHOWN = 3


def question_page(number: int, answer: Answer) -> Iterator[RenderableType]:
    """Yield a question with its best hits; a tick stands at those that are the evidence."""
    head = Text(f"{number}. {one_line(answer.question.text)}", style="bold")
    head.append(f"  embedded in {answer.embed_us:,.0f} µs, found in {answer.search_us:,.0f} µs", style="not bold dim")
    yield head
    hits = table("", "score", "session", "when (UTC)", "content", right=["score"])
    hits.show_header = False
    hits.box = None
    for column in hits.columns:
        column.no_wrap, column.overflow = True, "ellipsis"
    for column, width in zip(hits.columns, (2, 6, 26, 10), strict=False):
        column.width = width
    hits.columns[-1].ratio = 1
    hits.expand = True
    for hit in answer.hits[:_SHOWN]:
        is_evidence = hit.entry.id in answer.question.evidence
        hits.add_row(
            Text("✓" if is_evidence else "", style="green"),
            Text(f"{hit.score:.3f}"),
            Text(one_line(hit.entry.session_id), style="cyan"),
            Text(minute(hit.entry.timestamp)[:10]),
            Text(one_line(hit.entry.content)),
        )
    yield hits
    yield Text()


def evidence_line(answers: Sequence[Answer]) -> str:
    """Return how many questions found a piece of their evidence."""
    judged = [answer for answer in answers if answer.question.evidence]
    if not judged:
        return "Nobody has said which entries hold the answers, so none is marked and none counted."
    top, wide = (sum(answer.found_in(k) for answer in judged) for k in (_SHOWN, K))
    return (
        f"Of {len(judged)} questions, {top} found a turn that holds the answer (✓) among the first {_SHOWN}, "
        f"{wide} among the first {K}."
    )


def views_page(views: Sequence[ViewFigures]) -> Iterator[RenderableType]:
    """Yield the table of the two views, and what is to be made of it."""
    numbers = (f"recall@{K}", "p50 µs", "p95 µs", "runs", "index built, ms", "index in memory")
    shown = table("view", *numbers, right=numbers, title="The same questions through both views of the same file")
    for one in views:
        shown.add_row(
            one.view,
            f"{one.recall:.3f}",
            f"{one.p50_us:,.0f}",
            f"{one.p95_us:,.0f}",
            f"{one.runs:,}",
            f"{one.build_ms:,.1f}",
            bytes_told(one.memory_bytes),
        )
    yield shown
    yield Text("A run is one search by vector for 10 entries, reading their rows from the file included.")
    yield Text(
        "Up to some hundreds of entries the HNSW view, too, looks at every vector: a walk through the graph would cost "
        "more. `make bench` measures larger stores, where the graph is what answers."
    )
    yield Text()


def reopened_page(found: Reopened) -> Iterator[RenderableType]:
    """Yield what closing and opening again left unchanged."""
    verdict = {True: "equal", False: "DIFFERENT"}
    yield Text("Closed, and opened again", style="bold")
    yield Text(f"entries     {found.before:,} before, {found.after:,} after")
    yield Text(f"one entry   {one_line(found.entry_id, 40)}: every field and its vector {verdict[found.entry_equal]}")
    yield Text(f"one search  {one_line(found.question, 60)}: hits and scores {verdict[found.hits_equal]}")
    yield Text()


def next_command(path: Path, question: str) -> str:
    """Return a command line that asks the demo's store something."""
    return f"llmspell-memory --db {shlex.quote(str(path))} search {shlex.quote(one_line(question))}"


def answer_object(answer: Answer) -> dict[str, Any]:
    """Return an answer as a JSON object."""
    return {
        "question": answer.question.text,
        "evidence": sorted(answer.question.evidence),
        "hits": [hit_object(hit) | {"is_evidence": hit.entry.id in answer.question.evidence} for hit in answer.hits],
        "embed_us": answer.embed_us,
        "search_us": answer.search_us,
    }
