"""Which days and months a question names: what was said then is more likely meant."""

from __future__ import annotations

import re
from typing import Final

from llmspell_memory.types import NamedDate

_MONTHS: Final = """
    january jan januar janvier enero gennaio janeiro
    february feb februar février febrero febbraio fevereiro
    march mar märz mars marzo março
    april apr avril abril aprile
    may mai mayo maggio maio
    june jun juni juin junio giugno junho
    july jul juli juillet julio luglio julho
    august aug août agosto
    september sept sep septembre septiembre settembre setembro
    october oct oktober okt octobre octubre ottobre outubro
    november nov novembre noviembre novembro
    december dec dezember dez décembre diciembre dicembre dezembro
"""
_MONTH: Final = {
    word: number for number, line in enumerate(_MONTHS.strip().splitlines(), start=1) for word in line.split()
}
_EITHER: Final = "|".join(sorted(_MONTH, key=len, reverse=True))

_BEFORE: Final = "in during since until early late mid last this im seit bis anfang ende en depuis desde durante em"
"""Words that make a month of what may be a name, or a word such as "may"."""

_ALSO_VERBS: Final = frozenset({"may", "march", "mar"})
"""Words that are months where they are written like one, or have a year."""

_WRITTEN: Final = re.compile(
    rf"""
    \b(?: (?P<before>{"|".join(_BEFORE.split())})[\s-]+ )?
    (?: (?P<day>[0-3]?\d)(?:st|nd|rd|th|er|\.)?\s+(?:(?:of|de|di)\s+)? )?
    (?P<month>{_EITHER})\b\.?
    (?: \s+(?P<late_day>[0-3]?\d)(?:st|nd|rd|th)?\b(?!:) )?
    (?: (?:,?\s+|\s+(?:of|de|di)\s+)(?P<year>[12]\d{{3}})\b )?
    """,
    re.IGNORECASE | re.VERBOSE,
)
_ISO: Final = re.compile(r"(?<![\d.-])(?P<year>[12]\d{3})-(?P<month>[01]\d)(?:-(?P<day>[0-3]\d))?(?![\d-])")
_CJK: Final = re.compile(
    r"(?:(?P<year>[12]\d{3})\s*[年년]\s*)?(?P<month>1?\d)\s*[月월](?:\s*(?P<day>[0-3]?\d)\s*[日일])?"
)

_DIGIT: Final = re.compile(r"\d")
_AROUND: Final = ".,;:!?\"'()[]"
"""What may stand around a month's name."""

_LAST_MONTH: Final = 12
_LAST_DAY: Final = 31


def named_dates(text: str) -> tuple[NamedDate, ...]:
    """Return the days and months that `text` names, such as "7 May 2023", "in June", "2024-03-01" and "5月7日".

    A month alone counts only behind a word such as "in": others may be names, or no months at all.
    """
    found: list[NamedDate] = []
    if not _MONTH.keys().isdisjoint(word.strip(_AROUND) for word in text.lower().replace("-", " ").split()):
        found += [
            _date(one["year"], _MONTH[one["month"].lower()], one["day"] or one["late_day"])
            for one in _WRITTEN.finditer(text)
            if one["year"] or (one["month"] not in _ALSO_VERBS and (one["before"] or one["day"] or one["late_day"]))
        ]
    if _DIGIT.search(text):
        for pattern in (_ISO, _CJK):
            found += [_date(one["year"], int(one["month"]), one["day"]) for one in pattern.finditer(text)]
    return tuple(dict.fromkeys(one for one in found if 1 <= one.month <= _LAST_MONTH and one.day <= _LAST_DAY))


def _date(year: str | None, month: int, day: str | None) -> NamedDate:
    return NamedDate(int(year or 0), month, int(day or 0))
