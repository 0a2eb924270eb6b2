"""Recall and speed of the index beside its peers: hnswlib, usearch, faiss, zvec and numpy, in one process and in turn.

Parts are measured one after the other. A part or a peer that fails is named, and the rest goes on.
"""

from __future__ import annotations

import argparse
import traceback
from typing import Any, Final

import changes
import curve
import filters
import growth
import report
import snapshot
import threads
from bench import CORES, Bench
from data import load, machine, parser

PARTS: Final = {
    "curve": curve.measure,
    "filters": filters.measure,
    "changes": changes.measure,
    "threads": threads.measure,
    "snapshot": snapshot.measure,
    "growth": growth.measure,
}
USUAL: Final = [part for part in PARTS if part != "growth"]


def arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    options = parser(str(__doc__))
    options.add_argument(
        "--parts", type=parts, default=USUAL, help=f"some of {','.join(PARTS)} (default: all but growth)"
    )
    options.add_argument("--write-docs", action="store_true", help=f"put the tables into {report.PAGE}")
    return options.parse_args()


def parts(text: str) -> list[str]:
    """Return the parts named in `text`, in the order in which they are measured."""
    named = text.split(",")
    if unknown := set(named) - set(PARTS):
        raise argparse.ArgumentTypeError(f"there is no part {', '.join(sorted(unknown))}")
    return [part for part in PARTS if part in named]


def measured(part: str, bench: Bench) -> list[dict[str, Any]] | None:
    """Return what a part yields, and print it; None, with the reason, where it fails."""
    print(f"\n{report.TITLES[part]} ({part})\n", flush=True)
    try:
        rows = list(PARTS[part](bench))
    except Exception:  # noqa: BLE001 (the other parts are worth having)
        traceback.print_exc()
        return None
    print(report.table(part, rows))
    if part == "curve":
        print(report.shown(part, rows), flush=True)
    return rows


def main() -> None:
    """Measure, print tables, and write them as JSON, as a picture and on request into the docs."""
    options = arguments()
    bench = Bench(load(options))
    print(f"{machine()}; {bench.data.source}; {bench.largest:,} vectors of {bench.dimensions} dimensions")
    found = {part: measured(part, bench) for part in options.parts}
    head = {"machine": machine(), "cores": CORES, "data": bench.data.source, "largest": bench.largest}
    path = options.output / "index.json"
    options.output.mkdir(parents=True, exist_ok=True)
    result = report.merged(path, head | {"parts": {part: rows for part, rows in found.items() if rows is not None}})
    report.write_json(path, result)
    if found.get("curve"):
        report.draw(options.output, result["parts"]["curve"], bench.data.source)
    bench.close()
    if options.write_docs:
        report.write_page(result)
    print(f"written to {path}")


if __name__ == "__main__":
    main()
