"""What `compare_judges` found, as a JSON file and a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sharegptvideo._io import os_errors, write_json
from sharegptvideo.errors import UserError

__all__ = ["save_agreement"]

_INK, _FIRST, _SECOND = "#1f2933", "#c8691c", "#2b5fc4"


def save_agreement(found: Mapping[str, Any], out: Path) -> list[Path]:
    """Write agreement.json and agreement.png to the folder `out`; returns their paths.

    Raises:
        UserError: matplotlib is not installed, or `out` cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(
            "the plot needs matplotlib: pip install matplotlib, or leave out --out"
        ) from error
    with os_errors(out, "free some space or give another --out", action="made"):
        out.mkdir(parents=True, exist_ok=True)
    write_json(out / "agreement.json", found)
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_shift(left, found)
    _draw_calibration(right, found)
    temporary = out / ".agreement.png.tmp"
    figure.savefig(temporary, format="png", dpi=130)
    temporary.replace(out / "agreement.png")
    return [out / "agreement.json", out / "agreement.png"]


def _draw_shift(axes: Any, found: Mapping[str, Any]) -> None:
    """Accuracy by each judge with its interval, a line a task."""
    tasks = {name: task for name, task in found["tasks"].items() if task["n"]}
    for row, task in enumerate(tasks.values()):
        for side, colour, offset in zip(task["accuracy"], (_FIRST, _SECOND), (-1, 1), strict=True):
            ends = side["ci95"] or (side["value"], side["value"])
            height = row + 0.08 * offset
            axes.plot([100 * end for end in ends], [height] * 2, color=colour, linewidth=2)
            axes.plot(100 * side["value"], height, "o", color=colour, markersize=7)
    axes.set_yticks(range(len(tasks)), list(tasks))
    axes.set_ylim(len(tasks) - 0.4, -0.6)
    axes.set_xlabel("answers called right, %, with 95 % intervals by video")
    for side, colour in (("first", _FIRST), ("second", _SECOND)):
        axes.plot([], [], "o", color=colour, label=f"{side}: {_judge(found[side])}")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.2), frameon=False, ncols=1)
    _tidy(axes)


def _draw_calibration(axes: Any, found: Mapping[str, Any]) -> None:
    """The second judge's mean score for each score of the first."""
    rows = found["all"].get("calibration", [])
    if not rows:
        axes.text(0.5, 0.5, "one of the two gives no scores", ha="center", color=_INK)
        axes.set_axis_off()
        return
    scores = [row["score"] for row in rows]
    most = max(row["n"] for row in rows)
    ends = (min(map(min, found["scores"])), max(map(max, found["scores"])))
    axes.plot(ends, ends, color="#9aa5b1", linestyle=":", label="the same score")
    for row in rows:
        mean = row["mean_score"]
        low, high = mean["ci95"] or (mean["value"], mean["value"])
        axes.plot([row["score"]] * 2, [low, high], color=_SECOND, linewidth=2)
        size = 30 + 250 * row["n"] / most
        axes.scatter(row["score"], mean["value"], s=size, color=_SECOND, alpha=0.75, linewidth=0)
        axes.annotate(
            f"n = {row['n']:,}",
            (row["score"], mean["value"]),
            xytext=(0, 12),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=_INK,
        )
    expected = [row["expected_score"] for row in rows]
    axes.plot(scores, expected, color=_SECOND, linewidth=1, label="map: expected score")
    axes.set_xlabel("score by the first judge")
    axes.set_ylabel("mean score by the second")
    axes.legend(frameon=False, loc="upper left", fontsize=8)
    axes.margins(0.12)
    _tidy(axes)


def _judge(side: Mapping[str, Any]) -> str:
    return str(side["judge"])


def _tidy(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#e4e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
