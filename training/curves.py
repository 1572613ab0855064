"""The curves of a training as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["draw_curves"]

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
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.25, linewidth=0.6)
    figure.suptitle(title)
    out.parent.mkdir(parents=True, exist_ok=True)
    # No software stamp: the same curves give the same bytes.
    figure.savefig(out, dpi=110, metadata={"Software": None})


def _line(axis: Any, log: Log, key: str, colour: str, label: str | None = None) -> None:
    points = [(entry["step"], entry[key]) for entry in log if key in entry]
    steps, values = [p[0] for p in points], [p[1] for p in points]
    marker = "o" if len(points) < 3 else None
    axis.plot(steps, values, color=colour, linewidth=1.6, label=label, marker=marker)
