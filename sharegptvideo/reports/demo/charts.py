"""The charts of the demo's page, each from the figures that it shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sharegptvideo import _text
from sharegptvideo._text import duration, number, plural, rounded
from sharegptvideo.eval.statistics import Estimate
from sharegptvideo.reports.charts import (
    Axis,
    Group,
    Line,
    Mark,
    Segment,
    column_chart,
    line_chart,
    round_ticks,
    row_chart,
    stack_chart,
)
from sharegptvideo.reports.demo.comparison import FAULTS, MODELS, PARTS, KindFigures
from sharegptvideo.reports.demo.words import interval, percent, points
from sharegptvideo.reports.estimates import format_estimate
from sharegptvideo.reports.parts import Figure, key

__all__ = [
    "COLOURS",
    "FAULT_NAMES",
    "PART_NAMES",
    "SET_NAMES",
    "accuracy_chart",
    "curve_charts",
    "difference_chart",
    "fault_chart",
    "kind_chart",
    "model_key",
    "part_chart",
    "score_chart",
    "time_chart",
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
COLOURS = {"sft": "orange", "dpo": "blue", "taught": "grey", "guess": "grey"}
_PART_COLOURS = {
    "right": "green",
    "invented_only": "purple",
    "yes_to_absent": "pink",
    "contradiction": "red",
    "otherwise": "pale",
}
_BY = {"exact": "By the exact state", "judge": "By the judge of captions"}
_STEP_NAMES = {
    "world": "clips and captions",
    "pretrain": "pre-training",
    "sft": "SFT",
    "dpo": "DPO",
    "evaluate": "evaluation",
}
_SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def model_key(model: str) -> Markup:
    """Return a model's name after its dot in the charts."""
    return key(COLOURS[model], dots=True) + model.upper()


def accuracy_chart(accuracies: Mapping[tuple[str, str], Mapping[str, Any]], name: str) -> Figure:
    """Draw both models' accuracy in one test set, by (`exact` or `judge`, model)."""
    groups = []
    for by, heading in _BY.items():
        marks = []
        for model in MODELS:
            figure = accuracies[by, model]
            estimate = Estimate(figure["value"], figure["se"], figure["ci95"], n=0, n_clusters=0)
            marks.append(_mark(model, estimate))
        groups.append(Group(heading, marks))
    chart = row_chart(
        groups,
        Axis("questions answered right, %", _SHARES, _hundredths),
        says=f"{name}, accuracy in per cent: {_read_out(groups)}",
        bars=True,
    )
    return Figure(chart, f"{name}: accuracy")


def difference_chart(summary: Mapping[str, Any]) -> Figure:
    """Draw DPO − SFT with its interval, in both test sets and by both judges."""
    groups, reach, said = [], 0.01, []
    for name, title in SET_NAMES.items():
        marks = []
        for by, figures in (("state", summary[name]), ("judge", summary[name]["judged"])):
            delta, ends = figures["delta"], figures["delta_ci95"]
            reach = max([reach, abs(delta), *(abs(end) for end in ends or ())])
            marks.append(Mark("ink", by, delta, tuple(ends) if ends else None, points(delta)))
            said.append(f"{title} by {by} {points(delta)} ({interval(ends)})")
        groups.append(Group(title, marks))
    ticks = round_ticks(-reach, reach, 4)
    # The same reach on both sides of zero.
    end = max(abs(ticks[0]), abs(ticks[-1]))
    step = ticks[1] - ticks[0]
    ticks = [step * number for number in range(-round(end / step), round(end / step) + 1)]
    chart = row_chart(
        groups,
        Axis(
            "DPO − SFT, points (right of 0: DPO is better)",
            ticks,
            lambda value: rounded(100 * value, 0, sign=True) if value else "0",
        ),
        says="Difference DPO minus SFT in points: " + "; ".join(said),
        left=52.0,
        right=56.0,
    )
    return Figure(chart, "Difference, paired by question")


def kind_chart(kinds: Sequence[KindFigures], name: str) -> Figure:
    """Draw accuracy of both models by type of question, and of the best blind guess."""
    groups = []
    for kind in kinds:
        guess = Estimate(kind.chance, None, None, kind.n, 0)
        marks = [*(_mark(model, kind.accuracy[model]) for model in MODELS), _mark("guess", guess)]
        groups.append(Group(f"{kind.kind}, {plural(kind.n, 'question')}", marks))
    chart = row_chart(
        groups,
        Axis("questions answered right, %", _SHARES, _hundredths),
        says=f"{name}, accuracy in per cent by type of question: {_read_out(groups)}",
        left=48.0,
    )
    return Figure(chart, name)


def fault_chart(taught: Mapping[str, Any], rates: Mapping[str, Mapping[str, Estimate]]) -> Figure:
    """Draw how often each fault occurs: in what SFT was taught, and in both models' answers."""
    groups = []
    for name in FAULTS:
        marks = []
        if taught.get(name) is not None:
            value = float(taught[name])
            marks.append(Mark(COLOURS["taught"], "taught", value, None, _text.points(value)))
        marks += [_mark(model, rates[model][name]) for model in MODELS]
        groups.append(Group(FAULT_NAMES[name], marks))
    chart = row_chart(
        groups,
        Axis("answers with the fault, %", _SHARES, _hundredths),
        says="Faults in per cent of the answers that could have them. " + _read_out(groups),
        bars=True,
        left=60.0,
    )
    named = [(COLOURS["taught"], "taught"), *((COLOURS[model], model.upper()) for model in MODELS)]
    return Figure(chart, "How often answers have the faults", legend=named)


def part_chart(shares: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw all answers of each model: right, or wrong for which reason."""
    bars = [
        (
            model.upper(),
            [Segment(_PART_COLOURS[name], PART_NAMES[name], shares[model][name]) for name in PARTS],
        )
        for model in MODELS
    ]
    said = "; ".join(
        f"{name}: {', '.join(f'{one.name} {percent(one.share)}' for one in segments)}"
        for name, segments in bars
    )
    return Figure(
        stack_chart(
            bars, says=f"All answers by what is wrong with them. {said}", axis="answers, %"
        ),
        "All answers, by what is wrong with them",
        "By the exact state. “Right but for an invented detail” counts as wrong in all figures"
        " above.",
        [(_PART_COLOURS[name], PART_NAMES[name]) for name in PARTS],
    )


def curve_charts(logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Figure]:
    """Draw the three losses and DPO's rewards."""
    dpo = logs["dpo"]
    tokens = "cross-entropy, nats a token"
    no_preference = (math.log(2), "no preference: ln 2")
    percents = (0.0, 25.0, 50.0, 75.0, 100.0)
    accuracy = _line(dpo, "rewards/accuracies", "blue", "reward accuracy", 100.0)
    rewards = [
        _line(dpo, "rewards/chosen", "green", "chosen"),
        _line(dpo, "rewards/rejected", "red", "rejected"),
        _line(dpo, "rewards/margins", "blue", "margin"),
    ]
    return [
        _curves("Pre-training: loss", tokens, [_line(logs["pretrain"], "loss", "slate", "loss")]),
        _curves("SFT: loss", tokens, [_line(logs["sft"], "loss", "orange", "loss")]),
        _curves(
            "DPO: loss", "loss, nats", [_line(dpo, "loss", "blue", "loss")], level=no_preference
        ),
        _curves(
            "DPO: reward accuracy",
            "pairs with chosen rewarded above rejected, %",
            [accuracy],
            ticks=percents,
        ),
        _curves("DPO: implicit rewards", "β · log-ratio to the SFT model, nats", rewards),
    ]


def score_chart(report: Mapping[str, Any]) -> Figure:
    """Draw the judge's scores of all candidates; those at the threshold or above may be chosen."""
    counted = {int(score): int(count) for score, count in report["histogram"].items()}
    total = sum(counted.values()) or 1
    threshold = float(report.get("threshold", 3.0))
    bins = [
        (
            str(score),
            float(counted.get(score, 0)),
            f"{number(counted.get(score, 0))} ({percent(counted.get(score, 0) / total, 0)})",
            "green" if score >= threshold else "grey",
        )
        for score in range(1, 6)
    ]
    said = ", ".join(f"score {label}: {words}" for label, _, words, _ in bins)
    chart = column_chart(
        bins,
        says=f"Candidates by the judge's score: {said}",
        x_axis="the judge’s score (5 is best)",
        y_axis="candidate answers",
    )
    note = f"Green: good enough to be chosen ({number(threshold)} or more). Grey: may be rejected."
    return Figure(chart, "The judge’s scores of all candidates", note)


def time_chart(seconds: Mapping[str, float]) -> Figure:
    """Draw how long each step took."""
    marks = [
        Mark("slate", _STEP_NAMES.get(name, name), value, None, duration(value))
        for name, value in seconds.items()
        if name != "total"
    ]
    chart = row_chart(
        [Group("", marks)],
        Axis("seconds"),
        says="Seconds by step: " + ", ".join(f"{mark.name} {mark.says}" for mark in marks),
        bars=True,
        left=150.0,
        right=90.0,
    )
    return Figure(chart, f"Time by step: {duration(seconds['total'])} in all")


def _hundredths(value: float) -> str:
    return rounded(100 * value, 0)


def _read_out(groups: Sequence[Group]) -> str:
    return "; ".join(
        f"{group.heading} {', '.join(f'{mark.name} {mark.says}' for mark in group.marks)}"
        for group in groups
    )


def _mark(who: str, estimate: Estimate) -> Mark:
    says = format_estimate({"value": estimate.value, "se": estimate.se or None}, share=True)
    # Where all answers agree the formula gives no width, which is not certainty: no whisker then.
    ends = estimate.ci95 if estimate.se else None
    name = who.upper() if who in MODELS else who
    return Mark(COLOURS[who], name, estimate.value or 0.0, ends, says)


def _line(
    log: Sequence[Mapping[str, Any]], name: str, series: str, shown: str, factor: float = 1.0
) -> Line:
    # A resumed training may have logged a step twice: the later row holds.
    values = {float(row["step"]): factor * row[name] for row in log if row.get(name) is not None}
    return Line(series, shown, sorted(values.items()))


def _curves(
    title: str,
    unit: str,
    curves: Sequence[Line],
    *,
    ticks: Sequence[float] | None = None,
    level: tuple[float, str] | None = None,
) -> Figure:
    said = "; ".join(
        f"{line.name} from {number(line.points[0][1])} to {number(line.points[-1][1])} "
        f"at step {number(line.points[-1][0])}"
        for line in curves
        if line.points
    )
    chart = line_chart(
        curves,
        Axis("training step"),
        Axis(unit, ticks),
        says=f"{title}, {unit}: {said or 'nothing was logged'}",
        level=level,
    )
    return Figure(chart, title, legend=[(line.series, line.name) for line in curves])
