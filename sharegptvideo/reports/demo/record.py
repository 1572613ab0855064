"""What a finished demo left on disk, read for its page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharegptvideo._io import read_json, read_jsonl
from sharegptvideo.data.load import read_rows
from sharegptvideo.reports.demo.comparison import MODELS, SETS
from sharegptvideo.synthetic import load_questions

__all__ = ["MODELS", "Answer", "Case", "Example", "read_accuracies", "read_cases", "read_example"]


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
class Example:
    """One preference question: its scored candidates, and the pair made of them."""

    question: str
    reference: str
    caption: str
    chosen: str
    rejected: str
    answers: tuple[Mapping[str, Any], ...]


def read_cases(folder: Path) -> list[Case]:
    """All test questions of a demo that both models were asked, in the order of their files.

    Raises:
        UserError: a run folder or the world is missing or broken.
    """
    world = folder / "datasets" / "world"
    questions = load_questions(world)
    answers = {model: _answers(folder / "runs", model) for model in MODELS}
    cases = []
    for name, config in SETS.items():
        for row in read_rows(config, source=world, split="test"):
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
    found = {}
    for _, row in read_jsonl(runs / model / "predictions.jsonl"):
        known, verdict = exact.get(row["id"], {}), judged.get(row["id"], {})
        found[row["id"]] = Answer(
            text=row.get("prediction") or "",
            error=None if row["status"] == "ok" else row.get("error") or "no answer",
            right=bool(known.get("correct")),
            contradicts=bool(known.get("contradiction")),
            why=known.get("reason"),
            judged=verdict.get("correct"),
            score=verdict.get("score"),
            reason=verdict.get("reason"),
        )
    return found


def read_accuracies(folder: Path, name: str) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Accuracy {value, se, ci95} in one test set by (`exact` or `judge`, model)."""
    found = {}
    for by, suffix in (("exact", "-exact"), ("judge", "")):
        for model in MODELS:
            results = read_json(folder / "runs" / f"{model}{suffix}" / "results.json")
            found[by, model] = results["tasks"][SETS[name]]["accuracy"]
    return found


def read_example(folder: Path, draw: int) -> Example | None:
    """Pair number `draw` (modulo their number) with the candidates that it was made of."""
    preferences = folder / "datasets" / "preferences"
    pairs = list(read_rows("preferences", source=preferences, split="train"))
    if not pairs:
        return None
    pair = pairs[draw % len(pairs)]
    # A log: of rows with one id the last holds.
    rows = {row["id"]: row for _, row in read_jsonl(preferences / "rewards.jsonl")}
    row = rows[pair["id"]]
    return Example(
        question=row["question"],
        reference=row["answer"],
        caption=row["caption"],
        chosen=pair["chosen"],
        rejected=pair["rejected"],
        answers=tuple(sorted(row["answers"], key=lambda answer: -(answer["score"] or 0))),
    )
