"""Figures: in one palette that colour-blind readers can use, never by colour alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from bertlib.figures.shown import show
from bertlib.plumbing.files import atomic_write

__all__ = ["show"]  # offered here, too

# The project that this course implements, read off its published chart: WikiText-103, 24,992
# words, 6 x 768, on a GPU. (step, validation accuracy); 200 x 2 x 128 tokens a step.
PUBLISHED = ((5_000, 0.47), (10_000, 0.53), (15_000, 0.558), (20_000, 0.575), (25_000, 0.588),
             (29_900, 0.5996), (35_000, 0.605), (45_000, 0.612), (55_500, 0.615))
PUBLISHED_TOKENS = 200 * 2 * 128
NEXT = "next token"  # the objective of a report that has another exam than hidden words
OURS, THEIRS, GREY = "#0a5fa8", "#b4500a", "#555555"
WHITE = dict(facecolor="white", edgecolor="none", pad=0.5)  # so that no line crosses out a word


LOSSES = {"uniform_loss": "knows nothing: ln V",
          "unigram_loss": "knows frequencies: unigram entropy",
          "left_loss": "knows the left neighbour", "both_loss": "knows both neighbours",
          "six_loss": "knows three words on each side"}
ACCURACIES = {"most_frequent_accuracy": "most frequent word", "left_accuracy": "left neighbour",
              "both_accuracy": "both neighbours", "six_accuracy": "three words on each side"}


def draw_loss(axes: Axes, records: list[dict[str, Any]], report: dict[str, Any]) -> None:
    """Validation loss against tokens, with the loss of each baseline in the report as a line."""
    axes.plot([r["tokens"] / 1e6 for r in records], [r["loss"] for r in records], "o-",
              color=OURS, ms=3, label="this run")
    lines = report["on_the_way"]
    levels = {f"{words} = {lines[name]:.2f}": lines[name]
              for name, words in LOSSES.items() if name in lines}
    of = f", {NEXT}" if report.get("objective") == NEXT else ""
    axes.set(xlabel="million tokens seen", ylabel=f"validation loss (nats{of})")
    _draw_levels(axes, levels)


def draw_accuracy(axes: Axes, records: list[dict[str, Any]], report: dict[str, Any]) -> None:
    """Validation accuracy against tokens (log scale), the published run as its own curve."""
    seen = [r for r in records if r["tokens"]]
    axes.semilogx([r["tokens"] for r in seen], [100 * r["accuracy"] for r in seen], "o-",
                  color=OURS, ms=3, label=f"this run ({report['source']})")
    if report.get("objective") != NEXT:  # else it is another exam
        axes.semilogx([step * PUBLISHED_TOKENS for step, _ in PUBLISHED],
                      [100 * share for _, share in PUBLISHED], "s--", color=THEIRS, ms=4,
                      label="published run (WikiText-103, own vocabulary)")
    lines = report["on_the_way"]  # baselines at the curve's own exam
    levels = {f"{words}: {lines[name]:.1%}": 100 * lines[name]
              for name, words in ACCURACIES.items() if name in lines}
    axes.set(xlabel="tokens seen", ylabel="validation accuracy (%)",
             ylim=(0, max(65, 5 + max(levels.values()))))
    _draw_levels(axes, levels)
    axes.legend(fontsize=8, loc="upper left")


def _draw_levels(axes: Axes, levels: dict[str, float]) -> None:
    """Dotted lines with their words at the right, each below its line and those above it."""
    for level in levels.values():
        axes.axhline(level, color=GREY, ls=":")
    low, high = axes.get_ylim()
    unit, top = (high - low) / 100, high
    for words, level in sorted(levels.items(), key=lambda item: -item[1]):
        top = min(level - unit, top)
        axes.annotate(words, (0.98, top), color=GREY, xycoords=("axes fraction", "data"),
                      ha="right", va="top", fontsize=8, bbox=WHITE)
        top -= 6 * unit  # the height of these letters


MARKS = "os^Dv"  # curves differ by mark or stroke, too: colour is never alone
STROKES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
COLOURS = (OURS, THEIRS, "#3f7d20", "#7b3f8c", GREY)


Curve = tuple[Sequence[float], Sequence[float]]


def plot_curves(curves: Mapping[str, Curve], xlabel: str, ylabel: str,
                lines: dict[str, float] | None = None, logx: bool = False, logy: bool = False,
                ylim: tuple[float, float] | None = None, unit: str = "", marked: bool = True,
                legend: str = "best", size: tuple[float, float] = (7, 3.8)) -> Figure:
    """Curves by name, each (x, y), told apart by colour and by mark or stroke.

    lines: what is compared with, as dotted levels with their names and values (in `unit`) at the
    right; marked=False draws strokes without marks, for curves of very many points.
    """
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    for number, (name, (x, y)) in enumerate(curves.items()):
        axes.plot(x, y, color=COLOURS[number % len(COLOURS)], ls=STROKES[number % len(STROKES)],
                  marker=MARKS[number % len(MARKS)] if marked else "", ms=4, label=name)
    for number, (name, level) in enumerate((lines or {}).items()):
        axes.axhline(level, color=GREY, ls=":", lw=1)
        axes.annotate(f"{name}: {level:.3g}{unit}", (0.99, level),
                      color=GREY, fontsize=8, va=("bottom", "top")[number % 2], ha="right",
                      xycoords=("axes fraction", "data"))
    axes.set(xlabel=xlabel, ylabel=ylabel, xscale="log" if logx else "linear",
             yscale="log" if logy else "linear")
    if ylim:
        axes.set_ylim(*ylim)
    if legend and len(curves) > 1:
        axes.legend(fontsize=8, loc=legend)  # type: ignore[call-overload]
    return figure


def plot_minutes(runs: dict[str, list[dict[str, Any]]], lines: dict[str, float]) -> Figure:
    """Validation accuracy in percent against minutes of training (log scale) of some runs.

    runs: name -> "val" records. lines: what must be beaten, name -> accuracy 0..1.
    """
    seen = {name: [r for r in records if r["seconds"] > 0] for name, records in runs.items()}
    curves = {name: ([r["seconds"] / 60 for r in records], [100 * r["accuracy"] for r in records])
              for name, records in seen.items()}
    return plot_curves(curves, "minutes of training", "validation accuracy (%)",
                       {name: 100 * share for name, share in lines.items()}, logx=True,
                       unit="%", ylim=(0, 55), legend="upper left", size=(7, 4))


def plot_heatmaps(tables: dict[str, Tensor], rows: Sequence[str] = (), columns: Sequence[str] = (),
                  xlabel: str = "", ylabel: str = "", low: float | None = 0.0,
                  high: float | None = None, values: bool = False, across: int = 4) -> Figure:
    """Tables side by side as squares from light (low) to dark (high), one scale for all.

    tables: title -> [rows, columns]. `values` writes each number into its square.
    """
    highest = max(float(table.max()) for table in tables.values()) if high is None else high
    across = min(across, len(tables))
    down = -(-len(tables) // across)
    wide = 7 if across > 1 else 4.5
    shape = next(iter(tables.values())).shape
    tall = down * (0.75 * wide / across * min(1.4, shape[0] / shape[1]) + 0.9)
    figure = Figure(figsize=(wide, tall), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False).flatten()
    for axes in grid[len(tables):]:
        axes.set_axis_off()
    for number, (axes, (title, table)) in enumerate(zip(grid, tables.items(), strict=False)):
        image = axes.imshow(table.float(), cmap="Blues", vmin=low, vmax=highest)
        axes.set_title(title, fontsize=9)
        axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=7)
        axes.set_yticks(range(len(rows)), rows if number % across == 0 else [""] * len(rows),
                        fontsize=7)
        axes.set(xlabel=xlabel, ylabel=ylabel if number % across == 0 else "")
        if values:
            _write_values(axes, table.float(), highest)
    figure.colorbar(image, ax=list(grid), shrink=0.8)
    return figure


def _write_values(axes: Axes, table: Tensor, highest: float) -> None:
    for row, line in enumerate(table.tolist()):
        for column, value in enumerate(line):
            ink = "white" if value > 0.55 * highest else "black"
            axes.text(column, row, f"{value:.2g}", ha="center", va="center", color=ink, fontsize=7)


def plot_histograms(samples: dict[str, Tensor], xlabel: str, bins: int = 60) -> Figure:
    """How values spread, as outlines over one axis: name -> values of any shape."""
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    low = min(float(values.min()) for values in samples.values())
    high = max(float(values.max()) for values in samples.values())
    for number, (name, values) in enumerate(samples.items()):
        axes.hist(values.flatten().numpy(), bins=bins, range=(low, high), density=True,
                  histtype="step", color=COLOURS[number % len(COLOURS)],
                  ls=STROKES[number % len(STROKES)], lw=1.5, label=name)
    axes.set(xlabel=xlabel, ylabel="density")
    axes.legend(fontsize=8)
    return figure


def plot_bars(values: dict[str, float], xlabel: str, spread: float = 0.0) -> Figure:
    """Horizontal bars with their values written beside them; `spread` greys what is noise."""
    figure = Figure(figsize=(7, 0.9 + 0.3 * len(values)), layout="constrained")
    axes = figure.subplots()
    names = list(values)[::-1]
    bars = axes.barh(names, [values[name] for name in names], color=OURS, height=0.6)
    axes.bar_label(bars, fmt="%.3g", padding=3, fontsize=8)
    if spread:
        axes.axvspan(-spread, spread, color=GREY, alpha=0.25, lw=0)
    axes.axvline(0, color="black", lw=0.8)
    axes.margins(x=0.12)
    axes.set_xlabel(xlabel)
    return figure


def plot_roofline(peak: float, bandwidth: float, points: dict[str, tuple[float, float]]) -> Figure:
    """The most that a machine can do for each FLOP a byte, and where some operations stand.

    peak in FLOP/s, bandwidth in bytes/s; points: name -> (FLOP a byte, FLOP/s).
    Source: Williams, Waterman & Patterson 2009.
    """
    figure = Figure(figsize=(7, 3.8), layout="constrained")
    axes = figure.subplots()
    reach = sorted([2.0**power for power in range(-4, 11)] + [peak / bandwidth])
    axes.loglog(reach, [min(peak, bandwidth * x) / 1e9 for x in reach], "-", color=GREY,
                label="the roof")
    for (name, (x, y)), mark, colour in zip(points.items(), "osD^v", COLOURS, strict=False):
        axes.loglog([x], [y / 1e9], mark, color=colour, ms=8, label=name)
    axes.set(xlabel="FLOP for each byte that moves", ylabel="GFLOP/s")
    axes.legend(fontsize=8, loc="lower right")
    return figure


def plot_scaling(minutes: list[float], losses: list[float], reach: list[float],
                 low: list[float], middle: list[float], high: list[float],
                 later: tuple[float, float] | None = None) -> Figure:
    """Losses at the end of runs of several lengths, and a fitted line with its band.

    later: (minutes, loss) of a run that the fit did not know.
    """
    figure = Figure(figsize=(7, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.fill_between(reach, low, high, color=OURS, alpha=0.2, lw=0, label="9 of 10 resampled fits")
    axes.semilogx(reach, middle, "--", color=OURS, label="fit")
    axes.semilogx(minutes, losses, "o", color=THEIRS, ms=6, label="measured")
    if later is not None:
        axes.semilogx(*later, "D", color="black", ms=7, mfc="none", label="measured later")
    axes.set(xlabel="minutes of training on two cores", ylabel="validation loss (nats)")
    axes.legend(fontsize=8)
    return figure


def plot_run(records: list[dict[str, Any]], report: dict[str, Any]) -> Figure:
    """Loss above accuracy, from a run's "val" records and its report."""
    figure = Figure(figsize=(7, 6.4), layout="constrained")
    above, below = figure.subplots(2, 1)
    draw_loss(above, records, report)
    draw_accuracy(below, records, report)
    return figure


def save_plot(folder: Path, records: list[dict[str, Any]], report: dict[str, Any]) -> Path:
    """Write `plot.png` into a run folder."""
    path = Path(folder) / "plot.png"
    with atomic_write(path) as stream:
        plot_run(records, report).savefig(stream, format="png", dpi=110,
                                          metadata={"Software": None})
    return path
