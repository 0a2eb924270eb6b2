"""Writers whose store is a rollout: the primary is the job's store, and the candidate lies beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmspell_memory import DefaultMemoryManager, HNSWConfig
from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.operations import Bar, Rollout
from tests.faults.harness.history import ALL, SERVICES, Row
from tests.faults.harness.writer import Writer, serve

if TYPE_CHECKING:
    from pathlib import Path

    from llmspell_memory.types import Durability

RANDOM = {
    "add": 30,
    "add_many": 20,
    "replace": 15,
    "mark": 10,
    "delete": 8,
    "forget": 3,
    "sweep": 2,
    "reopen": 3,
    "turn": 8,
    "search": 10,
}
"""How often each operation comes where they come at random."""

LENIENT = Bar(queries=10, p95_ratio=1e6)
"""What only a wrong answer or an error breaks."""


def candidate_of(primary: Path) -> Path:
    return primary.with_name("candidate.db")


def rollout_of(primary: Path, durability: Durability = "normal", *, share: float = 1.0) -> Rollout:
    """Open both stores, the primary exact and the candidate with HNSW, and the rollout over them."""
    space = SERVICES[0].space
    hnsw = HNSWConfig(m=8, ef_construction=64, ef_search=64)
    return Rollout(
        SQLiteBackend(primary, space, durability=durability),
        SQLiteBackend(candidate_of(primary), space, hnsw=hnsw, durability=durability),
        share=share,
        bar=LENIENT,
    )


class RolloutWriter(Writer):
    """Does random operations on a rollout, and lets its stores change places."""

    def open(self) -> None:
        rollout = rollout_of(self.path, self.job.get("durability", "normal"))  # type: ignore[arg-type]  # from JSON
        self.manager = DefaultMemoryManager(rollout, SERVICES[0])
        if rollout.report().state == "rolled back":
            rollout.restart()
        self.rollout = rollout
        if not self.state:
            self.state = {
                one.id: Row(one.metadata["version"], one.processed, one.expires_at is not None)  # type: ignore[arg-type]
                for one in self.manager.episodic.scan(ALL)
            }

    def operate(self, kinds: list[str]) -> None:
        kind = self.chance.choice(kinds)
        if kind == "random":
            kind = self.chance.choices(list(RANDOM), list(RANDOM.values()))[0]
        super().operate([kind])

    def switch(self) -> None:
        """Leave the views as they are; that of the primary is exact."""

    def turn(self) -> None:
        """Promote, or roll back."""
        if self.rollout.report().serving == "primary":
            self.do({"begin": "switch", "to": "candidate"}, lambda: self.rollout.promote(force=True))
        else:
            self.do({"begin": "switch", "to": "primary"}, self.rollout.rollback)

    def level(self) -> None:
        """Let the one that follows come level."""
        self.rollout.catch_up()

    def search(self) -> None:
        """Search for what is there."""
        for entry in self.manager.episodic.scan(ALL, limit=self.chance.randint(1, 5)):
            assert entry.embedding is not None
            self.manager.episodic.search(entry.embedding, 3)


if __name__ == "__main__":
    serve(RolloutWriter)
