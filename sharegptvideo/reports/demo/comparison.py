"""SFT against DPO on the two test sets, by the exact state and by the judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sharegptvideo._io import read_json, read_jsonl
from sharegptvideo.eval.comparison import compare_runs
from sharegptvideo.synthetic import KINDS, load_questions
from sharegptvideo.synthetic.reading import read_answer

__all__ = ["MODELS", "SETS", "blind_guess", "compare_models"]

SETS = {"test": "synthetic_qa", "out_of_domain": "synthetic_ood_qa"}
MODELS = ("sft", "dpo")
Question = Mapping[str, Any]


def compare_models(runs: Path, world: Path) -> dict[str, Any]:
    """Return the figures of the demo, by test set.

    For each: `n_videos`, `n_questions`, `sft` and `dpo` {accuracy, se}, `delta` (DPO − SFT),
    `delta_ci95`, `p_value`, all by the exact state, standard errors clustered by video and the
    difference paired by question; `contradictions`, by model the share of all answers that
    contradict themselves; `lost` and `gained` {n, share}, the questions that SFT had right and DPO
    has wrong, and the reverse, of all questions; `yes`, by model the share of yes among the
    answers to questions of presence; `kinds`, by kind of question {n, chance, sft, dpo, lost,
    gained}, counts but for `chance`, the share that the best blind guess has right; and `judged`,
    accuracy and difference by the judge of captions.
    """
    exact = _compare(runs / "sft-exact", runs / "dpo-exact")
    judged = _compare(runs / "sft", runs / "dpo")
    questions = load_questions(world)
    right = {model: _right(runs / f"{model}-exact") for model in MODELS}
    answers = {model: _answers(runs / model) for model in MODELS}
    results = {model: read_json(runs / f"{model}-exact" / "results.json") for model in MODELS}
    figures = {}
    for name, task in SETS.items():
        asked = {key: questions[key] for key in right["sft"][task]}
        changes = _changes(right["sft"][task], right["dpo"][task])
        figures[name] = {
            **exact[name],
            "contradictions": {
                model: results[model]["tasks"][task]["contradictions"]["value"] for model in MODELS
            },
            **{
                change: {"n": len(keys), "share": len(keys) / len(asked) if asked else None}
                for change, keys in changes.items()
            },
            "yes": {model: _yes(asked, answers[model]) for model in MODELS},
            "kinds": _kinds(asked, {model: right[model][task] for model in MODELS}, changes),
            "judged": judged[name],
        }
    return figures


def blind_guess(questions: Iterable[Question]) -> float | None:
    """Return the share that the best blind guess has right: one answer to all questions alike.

    Questions are alike where they are of one kind and their wording asks for one attribute ("what
    happens to the ring?" asks for none). The guess knows how often each answer is right among
    these very questions, so it is a high bar for a model.
    """
    accepted: dict[tuple[str, str], Counter[tuple[str, ...]]] = {}
    total = 0
    for question in questions:
        total += 1
        for attribute, sequences in question["expected"].items():
            asks = "" if question["kind"] == "change" else attribute
            counted = accepted.setdefault((question["kind"], asks), Counter())
            counted.update({(attribute, *values) for values in sequences})
    best = sum(max(counted.values()) for counted in accepted.values())
    return best / total if total else None


def _kinds(
    asked: Mapping[str, Question],
    right: Mapping[str, Mapping[str, bool]],
    changes: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    kinds = {}
    for kind in KINDS:
        keys = [key for key, question in asked.items() if question["kind"] == kind]
        if keys:
            kinds[kind] = {
                "n": len(keys),
                "chance": blind_guess(asked[key] for key in keys),
                **{model: sum(right[model][key] for key in keys) for model in MODELS},
                **{change: len(set(keys) & set(those)) for change, those in changes.items()},
            }
    return kinds


def _changes(sft: Mapping[str, bool], dpo: Mapping[str, bool]) -> dict[str, list[str]]:
    return {
        "lost": [key for key in sft if sft[key] and not dpo[key]],
        "gained": [key for key in sft if dpo[key] and not sft[key]],
    }


def _yes(asked: Mapping[str, Question], answers: Mapping[str, str]) -> float | None:
    said = [
        True in read_answer(answers.get(key, "")).polarities
        for key, question in asked.items()
        if question["kind"] == "presence"
    ]
    return sum(said) / len(said) if said else None


def _right(run: Path) -> dict[str, dict[str, bool]]:
    """Return by task and id whether the answer is right; a failed one is wrong."""
    right: dict[str, dict[str, bool]] = {task: {} for task in SETS.values()}
    for _, row in read_jsonl(run / "predictions.jsonl"):
        right[row["task"]][row["id"]] = False
    for _, row in read_jsonl(run / "judgements.jsonl"):
        right[row["task"]][row["id"]] = bool(row["correct"])
    return right


def _answers(run: Path) -> dict[str, str]:
    return {
        row["id"]: row.get("prediction") or "" for _, row in read_jsonl(run / "predictions.jsonl")
    }


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
