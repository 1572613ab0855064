"""Counts behind the page: by question type, by kind of error, by who was right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sharegptvideo.eval.statistics import Estimate, clustered_mean
from sharegptvideo.reports.demo.comparison import blind_guess
from sharegptvideo.reports.demo.record import MODELS, Answer, Case
from sharegptvideo.synthetic import KINDS, check_answer
from sharegptvideo.synthetic.reading import THINGS, read_answer

__all__ = [
    "FAULTS",
    "OUTCOMES",
    "PARTS",
    "Disagreement",
    "KindFigures",
    "by_kind",
    "disagreements",
    "faults",
    "lost_examples",
    "outcomes",
    "parts",
]

FAULTS = ("invented", "yes_to_absent", "no_to_present")
PARTS = ("right", "invented_only", "yes_to_absent", "contradiction", "otherwise")
OUTCOMES = ("fixed", "both_right", "both_wrong", "broke")


@dataclass(frozen=True, slots=True)
class KindFigures:
    """Accuracy of both models on the questions of one type; `chance` of the best blind guess."""

    kind: str
    n: int
    accuracy: dict[str, Estimate]
    chance: float | None


@dataclass(frozen=True, slots=True)
class Disagreement:
    """An answer that one of state and judge holds for right and the other for wrong."""

    case: Case
    model: str
    answer: Answer


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
        chance = blind_guess(case.question for case in mine)
        figures.append(KindFigures(kind, len(mine), accuracy, chance))
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
    present = True in read_answer(case.reference).polarities
    return "no_to_present" if present else "yes_to_absent"


def _has(fault: str, text: str) -> bool:
    if fault == "invented":
        return any(said.holds and said.noun in THINGS for said in read_answer(text).mentions)
    return (fault == "yes_to_absent") in read_answer(text).polarities


def parts(cases: Sequence[Case], model: str) -> dict[str, float]:
    """Shares of a model's answers that sum to 1: right, or wrong for which reason.

    `invented_only`: right but for things named that no clip shows; `yes_to_absent`: yes to
    something absent; `contradiction`: says and denies the same; `otherwise`: wrong about what the
    clip does show, or failed.
    """
    found = Counter(_part(case, case.answers[model]) for case in cases)
    return {name: found[name] / len(cases) if cases else 0.0 for name in PARTS}


def _part(case: Case, answer: Answer) -> str:
    if answer.right:
        return "right"
    if answer.error is None:
        if answer.contradicts:
            return "contradiction"
        if check_answer(case.question, answer.text, ignore_things=True).right:
            return "invented_only"
        if _possible_fault(case) == "yes_to_absent" and _has("yes_to_absent", answer.text):
            return "yes_to_absent"
    return "otherwise"


def disagreements(cases: Iterable[Case]) -> list[Disagreement]:
    """List the answers on which state and judge disagree, in the order of their questions."""
    return [
        Disagreement(case, model, case.answers[model])
        for case in cases
        for model in MODELS
        if case.answers[model].judged not in (None, case.answers[model].right)
    ]


def lost_examples(cases: Sequence[Case], count: int) -> list[Case]:
    """Choose questions that only SFT had right: of each kind in turn, the most lost kind first."""
    lost: dict[str, list[Case]] = {}
    for case in outcomes(cases)["broke"]:
        lost.setdefault(case.kind, []).append(case)
    by_loss = sorted(lost.values(), key=len, reverse=True)
    longest = len(by_loss[0]) if by_loss else 0
    return [of[turn] for turn in range(longest) for of in by_loss if turn < len(of)][:count]


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
