"""The test questions of a finished demo with both models' answers: read, counted, chosen."""

from __future__ import annotations

import base64
import io
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharegptvideo._io import read_json, read_jsonl
from sharegptvideo.data.load import read_rows
from sharegptvideo.eval.statistics import Estimate, clustered_mean
from sharegptvideo.media import MediaError, MediaFolder, sample_frames
from sharegptvideo.reports.demo.comparison import MODELS, SETS, blind_guess
from sharegptvideo.reports.parts import Strip
from sharegptvideo.synthetic import KINDS, check_answer, load_questions
from sharegptvideo.synthetic.reading import THINGS, read_answer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "FAULTS",
    "OUTCOMES",
    "PARTS",
    "WANTED",
    "Answer",
    "Case",
    "Disagreement",
    "Example",
    "KindFigures",
    "by_kind",
    "choose_clips",
    "disagreements",
    "faults",
    "frames",
    "lost_examples",
    "outcomes",
    "parts",
    "read_accuracies",
    "read_cases",
    "read_example",
]

FAULTS = ("invented", "yes_to_absent", "no_to_present")
PARTS = ("right", "invented_only", "yes_to_absent", "contradiction", "otherwise")
OUTCOMES = ("fixed", "both_right", "both_wrong", "broke")

# (test set, outcome), in the order of the page.
WANTED = (
    ("test", "fixed"),
    ("test", "fixed"),
    ("test", "both_right"),
    ("test", "both_wrong"),
    ("test", "broke"),
    ("out_of_domain", "fixed"),
)


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


def read_cases(folder: Path) -> list[Case]:
    """Read all test questions of a demo that both models were asked, in the order of their files.

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


def read_accuracies(folder: Path, name: str) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Read accuracy {value, se, ci95} in one test set by (`exact` or `judge`, model)."""
    accuracies = {}
    for by, suffix in (("exact", "-exact"), ("judge", "")):
        for model in MODELS:
            results = read_json(folder / "runs" / f"{model}{suffix}" / "results.json")
            accuracies[by, model] = results["tasks"][SETS[name]]["accuracy"]
    return accuracies


def read_example(folder: Path, draw: int) -> Example | None:
    """Read pair number `draw` (modulo their number) with the candidates that it was made of."""
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


def by_kind(cases: Sequence[Case]) -> list[KindFigures]:
    """Count accuracy by exact state for each type that is asked, clustered by video."""
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


def choose_clips(cases: Sequence[Case], seed: int) -> list[tuple[str, Case]]:
    """List (outcome, question) for every entry of `WANTED` that the answers offer.

    All questions are put in an order drawn with `seed`; each entry takes the first question of
    its set and outcome whose clip is not taken yet.
    """
    order = list(cases)
    random.Random(f"page/{seed}").shuffle(order)
    taken: set[str] = set()
    chosen = []
    for name, outcome in WANTED:
        offered = outcomes(case for case in order if case.task_set == name)[outcome]
        case = next((case for case in offered if case.video not in taken), None)
        if case is not None:
            taken.add(case.video)
            chosen.append((outcome, case))
    return chosen


def frames(media: MediaFolder, video: str, count: int) -> Strip | str:
    """Return the `count` frames that a model is given of a clip, before they are scaled for it.

    Of a clip that cannot be read, the reason.
    """
    path = media.resolve(video)
    if path is None:
        return f"{video}: no such clip"
    try:
        pixels, indices = sample_frames(path, count)
    except MediaError as error:
        return str(error)
    pictures = [
        (_jpeg(frame), f"Frame {number} of {count} (number {index} of the clip)")
        for number, (frame, index) in enumerate(zip(pixels, indices, strict=True), start=1)
    ]
    return Strip(pictures, pixels.shape[2])


def _jpeg(frame: NDArray[np.uint8]) -> str:
    from PIL import Image

    target = io.BytesIO()
    # No chroma subsampling: a clip is 64 pixels wide, and colour is what is asked about.
    Image.fromarray(frame).save(target, "JPEG", quality=90, subsampling=0, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(target.getvalue()).decode()}"
