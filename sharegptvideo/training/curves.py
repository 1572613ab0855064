"""The curves of a training as pictures: charts of `reports`, as PNG for the card and the folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sharegptvideo._text import number
from sharegptvideo.reports.charts import SERIES, Axis, Line, line_chart
from sharegptvideo.reports.parts import Figure
from sharegptvideo.reports.png import write_png

__all__ = ["draw_accuracy", "draw_curves"]

Log = Sequence[dict[str, Any]]
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def draw_curves(log: Log, out: Path, *, title: str) -> None:
    """Write a PNG of the logged steps to `out`.

    Supervised training: loss and share of answer tokens predicted right. DPO (a log with
    rewards): loss, rewards of chosen and rejected with their margin, and the share of pairs in
    which the chosen answer has the higher reward.
    """
    figures = [_figure("loss", [_line(log, "loss", "blue")])]
    if any("rewards/margins" in entry for entry in log):
        rewards = [
            _line(log, "rewards/chosen", "blue", "chosen"),
            _line(log, "rewards/rejected", "red", "rejected"),
            _line(log, "rewards/margins", "grey", "margin"),
        ]
        figures.append(_figure("reward: β · log(policy / reference)", rewards))
        pairs = [_line(log, "rewards/accuracies", "blue")]
        what = "share of pairs, chosen above rejected"
        figures.append(_figure(what, pairs, ticks=_SHARES, level=(0.5, "")))
    else:
        tokens = [_line(log, "mean_token_accuracy", "blue")]
        figures.append(_figure("answer tokens predicted right", tokens, ticks=_SHARES))
    write_png(out, figures, title)


def draw_accuracy(evaluations: Log, out: Path) -> None:
    """Write a PNG of accuracy by epoch, with 95 % intervals, and of the answers' length.

    Args:
        evaluations: rows of evals.jsonl. Failed ones leave no point; of these alone there is no
            picture.
        out: the file.
    """
    good = [row for row in evaluations if row["status"] == "ok" and row["accuracy"] is not None]
    if not good:
        return
    accuracy, words, named = [], [], []
    for place, task in enumerate(dict.fromkeys(row["task"] for row in good)):
        series = SERIES[place % len(SERIES)]
        rows = [row for row in good if row["task"] == task]
        points = [(row["epoch"], 100 * row["accuracy"]) for row in rows]
        band = [
            (row["epoch"], 100 * row["ci95"][0], 100 * row["ci95"][1])
            for row in rows
            if row.get("ci95")
        ]
        accuracy.append(Line(series, task, points, band))
        lengths = [(row["epoch"], row["words"]) for row in rows if row.get("words") is not None]
        words.append(Line(series, task, lengths))
        named.append((series, f"{task}, {rows[-1]['judge']}"))
    last = max(good, key=lambda row: int(row["step"]))
    axis = f"epoch (of {number(last['step'] / last['epoch'])} steps)" if last["epoch"] else "epoch"
    figures = [
        _figure("accuracy in %, 95 % interval", accuracy, axis=axis, legend=named),
        _figure("words an answer, mean", words, axis=axis, level=(0.0, "")),
    ]
    write_png(out, figures)


def _line(log: Log, key: str, series: str, name: str = "") -> Line:
    return Line(series, name, [(entry["step"], entry[key]) for entry in log if key in entry])


def _figure(
    title: str,
    curves: Sequence[Line],
    *,
    axis: str = "step",
    ticks: Sequence[float] | None = None,
    level: tuple[float, str] | None = None,
    legend: Sequence[tuple[str, str]] = (),
) -> Figure:
    """Put curves under their title, which names the y axis."""
    named = legend or [(line.series, line.name) for line in curves]
    chart = line_chart(curves, Axis(axis), Axis("", ticks), says=title, level=level)
    return Figure(chart, title, legend=named)
