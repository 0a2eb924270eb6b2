"""Who of two stores is who: found out from their notes, and refused where the two make no pair."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from llmspell_memory.backends.notes import MIGRATION, REMEDY, read_note, unfinished
from llmspell_memory.errors import ConfigError, InputError
from llmspell_memory.operations.migration.follow import last_number
from llmspell_memory.operations.rollout.figures import Bar, Figures, RolloutReport, report_of
from llmspell_memory.operations.rollout.record import BACK, FORTH, NOTE, Record, home_of, read_record
from llmspell_memory.types import Filter

if TYPE_CHECKING:
    from llmspell_memory.protocols import EpisodicBackend

logger = logging.getLogger(__name__)


def settled(
    primary: EpisodicBackend, candidate: EpisodicBackend, window: int
) -> tuple[EpisodicBackend, EpisodicBackend, Record]:
    """Return home, the other, and the record of the rollout between them, be it a new one."""
    name = primary.stats().id
    record = read_record(primary, window=window)
    if record is not None and record.primary == name:
        if record.serving == "candidate" and record.candidate != (given := candidate.stats().id):
            raise ConfigError(
                f"in place of this primary serves the candidate {record.candidate} that was promoted, and not {given}; "
                "give that one, or begin with it as the primary"
            )
        return primary, candidate, record
    if (home := home_of(primary)) is not None and home == candidate.stats().id:
        record = read_record(candidate, window=window)
        if record is not None and record.candidate == name:
            logger.info("A rollout goes on whose stores were given the other way round")
            return candidate, primary, record
    return primary, candidate, Record(name, Figures(window))


def check_nobodys(candidate: EpisodicBackend, primary: str) -> None:
    """Refuse a candidate with rows that came from elsewhere, for they would be deleted; and one that is not whole."""
    if what := unfinished(candidate):
        raise InputError(f"the candidate is not whole, for a {what} into it was not finished: {REMEDY[what]}")
    came = [read_note(candidate, note) for note in (FORTH, MIGRATION)]
    if any(known is not None and known.get("source") == primary for known in came):
        return
    if entries := candidate.count(Filter(expired=None)):
        raise InputError(
            f"the candidate holds {entries:,} entries that are not this primary's, and would lose them; give an empty "
            "store, or one that was migrated from the primary"
        )


def check_not_older(primary: EpisodicBackend, candidate: EpisodicBackend) -> None:
    """Refuse a primary that is a backup of before its candidate took over: what was written since would be deleted."""
    took_over = (read_note(candidate, NOTE) or {}).get("took_over")
    if isinstance(took_over, int) and last_number(primary) < took_over and home_of(candidate) == primary.stats().id:
        raise InputError(
            "the primary is an older state of itself, of before the candidate took over, which has what was written "
            f"since. Go on with the candidate as a primary of its own; or write_note({NOTE!r}, None) there, to have it "
            "made equal to this one"
        )


def recorded(primary: EpisodicBackend, candidate: EpisodicBackend, bar: Bar) -> RolloutReport | None:
    """Return how the rollout between two stores stands by what they keep of it; None where there is none."""
    home, away, record = settled(primary, candidate, bar.window)
    if record.candidate is None or record.candidate != away.stats().id:
        return None
    serves, follows, note = (home, away, FORTH) if record.serving == "primary" else (away, home, BACK)
    position = (read_note(follows, note) or {}).get("position")
    return report_of(
        record.figures,
        bar,
        phase=record.phase,
        serving=record.serving,
        reason=record.reason,
        lag=max(0, last_number(serves) - max(0, position)) if isinstance(position, int) else None,
        lag_seconds=None,
        unerased=record.unerased,
    )
