"""SFT against DPO on the two test sets: their answers read, and counted in every way shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharegptvideo._io import read_json, read_jsonl
from sharegptvideo.data.load import read_rows
from sharegptvideo.eval.comparison import compare_runs
from sharegptvideo.eval.statistics import Estimate, clustered_mean
from sharegptvideo.synthetic import KINDS, check_answer, load_questions
from sharegptvideo.synthetic.reading import THINGS, read_answer

__all__ = [
    "FAULTS",
    "MODELS",
    "PARTS",
    "SETS",
    "Answer",
    "Case",
    "KindFigures",
    "blind_guess",
    "by_kind",
    "clean_accuracy",
    "compare_models",
    "faults",
    "outcomes",
    "parts",
    "read_accuracies",
    "read_cases",
]

SETS = {"test": "synthetic_qa", "out_of_domain": "synthetic_ood_qa"}
MODELS = ("sft", "dpo")
FAULTS = ("invented", "yes_to_absent", "no_to_present")
PARTS = ("right", "invented_only", "yes_to_absent", "contradiction", "otherwise")
OUTCOMES = ("fixed", "both_right", "both_wrong", "broke")
Question = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """One model's answer; `right`, `contradicts` and `why` by the exact state.

    `judged`, `score` and `reason` are the verdict of the judge of captions.

    A failed prediction has no text, is wrong, and has its cause in `error`.
    """

    text: str
    error: str | None
    right: bool
    contradicts: bool
    why: str | None
    judged: bool | None
    score: float | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Case:
    """A test question with the answers of both models; `task_set` is a name in `SETS`.

    `question` is the row that `synthetic.check_answer` takes.
    """

    id: str
    task_set: str
    video: str
    kind: str
    question: Mapping[str, Any]
    reference: str
    caption: str
    answers: Mapping[str, Answer]


@dataclass(frozen=True, slots=True)
class KindFigures:
    """Accuracy of both models on the questions of one type; `chance` of the best blind guess."""

    kind: str
    n: int
    accuracy: dict[str, Estimate]
    chance: float | None


def compare_models(runs: Path, world: Path) -> dict[str, Any]:
    """Return the figures of the demo, by test set.

    For each: `n_videos`, `n_questions`, `sft` and `dpo` {accuracy, se}, `delta` (DPO − SFT),
    `delta_ci95`, `p_value`, all by the exact state, standard errors clustered by video and the
    difference paired by question; `contradictions`, by model the share of all answers that
    contradict themselves; `lost` and `gained` {n, share}, the questions that SFT had right and DPO
    has wrong, and the reverse, of all questions; `yes`, by model the share of yes among the
    answers to questions of presence; `kinds`, by kind of question {n, chance, sft, dpo, lost,
    gained, sft_clean}, counts but for `chance`, the share that the best blind guess has right, and
    `sft_clean` {value, se, ci95}, what SFT's model sees: the share right where invented things are
    left out of account; and `judged`, accuracy and difference by the judge of captions.
    """
    cases = read_cases(runs, world)
    exact = _compare(runs / "sft-exact", runs / "dpo-exact")
    judged = _compare(runs / "sft", runs / "dpo")
    results = {model: read_json(runs / f"{model}-exact" / "results.json") for model in MODELS}
    figures = {}
    for name, task in SETS.items():
        mine = [case for case in cases if case.task_set == name]
        groups = outcomes(mine)
        figures[name] = {
            **exact[name],
            "contradictions": {
                model: results[model]["tasks"][task]["contradictions"]["value"] for model in MODELS
            },
            **{
                change: {"n": len(group), "share": len(group) / len(mine) if mine else None}
                for change, group in (("lost", groups["broke"]), ("gained", groups["fixed"]))
            },
            "yes": {model: _share_of_yes(mine, model) for model in MODELS},
            "kinds": {kind: _counts(group) for kind, group in _of_kinds(mine).items()},
            "judged": judged[name],
        }
    return figures


def _counts(cases: Sequence[Case]) -> dict[str, Any]:
    groups = outcomes(cases)
    clean = clean_accuracy(cases, "sft")
    return {
        "n": len(cases),
        "chance": blind_guess(case.question for case in cases),
        **{model: sum(case.answers[model].right for case in cases) for model in MODELS},
        "lost": len(groups["broke"]),
        "gained": len(groups["fixed"]),
        "sft_clean": {"value": clean.value, "se": clean.se, "ci95": clean.ci95},
    }


def clean_accuracy(cases: Sequence[Case], model: str) -> Estimate:
    """Count answers that are right but for things named that no clip shows, clustered by video.

    It is what a model sees, whatever it has learnt to add.
    """
    right = [
        case.answers[model].error is None
        and check_answer(case.question, case.answers[model].text, ignore_things=True).right
        for case in cases
    ]
    return clustered_mean([float(one) for one in right], [case.video for case in cases])


def _share_of_yes(cases: Sequence[Case], model: str) -> float | None:
    said = [
        True in read_answer(case.answers[model].text).polarities
        for case in cases
        if case.kind == "presence"
    ]
    return sum(said) / len(said) if said else None


def read_cases(runs: Path, world: Path) -> list[Case]:
    """Read all test questions of a demo that both models were asked, in the order of their files.

    Raises:
        UserError: a run folder or the world is missing or broken.
    """
    questions = load_questions(world)
    answers = {model: _answers(runs, model) for model in MODELS}
    cases = []
    for name, config in SETS.items():
        for row in read_rows(config, data_dir=world, split="test"):
            if any(row["id"] not in answers[model] for model in MODELS):
                continue
            cases.append(
                Case(
                    id=row["id"],
                    task_set=name,
                    video=row["video"],
                    kind=row["question_type"],
                    question=questions[row["id"]],
                    reference=row["answer"],
                    caption=row["caption"],
                    answers={model: answers[model][row["id"]] for model in MODELS},
                )
            )
    return cases


def _answers(runs: Path, model: str) -> dict[str, Answer]:
    exact = {row["id"]: row for _, row in read_jsonl(runs / f"{model}-exact" / "judgements.jsonl")}
    judged = {row["id"]: row for _, row in read_jsonl(runs / model / "judgements.jsonl")}
    answers = {}
    for _, row in read_jsonl(runs / model / "predictions.jsonl"):
        known, verdict = exact.get(row["id"], {}), judged.get(row["id"], {})
        answers[row["id"]] = Answer(
            text=row.get("prediction") or "",
            error=None if row["status"] == "ok" else row.get("error") or "no answer",
            right=bool(known.get("correct")),
            contradicts=bool(known.get("contradiction")),
            why=known.get("reason"),
            judged=verdict.get("correct"),
            score=verdict.get("score"),
            reason=verdict.get("reason"),
        )
    return answers


def read_accuracies(runs: Path, name: str) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Read accuracy {value, se, ci95} in one test set by (`exact` or `judge`, model)."""
    accuracies = {}
    for by, suffix in (("exact", "-exact"), ("judge", "")):
        for model in MODELS:
            results = read_json(runs / f"{model}{suffix}" / "results.json")
            accuracies[by, model] = results["tasks"][SETS[name]]["accuracy"]
    return accuracies


def outcomes(cases: Iterable[Case]) -> dict[str, list[Case]]:
    """Group questions by who is right: `fixed` DPO alone, `broke` SFT alone, both, neither."""
    names = {
        (False, True): "fixed",
        (True, True): "both_right",
        (False, False): "both_wrong",
        (True, False): "broke",
    }
    groups: dict[str, list[Case]] = {name: [] for name in OUTCOMES}
    for case in cases:
        groups[names[case.answers["sft"].right, case.answers["dpo"].right]].append(case)
    return groups


def blind_guess(questions: Iterable[Question]) -> float | None:
    """Return the share that the best blind guess has right: one answer to all questions alike.

    Questions are alike where they are of one kind, their wording asks for one attribute ("what
    happens to the ring?" asks for none), and it says or does not say that something changes
    ("which way does the ring move at first?": it does not stay still). The guess knows how often
    each answer is right among these very questions, so it is a high bar for a model.
    """
    accepted: dict[tuple[str, str, bool], Counter[tuple[str, ...]]] = {}
    total = 0
    for question in questions:
        total += 1
        for attribute, sequences in question["expected"].items():
            asks = "" if question["kind"] == "change" else attribute
            changes = question["text"].endswith((" at first?", " at the start?"))
            counted = accepted.setdefault((question["kind"], asks, changes), Counter())
            counted.update({(attribute, *values) for values in sequences})
    best = sum(max(counted.values()) for counted in accepted.values())
    return best / total if total else None


def by_kind(cases: Sequence[Case]) -> list[KindFigures]:
    """Count accuracy by exact state for each type that is asked, clustered by video."""
    figures = []
    for kind, mine in _of_kinds(cases).items():
        videos = [case.video for case in mine]
        accuracy = {
            model: clustered_mean([float(case.answers[model].right) for case in mine], videos)
            for model in MODELS
        }
        chance = blind_guess(case.question for case in mine)
        figures.append(KindFigures(kind, len(mine), accuracy, chance))
    return figures


def _of_kinds(cases: Sequence[Case]) -> dict[str, list[Case]]:
    """Group questions by kind, in the order of the world's kinds."""
    asked = {case.kind for case in cases}
    order = [kind for kind in KINDS if kind in asked] + sorted(asked - set(KINDS))
    return {kind: [case for case in cases if case.kind == kind] for kind in order}


def faults(cases: Sequence[Case], model: str) -> dict[str, Estimate]:
    """Count how often a model's answers have each fault that the SFT answers were given.

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
        name: clustered_mean([value for _, value in pairs], [video for video, _ in pairs])
        for name, pairs in values.items()
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
    """Return shares of a model's answers that sum to 1: right, or wrong for which reason.

    `invented_only`: right but for things named that no clip shows; `yes_to_absent`: yes to
    something absent; `contradiction`: says and denies the same; `otherwise`: wrong about what the
    clip does show, or failed.
    """
    counts = Counter(_part(case, case.answers[model]) for case in cases)
    return {name: counts[name] / len(cases) if cases else 0.0 for name in PARTS}


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


def _compare(sft: Path, dpo: Path) -> dict[str, dict[str, Any]]:
    difference = compare_runs(sft, dpo)["tasks"]
    results = {"sft": read_json(sft / "results.json"), "dpo": read_json(dpo / "results.json")}
    figures: dict[str, dict[str, Any]] = {}
    for name, task in SETS.items():
        paired = difference[task]
        figures[name] = {
            "n_videos": paired["n_clusters"],
            "n_questions": paired["n"],
            **{
                model: {
                    "accuracy": run["tasks"][task]["accuracy"]["value"],
                    "se": run["tasks"][task]["accuracy"]["se"],
                }
                for model, run in results.items()
            },
            "delta": paired["delta"],
            "delta_ci95": paired["ci95"],
            "p_value": paired["p_value"],
        }
    return figures
