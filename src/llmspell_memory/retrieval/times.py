"""The times that a question names: found and read by dateparser, each as the day, week, month or year that it means."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from llmspell_memory.errors import ConfigError, MissingDependencyError
from llmspell_memory.types.locks import ForkLock

if TYPE_CHECKING:
    from collections.abc import Sequence

_LONGEST: Final = 1_000
"""Characters of a query that are looked at; a question is shorter, and a pasted text would take seconds."""

_YEARS: Final = range(1900, 2200)
_QUARTER_MONTHS: Final = 3
_SHORT: Final = 3
"""Letters of a word that alone names no time unless it is a name: "we", "sun" and "may" are words, "May" is a month."""

_WORDS: Final = frozenset({"march"})
"""Longer ones of which that is true."""

_reading = ForkLock(wait=False)
"""dateparser keeps what it learns of a language while it searches, for all who search."""


class NamedTimes:
    """Finds the times that a text names, such as "last May", "on 7 March", "in 2022", "two weeks ago", "yesterday".

    What could be more than one time is the latest one that has begun by the moment of asking: "in May" asked in March
    is that of last year. A reader is a value for `Ranking(dates=...)`, and takes a millisecond or two for a question.

    Args:
        languages: whose words are known, as codes such as "en", "de", "es".
        day_first: whether "5/8/2023" is 5 August; otherwise it is May 8.

    Raises:
        MissingDependencyError: the extra `dates` is not installed.
        ConfigError: a language is not known.
    """

    def __init__(self, languages: Sequence[str] = ("en",), *, day_first: bool = False) -> None:
        try:
            from dateparser.date import DateDataParser  # noqa: PLC0415 (optional, and 0.2 s to import)
            from dateparser.search import search_dates  # noqa: PLC0415
        except ImportError as error:
            raise MissingDependencyError("dateparser", extra="dates") from error
        if isinstance(languages, str) or not languages:
            raise ConfigError(f'languages must be codes such as ("en", "de"), got {languages!r}')
        self._languages = list(languages)
        self._search = search_dates
        self._parser = DateDataParser
        self._fixed = {
            "PREFER_DATES_FROM": "past",
            "PREFER_DAY_OF_MONTH": "first",
            "PREFER_MONTH_OF_YEAR": "first",
            "DATE_ORDER": "DMY" if day_first else "MDY",
            "PREFER_LOCALE_DATE_ORDER": False,
        }
        try:
            DateDataParser(languages=self._languages).get_date_data("today")
        except ValueError as error:
            raise ConfigError(f"languages must be codes that dateparser knows: {error}") from error

    def __repr__(self) -> str:
        return f"NamedTimes({self._languages!r})"

    def __call__(self, text: str, now: datetime) -> list[tuple[datetime, datetime]]:
        """Return the times that `text` names, each from a moment on until before another, in the time zone of `now`."""
        asked, zone = text[:_LONGEST], now.tzinfo
        settings = {**self._fixed, "RELATIVE_BASE": now.replace(tzinfo=None)}
        with _reading:
            parser = self._parser(languages=self._languages, settings=settings)
            phrases = self._search(asked, languages=self._languages, settings=settings) or []
            read = [parser.get_date_data(phrase) for phrase, _ in phrases if _names_a_time(phrase, asked)]
        spans = [_span(one.date_obj.replace(tzinfo=None), one.period) for one in read if one.date_obj is not None]
        return [
            (since.replace(tzinfo=zone), until.replace(tzinfo=zone)) for since, until in spans if since.year in _YEARS
        ]


def _names_a_time(phrase: str, text: str) -> bool:
    """Say whether what was found is no other word of the same letters."""
    if len(phrase) > _SHORT and phrase not in _WORDS:
        return True
    return phrase.isdigit() or (phrase[0].isupper() and not text.lstrip().startswith(phrase))


def _span(moment: datetime, period: Any) -> tuple[datetime, datetime]:
    """Return the calendar's day, week (from Monday on), month, quarter or year that a moment is in."""
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "week":
        monday = day - timedelta(days=day.weekday())
        return monday, monday + timedelta(days=7)
    if period == "year":
        first = day.replace(month=1, day=1)
        return first, first.replace(year=first.year + 1)
    if period in ("month", "quarter"):
        months = _QUARTER_MONTHS if period == "quarter" else 1
        first = day.replace(month=(day.month - 1) // months * months + 1, day=1)
        return first, (first + timedelta(days=31 * months)).replace(day=1)
    return day, day + timedelta(days=1)
