"""What the page says in words, decided by the figures: a gain, no clear difference, or a loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sharegptvideo import _text
from sharegptvideo.eval.statistics import Estimate

__all__ = [
    "explained",
    "headline",
    "interval",
    "losses",
    "minus",
    "p_value",
    "percent",
    "points",
    "told",
    "verdict",
]

Figures = Mapping[str, Any]


def minus(words: str) -> str:
    """A hyphen that is a minus sign, as one."""
    return words.replace("-", "−")


def percent(value: float | None, digits: int = 1) -> str:
    """A share as per cent with its sign, the two kept on one line."""
    return _text.percent(value, digits, space="\N{NO-BREAK SPACE}")


def points(value: float | None) -> str:
    """A difference of shares in percentage points, always with its sign."""
    return minus(_text.points(value, sign=True))


def interval(ends: tuple[float, float] | list[float] | None) -> str:
    """An interval of a difference in percentage points."""
    return "undefined" if ends is None else f"{points(ends[0])} to {points(ends[1])}"


def p_value(value: float | None) -> str:
    """A p-value with two digits, or below which bound it lies."""
    if value is None:
        return "–"
    return "< 0.0001" if value < 0.0001 else f"{value:.2g}"


def verdict(figures: Figures) -> Literal["above", "below", "unclear"]:
    """Whether the 95 % interval of DPO − SFT lies above zero, below it, or holds it."""
    ends = figures["delta_ci95"]
    if ends is None or ends[0] <= 0 <= ends[1]:
        return "unclear"
    return "above" if ends[0] > 0 else "below"


def headline(summary: Figures) -> str:
    """The result on the unseen test clips in one line."""
    found = summary["test"]
    size = f"{abs(100 * found['delta']):.1f} points"
    return {
        "above": f"DPO answers {size} more of the questions right than SFT",
        "below": f"DPO answers {size} fewer of the questions right than SFT",
        "unclear": f"No clear difference between DPO and SFT ({points(found['delta'])} points)",
    }[verdict(found)]


def told(summary: Figures) -> str:
    """Both test sets in sentences."""
    found, other = summary["test"], summary["out_of_domain"]
    where = f"On {found['n_questions']:,} questions about {found['n_videos']:,} clips that neither"
    if verdict(found) == verdict(other):
        tail = {
            "above": "the gain holds there too.",
            "below": "the loss shows there too.",
            "unclear": "no clear difference there either.",
        }[verdict(other)]
    else:
        tail = {
            "above": "there DPO is above SFT.",
            "below": "there DPO is below SFT.",
            "unclear": "there the two cannot be told apart.",
        }[verdict(other)]
    return (
        f"{where} model has seen, SFT gets {_accuracies(found)}. "
        f"On {other['n_questions']:,} questions about {other['n_videos']:,} clips of another "
        f"rendering style with unseen combinations, it is {_accuracies(other)}: {tail}"
    )


def _accuracies(found: Figures) -> str:
    sft, dpo = found["sft"]["accuracy"], found["dpo"]["accuracy"]
    return (
        f"{percent(sft)} right and DPO {percent(dpo)}, a difference of {points(found['delta'])} "
        f"points (95\u00a0% interval {interval(found['delta_ci95'])}, p\u00a0"
        f"{_equals(p_value(found['p_value']))})"
    )


def _equals(words: str) -> str:
    return words if words.startswith("<") else f"=\u00a0{words}"


def explained(
    summary: Figures,
    faults: Mapping[str, Mapping[str, Estimate]],
    parts: Mapping[str, Mapping[str, float]],
) -> list[str]:
    """What the difference is made of, on the test clips: sentences for or against factuality.

    `faults` and `parts` are by model, see `facts`.
    """
    sft, dpo = parts["sft"], parts["dpo"]
    taught = [model["invented_only"] + model["yes_to_absent"] for model in (sft, dpo)]
    other = [model["otherwise"] for model in (sft, dpo)]
    return [
        "answers to open questions that name a detail no clip shows: "
        f"{_move([faults[model]['invented'].value for model in ('sft', 'dpo')])}. "
        "Yes to something that is not there: "
        f"{_move([faults[model]['yes_to_absent'].value for model in ('sft', 'dpo')])}.",
        f"Answers that are wrong for one of these two faults alone: {_move(taught)}. "
        f"Answers that are wrong in another way: {_move(other)}.",
        _conclusion(verdict(summary["test"]), taught[0] - taught[1], other[0] - other[1]),
    ]


def losses(summary: Figures) -> list[str]:
    """Say what DPO lost on the test clips, and where neither model knows more than a guess."""
    found = summary["test"]
    lost, gained, contra = found["lost"], found["gained"], found["contradictions"]
    sentences = [
        f"{lost['n']:,} questions ({percent(lost['share'])}) were right with SFT and are wrong "
        f"with DPO; {gained['n']:,} ({percent(gained['share'])}) the other way round.",
        f"Answers that contradict themselves: {_move([contra['sft'], contra['dpo']])}.",
        f"Yes is the answer to {_move([found['yes']['sft'], found['yes']['dpo']])} of the "
        "questions whether something is there; half of these things are.",
    ]
    blind = [
        f"{kind} ({of['dpo']} of {of['n']} right, a guess has {round(of['chance'] * of['n'])})"
        for kind, of in found["kinds"].items()
        if of["dpo"] <= of["chance"] * of["n"]
    ]
    if blind:
        sentences.append(
            "DPO's model is no better than the best blind guess, which never sees the clip, at "
            f"questions of {', '.join(blind)}."
        )
    return sentences


def _move(shares: Sequence[float | None]) -> str:
    return f"{percent(shares[0])} with SFT, {percent(shares[1])} with DPO"


def _conclusion(result: str, learnt: float, seen: float) -> str:
    if result == "below":
        return "In this run DPO did harm; the curves and pairs below are where to look for why."
    if result == "unclear":
        return (
            "Whatever DPO changed is within the error of this test: this run is no evidence "
            "that the method works."
        )
    if learnt > seen:
        return (
            "So the gain is mostly one of factuality: the model learnt to leave out what it has "
            "not seen. It is no evidence of better sight."
        )
    return "So most of this gain is not in factuality, which is where the method's is expected."
