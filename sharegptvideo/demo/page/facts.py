"""Counts behind the page: by question type, by kind of error, by who was right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sharegptvideo.demo.page.record import MODELS, Answer, Case
from sharegptvideo.eval.statistics import Estimate, clustered_mean
from sharegptvideo.synthetic import KINDS, claims, is_right
from sharegptvideo.synthetic.language import INVENTED

__all__ = ["FAULTS", "OUTCOMES", "PARTS", "KindFigures", "by_kind", "faults", "outcomes", "parts"]

FAULTS = ("invented", "yes_to_absent", "no_to_present")
PARTS = ("right", "invented_only", "yes_to_absent", "otherwise")
OUTCOMES = ("fixed", "both_right", "both_wrong", "broke")
_THINGS = tuple(thing for thing, _ in INVENTED.values())


@dataclass(frozen=True, slots=True)
class KindFigures:
    """Accuracy of both models on the questions of one type."""

    kind: str
    n: int
    accuracy: dict[str, Estimate]


def by_kind(cases: Sequence[Case]) -> list[KindFigures]:
    """Accuracy by exact state for each type that is asked, clustered by video."""
    asked = {case.kind for case in cases}
    order = [kind for kind in KINDS if kind in asked] + sorted(asked - set(KINDS))
    figures = []
    for kind in order:
        mine = [case for case in cases if case.kind == kind]
        accuracy = {
            model: clustered_mean(
                [float(case.answers[model].right) for case in mine], [case.video for case in mine]
            )
            for model in MODELS
        }
        figures.append(KindFigures(kind, len(mine), accuracy))
    return figures


def faults(cases: Sequence[Case], model: str) -> dict[str, Estimate]:
    """How often a model's answers have each fault that the SFT answers were given.

    As the world counts them: `invented` is the share of the answers to all questions but those
    of presence that name a thing which no clip shows; `yes_to_absent` the share of yes among the
    answers about absent things; `no_to_present` the share of no among those about present ones.
    Clustered by video.
    """
    values: dict[str, list[tuple[str, float]]] = {name: [] for name in FAULTS}
    for case in cases:
        name = _possible_fault(case)
        values[name].append((case.video, float(_has(name, case.answers[model].text))))
    return {
        name: clustered_mean([value for _, value in found], [video for video, _ in found])
        for name, found in values.items()
    }


def _possible_fault(case: Case) -> str:
    if case.kind != "presence":
        return "invented"
    return "no_to_present" if _polarity(case.reference) == "yes" else "yes_to_absent"


def _has(fault: str, text: str) -> bool:
    if fault == "invented":
        return "thing" in claims(text)
    return _polarity(text) == ("yes" if fault == "yes_to_absent" else "no")


def _polarity(text: str) -> str | None:
    return next(iter(claims(text).get("polarity", ())), None)


def parts(cases: Sequence[Case], model: str) -> dict[str, float]:
    """Shares of a model's answers that sum to 1: right, or wrong for which reason.

    `invented_only`: right but for things named that no clip shows; `yes_to_absent`: yes to
    something absent; `otherwise`: wrong about what the clip does show, or failed.
    """
    found = Counter(_part(case, case.answers[model]) for case in cases)
    return {name: found[name] / len(cases) if cases else 0.0 for name in PARTS}


def _part(case: Case, answer: Answer) -> str:
    if answer.right:
        return "right"
    if answer.error is None:
        if _right_but_for_things(case.question, answer.text):
            return "invented_only"
        if _possible_fault(case) == "yes_to_absent" and _polarity(answer.text) == "yes":
            return "yes_to_absent"
    return "otherwise"


def _right_but_for_things(question: Any, text: str) -> bool:
    allowed = {**question["allowed"], "thing": _THINGS}
    return is_right({**question, "allowed": allowed}, text)


def outcomes(cases: Iterable[Case]) -> dict[str, list[Case]]:
    """Questions by who is right: `fixed` only DPO, `broke` only SFT, `both_right`, `both_wrong`."""
    names = {
        (False, True): "fixed",
        (True, True): "both_right",
        (False, False): "both_wrong",
        (True, False): "broke",
    }
    found: dict[str, list[Case]] = {name: [] for name in OUTCOMES}
    for case in cases:
        found[names[case.answers["sft"].right, case.answers["dpo"].right]].append(case)
    return found
