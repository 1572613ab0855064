"""The curves of a training as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["draw_accuracy", "draw_curves"]

Log = Sequence[dict[str, Any]]
_BLUE, _RED, _GREY = "#2563eb", "#dc2626", "#6b7280"


def draw_curves(log: Log, out: Path, *, title: str) -> None:
    """Write a PNG of the logged steps to `out`.

    Supervised training: loss and share of answer tokens predicted right. DPO (a log with
    rewards): loss, rewards of chosen and rejected with their margin, and the share of pairs in
    which the chosen answer has the higher reward.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    preferences = any("rewards/margins" in entry for entry in log)
    panels = 3 if preferences else 2
    figure = Figure(figsize=(4.6 * panels, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, panels)
    _line(axes[0], log, "loss", _BLUE)
    axes[0].set_ylabel("loss")
    if preferences:
        _line(axes[1], log, "rewards/chosen", _BLUE, "chosen")
        _line(axes[1], log, "rewards/rejected", _RED, "rejected")
        _line(axes[1], log, "rewards/margins", _GREY, "margin")
        axes[1].axhline(0, color="#d1d5db", linewidth=0.8, zorder=0)
        axes[1].set_ylabel("reward: β · log(policy / reference)")
        axes[1].legend(frameon=False)
        _line(axes[2], log, "rewards/accuracies", _BLUE)
        axes[2].set_ylabel("share of pairs, chosen above rejected")
        axes[2].axhline(0.5, color="#d1d5db", linewidth=0.8, zorder=0)
        axes[2].set_ylim(-0.02, 1.02)
    else:
        _line(axes[1], log, "mean_token_accuracy", _BLUE)
        axes[1].set_ylabel("answer tokens predicted right")
        axes[1].set_ylim(-0.02, 1.02)
    for panel in axes:
        panel.set_xlabel("step")
        _plain(panel)
    figure.suptitle(title)
    _save(figure, out)


def draw_accuracy(evaluations: Log, out: Path) -> None:
    """Write a PNG of accuracy by epoch, with 95 % intervals, and of the answers' length.

    Args:
        evaluations: rows of evals.jsonl; of failed ones, which leave no point, alone there is no
            picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    good = [row for row in evaluations if row["status"] == "ok" and row["accuracy"] is not None]
    if not good:
        return
    figure = Figure(figsize=(9.2, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2)
    for number, task in enumerate(dict.fromkeys(row["task"] for row in good)):
        colour = f"C{number}"
        rows = [row for row in good if row["task"] == task]
        _points(axes[0], rows, "accuracy", "ci95", colour, f"{task}, {rows[-1]['judge']}")
        _points(axes[1], rows, "words", None, colour, task)
    axes[0].set_ylabel("accuracy in %, 95 % interval")
    axes[1].set_ylabel("words an answer, mean")
    most = max((row["words"] for row in good if row.get("words") is not None), default=1)
    axes[1].set_ylim(0, 1.1 * most or 1)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", frameon=False)
    for panel in axes:
        panel.set_xlabel("epoch")
        _steps_above(panel, good)
        _plain(panel)
    _save(figure, out)


def _points(axis: Any, rows: Log, key: str, interval: str | None, colour: str, label: str) -> None:
    scale = 100 if key == "accuracy" else 1
    known = [row for row in rows if row.get(key) is not None]
    x, y = [row["epoch"] for row in known], [scale * row[key] for row in known]
    axis.plot(x, y, color=colour, linewidth=1.6, marker="o", markersize=4, label=label)
    if interval:
        # A shade tells several tasks apart where bars would lie on each other.
        sure = [row for row in known if row.get(interval)]
        low, high = ([scale * row[interval][end] for row in sure] for end in (0, 1))
        axis.fill_between([row["epoch"] for row in sure], low, high, color=colour, alpha=0.12, lw=0)
        if len(sure) == 1:
            axis.plot([sure[0]["epoch"]] * 2, [*low, *high], color=colour, linewidth=1.2, alpha=0.4)


def _steps_above(axis: Any, rows: Log) -> None:
    """Steps along the upper edge; where a step lies is what the rows say."""
    last = max(rows, key=lambda row: int(row["step"]))
    if not last["epoch"]:
        return
    share = last["step"] / last["epoch"]
    upper = axis.secondary_xaxis(
        "top", functions=(lambda epoch: epoch * share, lambda step: step / share)
    )
    upper.set_xlabel("step", fontsize=8)
    upper.tick_params(labelsize=8)
    upper.spines["top"].set_visible(False)


def _plain(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25, linewidth=0.6)


def _save(figure: Any, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    # No software stamp: the same curves give the same bytes.
    figure.savefig(out, dpi=110, metadata={"Software": None})


def _line(axis: Any, log: Log, key: str, colour: str, label: str | None = None) -> None:
    points = [(entry["step"], entry[key]) for entry in log if key in entry]
    steps, values = [p[0] for p in points], [p[1] for p in points]
    marker = "o" if len(points) < 3 else None
    axis.plot(steps, values, color=colour, linewidth=1.6, label=label, marker=marker)
