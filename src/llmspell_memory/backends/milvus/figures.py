"""How many rows there are, and how they are spread over namespaces and sessions: counted here, over short fields."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from llmspell_memory.backends.figures import sizes
from llmspell_memory.backends.milvus.rows import NAMES, names_of
from llmspell_memory.backends.milvus.where import condition
from llmspell_memory.types import Filter, SessionSummary
from llmspell_memory.types.moments import moment

if TYPE_CHECKING:
    from datetime import datetime

    from llmspell_memory.backends.figures import Sizes
    from llmspell_memory.backends.milvus.connections import Connection


def sessions(connection: Connection, rows: str, where: Filter, now: datetime) -> list[SessionSummary]:
    """Return one line per session, counting the entries that match, latest activity first."""
    fields = ["pk", "path", "session_key", "happened", "processed"]
    found: dict[tuple[str, str], list[tuple[int, bool, str]]] = {}
    for row in connection.select(rows, condition(where, now), fields):
        turn = row["happened"], row["processed"], row["pk"]
        found.setdefault((row["path"], row["session_key"]), []).append(turn)
    firsts = connection.fetch(rows, [turns[0][2] for turns in found.values()], NAMES)
    lines = []
    for turns in found.values():
        if turns[0][2] not in firsts:  # gone meanwhile, by another process
            continue
        namespace, _, session_id, _ = names_of(firsts[turns[0][2]])
        line = SessionSummary(
            session_id=session_id,
            namespace=namespace,
            entries=len(turns),
            unprocessed=sum(not processed for _, processed, _ in turns),
            first=moment(min(happened for happened, _, _ in turns)),
            last=moment(max(happened for happened, _, _ in turns)),
        )
        lines.append(line)
    lines.sort(key=lambda line: (line.session_id, line.namespace))
    lines.sort(key=lambda line: line.last, reverse=True)
    return lines


def row_figures(connection: Connection, rows: str, now: datetime) -> tuple[int, int, Sizes]:
    """Return how many rows there are, how many are unprocessed, and how they are spread."""
    lines = sessions(connection, rows, Filter(expired=None), now)
    counts: Counter[tuple[tuple[str, ...], str]] = Counter()
    for line in lines:
        counts[line.namespace, line.session_id] += line.entries
    return counts.total(), sum(line.unprocessed for line in lines), sizes(counts)
