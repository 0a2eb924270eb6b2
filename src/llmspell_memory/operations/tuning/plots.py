"""Recall against latency as a picture, drawn by matplotlib without a screen."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from llmspell_memory.errors import InputError, MissingDependencyError, StorageError
from llmspell_memory.operations.tuning.report import setting

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from llmspell_memory.operations.tuning.report import TunePoint, TuneReport

_SUFFIXES: Final = (".png", ".svg")
_COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999", "#F0E442", "#000000")
"""Those of Okabe and Ito, which colour-blind readers can tell apart."""


_FEW: Final = 3
"""Graphs whose every line can still be told apart."""

_MIDDLE: Final = 0.98
_LEAST_LACK: Final = 1e-3
"""What a recall of 1 counts as lacking, so that it has a place on the axis."""

_TICKS: Final = (0.2, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)


def draw(report: TuneReport, path: str | os.PathLike[str]) -> None:
    """Draw a report's points into a file, .png or .svg by its name; a file that is there is replaced.

    A line per graph, with the interval of each recall; p50 as dots and p95 as faint ones; the chosen point, the target
    and what was in force before are marked.

    Raises:
        MissingDependencyError: the extra `plot` is not installed.
        InputError: nothing was measured, or the name ends otherwise.
        StorageError: the file cannot be written.
    """
    target = checked_plot(path)
    if not report.points:
        raise InputError("nothing was measured, so there is nothing to draw")
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 (an extra, and slow to import)
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(8, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    graphs = [list(points) for _, points in groupby(report.points, key=_graph)]
    for colour, points in zip((_COLOURS * len(graphs))[: len(graphs)], graphs, strict=True):
        _draw_line(axes, points, colour, among=len(graphs))
    _scale(axes, min(point.recall for point in report.points))
    _mark(axes, report)
    _label(axes, report, len(graphs))
    try:
        figure.savefig(target, format=target.suffix[1:].lower(), dpi=160)
    except OSError as error:
        raise StorageError(f"{target} cannot be written: {error.strerror or error}") from error


def checked_plot(path: str | os.PathLike[str]) -> Path:
    """Return the path of a picture, if it can be drawn: so that nobody measures for minutes in vain.

    Raises:
        MissingDependencyError: the extra `plot` is not installed.
        InputError: its name ends in neither .png nor .svg.
        StorageError: its folder is not there.
    """
    target = Path(path)
    if target.suffix.lower() not in _SUFFIXES:
        raise InputError(f"a plot's name must end in {' or '.join(_SUFFIXES)}, got {target.name!r}")
    if not target.absolute().parent.is_dir():
        raise StorageError(f"{target} cannot be written: there is no folder {target.absolute().parent}")
    try:
        import matplotlib  # noqa: F401, ICN001, PLC0415
    except ModuleNotFoundError as error:
        raise MissingDependencyError("matplotlib", extra="plot") from error
    return target


def _graph(point: TunePoint) -> tuple[bool, int, int]:
    return point.trial, point.hnsw.m, point.hnsw.ef_construction


def _draw_line(axes: Any, points: Sequence[TunePoint], colour: str, *, among: int) -> None:
    """Draw one graph's p50; its intervals and p95, too, where few graphs are drawn."""
    first = points[0]
    name = f"m={first.hnsw.m}, ef_construction={first.hnsw.ef_construction}{'' if first.trial else ' (live)'}"
    recalls = [point.recall for point in points]
    p50, p95 = [point.p50_us for point in points], [point.p95_us for point in points]
    axes.plot(recalls, p50, color=colour, marker="o", markersize=4, label="p50" if among == 1 else name)
    if among > _FEW:
        return
    axes.fill_betweenx(p50, [point.low for point in points], [point.high for point in points], color=colour, alpha=0.15)
    faint = {"color": colour, "marker": ".", "markersize": 3, "linewidth": 0.8, "alpha": 0.6}
    axes.plot(recalls, p95, label="p95" if among == 1 else None, **faint)


def _mark(axes: Any, report: TuneReport) -> None:
    """Mark the target, what was in force, and what was chosen."""
    line = {"color": "#444444", "linestyle": "--", "linewidth": 1.0, "zorder": 1, "label": "target"}
    if report.target_recall is not None:
        axes.axvline(report.target_recall, **line)
    else:
        axes.axhline(report.target_p95_us, **line)
    for before in (one for one in report.points if not one.trial and one.hnsw == report.before):
        axes.plot(before.recall, before.p50_us, "s", color="black", markersize=8, fillstyle="none", label="before")
    if (point := report.chosen) is not None:
        star = {"color": "#D55E00", "markersize": 18, "markeredgecolor": "white", "zorder": 5}
        axes.plot(point.recall, point.p50_us, "*", label="chosen" if report.met else "nearest", **star)
        left = point.recall < _MIDDLE
        axes.annotate(
            f"{setting(point.hnsw)}\nrecall {point.recall:.4f}, p50 {point.p50_us:,.0f} µs",
            (point.recall, point.p50_us),
            xytext=(16, -30) if left else (-18, 60),
            textcoords="offset points",
            ha="left" if left else "right",
            arrowprops={"arrowstyle": "-", "color": "#444444"},
            bbox={"boxstyle": "round", "facecolor": "white", "edgecolor": "#bbbbbb", "alpha": 0.9},
            zorder=6,
        )


def _scale(axes: Any, lowest: float) -> None:
    """Logarithms on both axes: of the time, and of what recall lacks, for that is where settings differ."""
    from matplotlib.ticker import FixedLocator, LogLocator, NullLocator  # noqa: PLC0415

    def lacking(recall: Any) -> Any:
        return -np.log10(np.maximum(1 + _LEAST_LACK - np.asarray(recall), _LEAST_LACK / 2))

    axes.set_xscale("function", functions=(lacking, lambda place: 1 + _LEAST_LACK - 10.0 ** -np.asarray(place)))
    axes.set_xlim(max(0.0, lowest - 0.1 * (1 - lowest) - _LEAST_LACK), 1 + _LEAST_LACK / 4)
    axes.xaxis.set_major_locator(FixedLocator(_TICKS))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.margins(y=0.12)


def _label(axes: Any, report: TuneReport, graphs: int) -> None:
    few = graphs <= _FEW
    axes.set_xlabel(f"recall@{report.k}{' (band: 95 % interval)' if few else ''}")
    axes.set_ylabel(f"µs a search of the index{'; faint: p95' if few else ', p50'}")
    axes.set_title(f"{report.entries:,} entries, {report.queries:,} {report.kind} queries")
    axes.grid(visible=True, which="major", alpha=0.25)
    axes.legend(loc="upper left", fontsize="small")
