"""What `peers.py` has measured, as Markdown, and its place in the documentation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

PAGE: Final = Path(__file__).parents[1] / "docs" / "comparison.md"
MARKED: Final = re.compile(r"(<!-- peers:begin -->\n).*?(<!-- peers:end -->)", re.DOTALL)

FILTERS: Final = {"half": "1/2", "tenth": "1/10", "hundredth": "1/100", "session": "one session"}

Result = dict[str, Any]


def told(result: Result) -> str:
    """Return all tables."""
    sizes = sorted({row["size"] for row in result["rows"]})
    loads = [row["load"] for row in result["rows"]]
    lines = [
        f"Measured by `make bench-peers` on {result['machine']};",
        f"data: {result['data']}.",
        f"Load of that machine, before each store was measured: {min(loads):.1f} to {max(loads):.1f}.",
        "",
        "### What was installed",
        "",
        *chosen(result),
        "",
        "### Searches",
    ]
    for size in sizes:
        rows = [row for row in result["rows"] if row["size"] == size]
        lines += ["", f"{size:,} entries, p50 in ms of one search for the best 10:", "", *times(rows), ""]
        lines += [f"{size:,} entries, recall@10; in brackets, how many of the ten came back:", "", *recalls(rows)]
    lines += ["", "### Writes and files", ""]
    lines += files(result["rows"])
    lines += ["", "### Kills, tenants, the network", "", *facts(result)]
    return "\n".join(lines) + "\n"


def table(heads: list[str], rows: list[list[str]], *, words: int = 1) -> list[str]:
    """Return a table, whose first columns are words and whose others are numbers."""
    return [
        f"| {' | '.join(heads)} |",
        "|" + "---|" * words + "---:|" * (len(heads) - words),
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def chosen(result: Result) -> list[str]:
    """Return what each store is: versions, what was chosen, packages."""
    rows = [
        [
            one["store"],
            ", ".join(f"{name} {version}" for name, version in one["versions"].items()),
            one["how"],
            f"{one['packages']}",
            f"{one['package_bytes'] / 1e6:,.1f}",
            f"{one['import_ms']:,.0f}",
        ]
        for one in result["facts"]
    ]
    return table(["", "versions", "how it is used", "packages", "MB of packages", "import ms"], rows, words=3)


def times(rows: list[Result]) -> list[str]:
    """Return how long searches took."""
    names = {"none": "no filter"} | FILTERS
    shown = [[row["store"], *(_ms(row["searches"][name]["ms"]["p50"]) for name in names)] for row in rows]
    return table(["", *names.values()], shown)


def recalls(rows: list[Result]) -> list[str]:
    """Return what was found."""
    names = {"none": "no filter"} | FILTERS
    shown = [
        [
            row["store"],
            *(f"{one['recall']:.3f} ({10 * one['came']:.1f})" for one in (row["searches"][name] for name in names)),
        ]
        for row in rows
    ]
    return table(["", *names.values()], shown)


def files(rows: list[Result]) -> list[str]:
    """Return what writing, opening and keeping takes."""
    shown = [
        [
            f"{row['size']:,}",
            row["store"],
            f"{row['fill_seconds']:,.1f}",
            _ms(row["add_ms"]["p50"]),
            _ms(row["add_ms"]["p95"]),
            _ms(row["open_ms"]) if "open_ms" in row else "-",
            f"{row['bytes'] / 1e6:,.0f}" if "bytes" in row else "-",
            f"{row['load']:.1f}",
        ]
        for row in sorted(rows, key=lambda row: row["size"])
    ]
    heads = ["entries", "", "all at once, s", "one more, p50 ms", "p95 ms", "open and first search, ms", "MB on disk"]
    heads.append("load before")
    return table(heads, shown, words=2)


def facts(result: Result) -> list[str]:
    """Return what a kill leaves, what tenants see of each other, and what goes to the network."""
    shown = [
        [
            one["store"],
            f"{one['kill']['there']} of {one['kill']['acknowledged']}",
            f"{one['tenants']['seen_of_others']}",
            f"{one['tenants']['tenants']} of {result['names']}",
            ", ".join(f"`{host}`" for host in one["network"]["hosts"]) or "none",
            f"{one['network']['connected']}" if one["network"]["traced"] else "not traced",
        ]
        for one in result["facts"]
    ]
    return table(
        [
            "",
            "acknowledged writes there after `kill -9`",
            "entries seen of other tenants",
            "tenants' names taken",
            "hosts looked up or connected to",
            "addresses outside, by `strace`",
        ],
        shown,
        words=1,
    )


def _ms(value: float) -> str:
    return f"{value:,.2f}" if value < 10 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def write_page(result: Result) -> None:
    """Put the tables between the marks of the page."""
    text = PAGE.read_text(encoding="utf-8")
    if not MARKED.search(text):
        raise SystemExit(f"{PAGE} has no place for the tables: <!-- peers:begin --> ... <!-- peers:end -->")
    filled = MARKED.sub(lambda marks: f"{marks[1]}\n{told(result)}\n{marks[2]}", text)
    PAGE.write_text(filled, encoding="utf-8")
