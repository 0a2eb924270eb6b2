"""Turn the file of LoCoMo (`locomo10.json`) into what `retrieval.py` reads: entries and questions, an object a line.

Usage: python benchmarks/locomo.py locomo10.json > locomo.jsonl
"""

from __future__ import annotations

import argparse
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}
TURN_SECONDS = 30


def lines(samples: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield entries and questions; a question whose evidence names no turn is left out."""
    for number, sample in enumerate(samples):
        name, spoken = str(number), sample["conversation"]
        known = set()
        sessions = [int(found[1]) for key in spoken if (found := re.fullmatch(r"session_(\d+)", key))]
        for session in sorted(sessions):
            began = datetime.strptime(spoken[f"session_{session}_date_time"], "%I:%M %p on %d %B, %Y").replace(
                tzinfo=UTC
            )
            for place, turn in enumerate(spoken[f"session_{session}"]):
                known.add(turn["dia_id"])
                yield {
                    "type": "entry",
                    "conversation": name,
                    "id": turn["dia_id"],
                    "session": session,
                    "role": turn["speaker"],
                    "content": turn["text"],
                    "timestamp": (began + timedelta(seconds=place * TURN_SECONDS)).isoformat(),
                }
        for asked in sample["qa"]:
            evidence = [one for told in asked["evidence"] for one in re.split(r"[;,\s]+", told) if one in known]
            if evidence:
                yield {
                    "type": "question",
                    "conversation": name,
                    "question": asked["question"],
                    "evidence": list(dict.fromkeys(evidence)),
                    "category": CATEGORIES[asked["category"]],
                }


def main() -> None:
    """Read the file, and print its lines."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("path", type=Path)
    for line in lines(json.loads(options.parse_args().path.read_text(encoding="utf-8"))):
        print(json.dumps(line, ensure_ascii=False))


if __name__ == "__main__":
    main()
