"""The words of the demo's page, by its figures: a gain, no clear difference, or a loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sharegptvideo import _text
from sharegptvideo.eval.statistics import Estimate

__all__ = [
    "WHAT_DOES_IT",
    "explained",
    "headline",
    "interval",
    "losses",
    "percent",
    "points",
    "results_in_words",
    "verdict",
    "what_was_done",
    "what_was_taught",
]

Figures = Mapping[str, Any]

WHAT_DOES_IT = (
    "The loss is that of DPO and an SFT term on the chosen answers. Without the term DPO breaks"
    " this small model in some seeds; the term alone, training on the judge’s chosen answers with"
    " no preference in it, gains about as much. The comparison is in training/INTERNALS.md."
)


def percent(value: float | None, digits: int = 1) -> str:
    """Return a share as per cent with its sign, the two kept on one line."""
    return _text.percent(value, digits, space="\N{NO-BREAK SPACE}")


def points(value: float | None) -> str:
    """Return a difference of shares in percentage points, always with its sign."""
    return _text.points(value, sign=True)


def interval(ends: tuple[float, float] | list[float] | None) -> str:
    """Return an interval of a difference in percentage points."""
    return "undefined" if ends is None else _text.interval(ends, sign=True)


def verdict(figures: Figures) -> Literal["above", "below", "unclear"]:
    """Return whether the 95 % interval of DPO − SFT lies above zero, below it, or holds it."""
    ends = figures["delta_ci95"]
    if ends is None or ends[0] <= 0 <= ends[1]:
        return "unclear"
    return "above" if ends[0] > 0 else "below"


def headline(summary: Figures) -> str:
    """Put the result on the unseen test clips in one line."""
    test = summary["test"]
    size = f"{_text.points(abs(test['delta']))} points"
    return {
        "above": f"DPO answers {size} more of the questions right than SFT",
        "below": f"DPO answers {size} fewer of the questions right than SFT",
        "unclear": f"No clear difference between DPO and SFT ({points(test['delta'])} points)",
    }[verdict(test)]


def results_in_words(summary: Figures) -> str:
    """Put the results of both test sets in sentences."""
    test, other = summary["test"], summary["out_of_domain"]
    where = f"On {test['n_questions']:,} questions about {test['n_videos']:,} clips that neither"
    if verdict(test) == verdict(other):
        tail = {
            "above": "the gain holds there too.",
            "below": "the loss shows there too.",
            "unclear": "no clear difference there either.",
        }[verdict(other)]
    else:
        tail = {
            "above": "there DPO is above SFT.",
            "below": "there DPO is below SFT.",
            "unclear": "there the two cannot be distinguished.",
        }[verdict(other)]
    return (
        f"{where} model has seen, SFT gets {_accuracies(test)}. "
        f"On {other['n_questions']:,} questions about {other['n_videos']:,} clips of another "
        f"rendering style with unseen combinations, it is {_accuracies(other)}: {tail}"
    )


def _accuracies(figures: Figures) -> str:
    sft, dpo = figures["sft"]["accuracy"], figures["dpo"]["accuracy"]
    return (
        f"{percent(sft)} right and DPO {percent(dpo)}, a difference of {points(figures['delta'])} "
        f"points (95\u00a0% interval {interval(figures['delta_ci95'])}, p\u00a0"
        f"{_equals(_text.p_value(figures['p_value']))})"
    )


def _equals(words: str) -> str:
    return words if words.startswith("<") else f"=\u00a0{words}"


def what_was_done(summary: Figures) -> str:
    """Describe the steps with their sizes."""
    world, pairs = summary["world"], summary["pairs_report"]
    return (
        f"{sum(world['clips'].values()):,} short clips were rendered, each with an exact"
        f" caption. A LLaVA-Hound model of"
        f" {_text.magnitude(summary['model']['parameters'], 2)} parameters,"
        " random at the start, was pre-trained on captions and fine-tuned (SFT) on"
        f" {world['questions']['train']:,} question–answer pairs. It then answered"
        f" {pairs['n_items']:,} other questions several times each; a judge that reads captions"
        f" only, never a frame, scored these {pairs['n_answers']:,} answers from 1 to 5;"
        f" {summary['pairs']:,} pairs of a better and a worse answer were made of them, and DPO"
        f" trained on these. All of it took {_text.duration(summary['seconds']['total'])}."
    )


def what_was_taught(faults: Figures) -> str:
    """Describe the faults of the SFT answers by their shares."""
    return (
        "The SFT answers were made faulty on purpose, as answers distilled from a language model"
        f" that has not seen the clip: {percent(faults.get('invented'), 0)} of those to open"
        " questions add a detail that no clip shows,"
        f" {percent(faults.get('yes_to_absent'), 0)} of the questions about absent things are"
        f" answered yes, {percent(faults.get('no_to_present'), 0)} of those about present things"
        " no. Captions, preference references and test references are exact. What DPO can gain is"
        " the unlearning of these faults."
    )


def explained(
    summary: Figures,
    faults: Mapping[str, Mapping[str, Estimate]],
    parts: Mapping[str, Mapping[str, float]],
) -> list[str]:
    """Say what the difference is made of, on the test clips: for or against factuality.

    `faults` and `parts` are by model, see `comparison`.
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
    test = summary["test"]
    lost, gained, contra = test["lost"], test["gained"], test["contradictions"]
    sentences = [
        f"{lost['n']:,} questions ({percent(lost['share'])}) were right with SFT and are wrong "
        f"with DPO; {gained['n']:,} ({percent(gained['share'])}) the other way round.",
        f"Answers that contradict themselves: {_move([contra['sft'], contra['dpo']])}.",
        f"Yes is the answer to {_move([test['yes']['sft'], test['yes']['dpo']])} of the "
        "questions whether something is there; half of these things are.",
    ]
    blind = [
        f"{kind} ({of['dpo']} of {of['n']} right, a guess has {round(of['chance'] * of['n'])})"
        for kind, of in test["kinds"].items()
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
        return "In this run DPO did harm; the curves and pairs below are where the cause may show."
    if result == "unclear":
        return (
            "Whatever DPO changed is within the error of this test: this run is no evidence "
            "that the method works."
        )
    if learnt > seen:
        return (
            "So the gain is mostly one of factuality: the model learnt to leave out what it has "
            "not seen. It is no evidence that the model sees better."
        )
    return "So most of this gain is not in factuality, which is where the method's is expected."
