"""The measured as tables, as JSON and as a picture."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from engines import OURS
from equal_recall import by_engine, front, summary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = "docs/hnsw.md"
"""The page that shows the tables."""

LEAST: Final = 0.9
"""Recall from which on the picture shows a line."""

MARKED: Final = re.compile(r"(<!-- index:begin -->\n).*?(<!-- index:end -->)", re.DOTALL)

Row = dict[str, Any]


class Column(NamedTuple):
    """A column: its heading, the row's key, and how a value is written."""

    heading: str
    key: str
    form: str = ""

    def cell(self, row: Row) -> str:
        """Return the value as text; a dash where there is none."""
        value = row.get(self.key)
        return "-" if value is None else format(value, self.form)


SIZE: Final = Column("vectors", "size", ",")
INDEX: Final = Column("index", "index")
SETTING: Final = Column("setting", "setting")
RECALL: Final = Column("recall@10", "recall", ".4f")
ENTRY_BYTES: Final = Column("bytes an entry", "entry_bytes", ",")
OPEN_MS: Final = Column("open ms", "open_ms", ",.2f")
LATENCY: Final = [Column(f"p{share} µs", f"p{share}", ",.1f") for share in (50, 95, 99)]
CURVE: Final = [
    SIZE,
    INDEX,
    SETTING,
    RECALL,
    *LATENCY,
    Column("build s", "build_seconds", ",.2f"),
    ENTRY_BYTES,
    Column("above its vector", "above_vectors_bytes", ","),
]
EQUAL: Final = [
    SIZE,
    INDEX,
    Column("p50 µs at recall ≥ .95", "p50@0.95", ",.1f"),
    Column("x hnswlib", "ratio@0.95", ".2f"),
    Column("p50 µs at recall ≥ .99", "p50@0.99", ",.1f"),
    Column("x hnswlib", "ratio@0.99", ".2f"),
    Column("p50 µs at the recall of hnswlib, ef=50", "p50@usual", ",.1f"),
    Column("x hnswlib", "ratio@usual", ".2f"),
    Column("build s", "build_seconds", ",.2f"),
    ENTRY_BYTES,
]
OTHERS: Final = {
    "filters": [
        Column("filter", "kind"),
        Column("share", "share", ".1%"),
        INDEX,
        RECALL,
        Column("fewer than k", "fewer", ".1%"),
        *LATENCY,
    ],
    "changes": [
        INDEX,
        Column("change", "change"),
        Column("found by the next search", "found", ".1%"),
        RECALL,
        *LATENCY,
    ],
    "threads": [
        Column("work", "work"),
        Column("threads", "threads"),
        Column("seconds", "seconds", ".3f"),
        *LATENCY,
        Column("added meanwhile", "added", ","),
    ],
    "snapshot": [
        SIZE,
        Column("save s", "save_seconds", ".3f"),
        Column("bytes", "bytes", ","),
        OPEN_MS,
        Column("first search µs", "first_search_us", ",.0f"),
        Column("second search µs", "second_search_us", ",.0f"),
    ],
    "growth": [
        SIZE,
        Column("rows", "rows"),
        SETTING,
        RECALL,
        *LATENCY,
        Column("build s", "build_seconds", ",.1f"),
        ENTRY_BYTES,
        OPEN_MS,
    ],
}
TITLES: Final = {
    "curve": "At equal recall",
    "filters": "Among some of the vectors",
    "changes": "Adds and deletes",
    "threads": "Threads",
    "snapshot": "Saving and opening",
    "growth": "Ten times as many",
}


def markdown(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """Return rows as a Markdown table; what failed stands below it."""
    measured = [row for row in rows if "failed" not in row]
    used = [column for column in columns if any(row.get(column.key) is not None for row in measured)]
    lines = [
        "| " + " | ".join(column.heading for column in used) + " |",
        "|" + "|".join("---:" if numeric(column, measured) else "---" for column in used) + "|",
        *("| " + " | ".join(column.cell(row) for column in used) + " |" for row in measured),
    ]
    failed = dict.fromkeys(f"Not measured: {row['index']} ({row['failed']})." for row in rows if "failed" in row)
    return "\n".join([*lines, *(["", *failed] if failed else [])]) + "\n"


def numeric(column: Column, rows: Sequence[Row]) -> bool:
    """Return whether a column holds numbers."""
    return any(isinstance(row.get(column.key), int | float) for row in rows)


def table(part: str, rows: Sequence[Row]) -> str:
    """Return all that a part measured."""
    return markdown(CURVE if part == "curve" else OTHERS[part], rows)


def shown(part: str, rows: Sequence[Row]) -> str:
    """Return what the page shows of a part: of the curve the comparison, of others all."""
    return markdown(EQUAL, summary(rows)) if part == "curve" else table(part, rows)


def page(result: Row) -> str:
    """Return what the page shows: what was measured on what, and a table per part."""
    lines = [
        f"Measured by `make bench` on {result['machine']}; vectors: {result['data']}.",
        "One query a call from Python, one thread, top 10, in one process and in turn; recall against an exact search.",
        f"m 16, ef_construction 200, built with {result['cores']} threads. `x hnswlib` is how many times quicker than",
        "hnswlib at that recall.",
    ]
    for part in (part for part in TITLES if part in result["parts"]):
        lines += ["", f"### {TITLES[part]}", "", shown(part, result["parts"][part]).rstrip("\n")]
    return "\n".join(lines) + "\n"


def write_page(result: Row) -> None:
    """Put the tables between the marks of the page."""
    path = ROOT / PAGE
    text = path.read_text(encoding="utf-8")
    if not MARKED.search(text):
        raise SystemExit(f"{PAGE} has no place for the tables: <!-- index:begin --> ... <!-- index:end -->")
    filled = MARKED.sub(lambda marks: f"{marks[1]}\n{page(result)}\n{marks[2]}", text)
    path.write_text(filled, encoding="utf-8")


def merged(path: Path, result: Row) -> Row:
    """Return `result` with the parts that an earlier run measured on the same machine and data."""
    if not path.exists():
        return result
    before: Row = json.loads(path.read_text(encoding="utf-8"))
    alike = all(before.get(key) == value for key, value in result.items() if key != "parts")
    return result | {"parts": before["parts"] | result["parts"]} if alike else result


def write_json(path: Path, result: Row) -> None:
    """Write the result, a line per row, so that a later run's differences can be read."""
    head = {key: value for key, value in result.items() if key != "parts"}
    parts = ",\n".join(
        f'  "{part}": [\n' + ",\n".join(f"   {json.dumps(row, ensure_ascii=False)}" for row in rows) + "\n  ]"
        for part, rows in result["parts"].items()
    )
    text = json.dumps(head, indent=1, ensure_ascii=False).removesuffix("\n}") + f',\n "parts": {{\n{parts}\n }}\n}}\n'
    path.write_text(text, encoding="utf-8")


def draw(folder: Path, rows: Sequence[Row], source: str) -> None:
    """Draw recall against p50, a panel per size and a line per engine, as index.png and index.svg."""
    import matplotlib as mpl  # noqa: PLC0415 (a table needs none)

    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "index"  # the same figures give the same file
    from matplotlib import pyplot as plt  # noqa: PLC0415 (after the choice of what draws)

    sizes = list(dict.fromkeys(row["size"] for row in rows))
    figure, panels = plt.subplots(1, len(sizes), figsize=(4.2 * len(sizes), 4.6), squeeze=False, layout="constrained")
    for panel, size in zip(panels[0], sizes, strict=True):
        draw_panel(panel, [row for row in rows if row["size"] == size], plt.get_cmap("tab10"))
        panel.set_title(f"{size:,} vectors")
    panels[0][0].set_ylabel("p50 of a query, µs (lower is better)")
    handles = {
        label: handle for panel in panels[0] for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5, frameon=False)
    figure.suptitle(f"Top 10, one query a call from Python, one thread; {source}", fontsize="medium")
    figure.savefig(folder / "index.png", dpi=144)
    figure.savefig(folder / "index.svg", metadata={"Date": None})
    plt.close(figure)


def draw_panel(panel: Any, rows: Sequence[Row], colour: Callable[[int], Any]) -> None:
    """Draw the engines of one size: settings that another beats are left out of a line."""
    from matplotlib.ticker import LogLocator, NullLocator  # noqa: PLC0415 (as in draw)

    for place, (name, measured) in enumerate(by_engine(rows).items()):
        line = front(measured)
        panel.plot(
            [row["recall"] for row in line],
            [row["p50"] for row in line],
            label=name,
            color=colour(place),
            marker="o" if len(line) > 1 else "D",
            markersize=4,
            linewidth=2.4 if name.startswith(OURS) else 1.2,
            zorder=3 if name.startswith(OURS) else 2,
        )
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter("{x:,g}")
    panel.yaxis.set_minor_locator(NullLocator())
    panel.set_xlim(left=max(LEAST, panel.get_xlim()[0]), right=1.002)
    panel.set_xlabel("recall@10")
    panel.grid(visible=True, which="both", alpha=0.25)
