"""Opens a saved index and searches it twice, in a process that does nothing else; prints what that took as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from measure import K, seconds

from llmspell_memory.index import HNSWIndex


def main() -> None:
    """Measure what the two arguments name: the saved index, and a query."""
    path, query = Path(sys.argv[1]), np.load(sys.argv[2])
    opened: list[HNSWIndex] = []
    spent = seconds(lambda: opened.append(HNSWIndex.open(path)))
    first, second = (seconds(lambda: opened[0].search(query, K)) for _ in range(2))
    print(json.dumps({"open_ms": 1e3 * spent, "first_search_us": 1e6 * first, "second_search_us": 1e6 * second}))


if __name__ == "__main__":
    main()
