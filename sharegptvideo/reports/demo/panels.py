"""The page's charts, each from the figures that it shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sharegptvideo._text import duration, plural
from sharegptvideo.eval.statistics import Estimate
from sharegptvideo.reports.charts import Group, Line, Mark, Segment, columns, lines, rows, stacks
from sharegptvideo.reports.demo.facts import FAULTS, PARTS, KindFigures
from sharegptvideo.reports.demo.record import MODELS
from sharegptvideo.reports.demo.words import interval, minus, percent, points
from sharegptvideo.reports.run import format_estimate
from sharegptvideo.reports.svg import round_ticks

__all__ = [
    "FAULT_NAMES",
    "PART_NAMES",
    "SET_NAMES",
    "accuracy",
    "curves",
    "differences",
    "faults",
    "histogram",
    "kinds",
    "parts",
    "seconds",
]

SET_NAMES = {"test": "Test clips", "out_of_domain": "Out-of-domain clips"}
FAULT_NAMES = {
    "invented": "A detail no clip shows (open questions)",
    "yes_to_absent": "Yes to something absent",
    "no_to_present": "No to something present",
}
PART_NAMES = {
    "right": "right",
    "invented_only": "right but for an invented detail",
    "yes_to_absent": "yes to something absent",
    "contradiction": "contradicts itself",
    "otherwise": "wrong in another way",
}
_BY = {"exact": "By the exact state", "judge": "By the judge of captions"}
_STEP_NAMES = {
    "world": "clips and captions",
    "model": "model",
    "pretrain": "pre-training",
    "sft": "SFT",
    "candidates": "candidates",
    "rewards": "rewards",
    "pairs": "pairs",
    "dpo": "DPO",
    "evaluate": "evaluation",
}
_SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def _hundredths(value: float) -> str:
    return f"{100 * value:.0f}"


def _signed(value: float) -> str:
    return minus(f"{100 * value:+.0f}") if value else "0"


def _estimate(figure: Mapping[str, Any]) -> Estimate:
    return Estimate(figure["value"], figure["se"], figure["ci95"], n=0, n_clusters=0)


def accuracy(found: Mapping[tuple[str, str], Mapping[str, Any]], name: str) -> Markup:
    """Both models' accuracy in one test set, by (`exact` or `judge`, model)."""
    groups = [
        Group(
            heading,
            [_mark(model, model.upper(), _estimate(found[by, model])) for model in MODELS],
        )
        for by, heading in _BY.items()
    ]
    says = f"{name}, accuracy: " + "; ".join(
        f"{group.heading.lower()} {', '.join(f'{m.name} {m.says} per cent' for m in group.marks)}"
        for group in groups
    )
    return rows(
        groups,
        says=says,
        axis="questions answered right, %",
        ticks=_SHARES,
        show=_hundredths,
        bars=True,
    )


def _mark(series: str, name: str, found: Estimate) -> Mark:
    says = format_estimate({"value": found.value, "se": found.se or None}, share=True)
    # Where all answers agree the formula gives no width, which is not certainty: no whisker then.
    ends = found.ci95 if found.se else None
    return Mark(series, name, found.value or 0.0, ends, says)


def differences(summary: Mapping[str, Any]) -> Markup:
    """DPO − SFT with its interval, in both test sets and by both judges."""
    groups, reach, said = [], 0.01, []
    for name, title in SET_NAMES.items():
        marks = []
        for by, found in (("state", summary[name]), ("judge", summary[name]["judged"])):
            ends = found["delta_ci95"]
            reach = max([reach, abs(found["delta"]), *(abs(end) for end in ends or ())])
            marks.append(
                Mark(
                    "diff",
                    by,
                    found["delta"],
                    tuple(ends) if ends else None,
                    points(found["delta"]),
                )
            )
            said.append(f"{title} by {by} {points(found['delta'])} ({interval(ends)})")
        groups.append(Group(title, marks))
    ticks = round_ticks(-reach, reach, 4)
    # The same reach on both sides of zero.
    end = max(abs(ticks[0]), abs(ticks[-1]))
    step = ticks[1] - ticks[0]
    ticks = [step * number for number in range(-round(end / step), round(end / step) + 1)]
    return rows(
        groups,
        says="Difference DPO minus SFT in points: " + "; ".join(said),
        axis="DPO − SFT, points (right of 0: DPO is better)",
        ticks=ticks,
        show=_signed,
        bars=False,
        left=52.0,
        right=56.0,
    )


def kinds(figures: Sequence[KindFigures], name: str) -> Markup:
    """Accuracy of both models by type of question."""
    groups = [
        Group(
            f"{found.kind}, {plural(found.n, 'question')}",
            [
                *(_mark(model, model.upper(), found.accuracy[model]) for model in MODELS),
                _mark("taught", "guess", Estimate(found.chance, None, None, found.n, 0)),
            ],
        )
        for found in figures
    ]
    said = "; ".join(
        f"{found.kind} SFT {percent(found.accuracy['sft'].value, 0)}, "
        f"DPO {percent(found.accuracy['dpo'].value, 0)}, "
        f"best blind guess {percent(found.chance, 0)}"
        for found in figures
    )
    return rows(
        groups,
        says=f"{name}, accuracy by type of question: {said}",
        axis="questions answered right, %",
        ticks=_SHARES,
        show=_hundredths,
        bars=False,
    )


def faults(taught: Mapping[str, Any], rates: Mapping[str, Mapping[str, Estimate]]) -> Markup:
    """How often each fault occurs: in what SFT was taught, and in both models' answers."""
    groups = []
    for name in FAULTS:
        marks = []
        if taught.get(name) is not None:
            value = float(taught[name])
            marks.append(Mark("taught", "taught", value, None, f"{100 * value:.1f}"))
        marks += [_mark(model, model.upper(), rates[model][name]) for model in MODELS]
        groups.append(Group(FAULT_NAMES[name], marks))
    said = "; ".join(
        f"{group.heading}: {', '.join(f'{mark.name} {mark.says}' for mark in group.marks)}"
        for group in groups
    )
    return rows(
        groups,
        says=f"Faults in per cent of the answers that could have them. {said}",
        axis="answers with the fault, %",
        ticks=_SHARES,
        show=_hundredths,
        bars=True,
        left=60.0,
    )


def parts(shares: Mapping[str, Mapping[str, float]]) -> Markup:
    """All answers of each model: right, or wrong for which reason."""
    bars = [
        (model.upper(), [Segment(name, PART_NAMES[name], shares[model][name]) for name in PARTS])
        for model in MODELS
    ]
    said = "; ".join(
        f"{model.upper()}: "
        + ", ".join(f"{PART_NAMES[name]} {percent(shares[model][name])}" for name in PARTS)
        for model in MODELS
    )
    return stacks(bars, says=f"All answers by what is wrong with them. {said}", axis="answers, %")


def curves(logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[tuple[str, Markup]]:
    """Titles and charts of the three losses and of DPO's rewards."""
    found = []
    for stage, title in (("pretrain", "Pre-training: loss"), ("sft", "SFT: loss")):
        line = _line(logs[stage], "loss", stage, "loss")
        found.append((title, _chart([line], title, "cross-entropy, nats a token")))
    dpo = logs["dpo"]
    loss = [_line(dpo, "loss", "dpo", "loss")]
    found.append(
        (
            "DPO: loss",
            _chart(loss, "DPO: loss", "loss, nats", level=(math.log(2), "no preference: ln 2")),
        )
    )
    accuracy_line = [_line(dpo, "rewards/accuracies", "dpo", "reward accuracy", 100.0)]
    title = "DPO: reward accuracy"
    ticks = [0.0, 25.0, 50.0, 75.0, 100.0]
    found.append(
        (
            title,
            _chart(
                accuracy_line, title, "pairs with chosen rewarded above rejected, %", ticks=ticks
            ),
        )
    )
    rewards = [
        _line(dpo, "rewards/chosen", "chosen", "chosen"),
        _line(dpo, "rewards/rejected", "rejected", "rejected"),
        _line(dpo, "rewards/margins", "dpo", "margin"),
    ]
    title = "DPO: implicit rewards"
    found.append((title, _chart(rewards, title, "β · log-ratio to the SFT model, nats")))
    return found


def _line(
    log: Sequence[Mapping[str, Any]], key: str, series: str, name: str, factor: float = 1.0
) -> Line:
    # A resumed training may have logged a step twice: the later row holds.
    values = {float(row["step"]): factor * row[key] for row in log if row.get(key) is not None}
    return Line(series, name, sorted(values.items()))


def _chart(
    drawn: Sequence[Line],
    title: str,
    unit: str,
    *,
    ticks: Sequence[float] | None = None,
    level: tuple[float, str] | None = None,
) -> Markup:
    said = "; ".join(
        f"{line.name} from {line.points[0][1]:.3g} to {line.points[-1][1]:.3g} "
        f"at step {line.points[-1][0]:g}"
        for line in drawn
        if line.points
    )
    return lines(
        drawn,
        says=f"{title}, {unit}: {said or 'nothing was logged'}",
        x_axis="training step",
        y_axis=unit,
        ticks=ticks,
        level=level,
    )


def histogram(report: Mapping[str, Any]) -> Markup:
    """The judge's scores of all candidates; those at the threshold or above may be chosen."""
    counted = {int(score): int(count) for score, count in report["histogram"].items()}
    total = sum(counted.values()) or 1
    threshold = float(report.get("threshold", 3.0))
    bins = [
        (
            str(score),
            float(counted.get(score, 0)),
            f"{counted.get(score, 0):,} ({percent(counted.get(score, 0) / total, 0)})",
            "good" if score >= threshold else "poor",
        )
        for score in range(1, 6)
    ]
    said = ", ".join(f"score {label}: {words}" for label, _, words, _ in bins)
    return columns(
        bins,
        says=f"Candidates by the judge's score: {said}",
        x_axis="the judge’s score (5 is best)",
        y_axis="candidate answers",
    )


def seconds(spent: Mapping[str, float]) -> Markup:
    """How long each step took."""
    steps = [(name, value) for name, value in spent.items() if name != "total"]
    marks = [
        Mark("time", _STEP_NAMES.get(name, name), value, None, duration(value))
        for name, value in steps
    ]
    ticks = round_ticks(0.0, max((value for _, value in steps), default=1.0), 4)
    return rows(
        [Group("", marks)],
        says="Seconds by step: " + ", ".join(f"{mark.name} {mark.says}" for mark in marks),
        axis="seconds",
        ticks=ticks,
        show=lambda value: f"{value:g}",
        bars=True,
        left=150.0,
        right=90.0,
    )
