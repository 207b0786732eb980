"""Figures of a run: its curves beside what they must beat."""

import io
from pathlib import Path
from typing import Any

from IPython.display import Image, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# The project that this course implements, read off its published chart: WikiText-103, 24,992
# words, 6 x 768, on a GPU. (step, validation accuracy); 200 x 2 x 128 tokens a step.
PUBLISHED = ((5_000, 0.47), (10_000, 0.53), (15_000, 0.558), (20_000, 0.575), (25_000, 0.588),
             (29_900, 0.5996), (35_000, 0.605), (45_000, 0.612), (55_500, 0.615))
PUBLISHED_TOKENS = 200 * 2 * 128
OURS, THEIRS, GREY = "#0a5fa8", "#b4500a", "#555555"


def show(figure: Figure, alt: str) -> None:
    """Display a figure in a notebook as PNG, with a text for those who cannot see it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80, metadata={"Software": None})
    display(Image(buffer.getvalue(), format="png", alt=alt))


def draw_loss(axes: Axes, records: list[dict[str, Any]], report: dict[str, Any]) -> None:
    """Validation loss against tokens, with ln V and the unigram entropy as lines."""
    axes.plot([r["tokens"] / 1e6 for r in records], [r["loss"] for r in records], "o-",
              color=OURS, ms=3, label="this run")
    for name, words in (("uniform_loss", "knows nothing: ln V"),
                        ("unigram_loss", "knows frequencies: unigram entropy")):
        axes.axhline(report[name], color=GREY, ls=":")
        axes.annotate(f"{words} = {report[name]:.2f}", (0.98, report[name] - 0.06), color=GREY,
                      xycoords=("axes fraction", "data"), ha="right", va="top", fontsize=8)
    axes.set(xlabel="million tokens seen", ylabel="validation loss (nats)")


def draw_accuracy(axes: Axes, records: list[dict[str, Any]], report: dict[str, Any]) -> None:
    """Validation accuracy against tokens (log scale), the published run as its own curve."""
    seen = [r for r in records if r["tokens"]]
    axes.semilogx([r["tokens"] for r in seen], [100 * r["accuracy"] for r in seen], "o-",
                  color=OURS, ms=3, label=f"this run ({report['source']})")
    axes.semilogx([step * PUBLISHED_TOKENS for step, _ in PUBLISHED],
                  [100 * share for _, share in PUBLISHED], "s--", color=THEIRS, ms=4,
                  label="published run (WikiText-103, own vocabulary)")
    constant = 100 * report["most_frequent_accuracy"]
    axes.axhline(constant, color=GREY, ls=":", label=f"most frequent word: {constant:.1f}%")
    axes.set(xlabel="tokens seen", ylabel="validation accuracy (%)", ylim=(0, 65))
    axes.legend(fontsize=8, loc="upper left")


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
    plot_run(records, report).savefig(path, dpi=110, metadata={"Software": None})
    return path
