"""Questions of a finished demo that its page shows, with their clips."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from sharegptvideo._io import read_jsonl
from sharegptvideo.data.load import read_rows
from sharegptvideo.media import MediaError, MediaFolder
from sharegptvideo.reports.clips import clip_part
from sharegptvideo.reports.demo.charts import COLOURS, SET_NAMES, model_key
from sharegptvideo.reports.demo.comparison import MODELS, Answer, Case, outcomes
from sharegptvideo.reports.parts import Card, Cell, Clip, Details, Part, Table, Tag, Value, key

__all__ = [
    "OUTCOME_NAMES",
    "WANTED",
    "Disagreement",
    "Example",
    "choose_clips",
    "clip_card",
    "disagreement_part",
    "disagreements",
    "example_card",
    "lost_examples",
    "read_example",
    "shown_clip",
]

OUTCOME_NAMES = {
    "fixed": "DPO right, SFT wrong",
    "broke": "SFT right, DPO wrong",
    "both_right": "Both right",
    "both_wrong": "Both wrong",
}
_OPEN_UP_TO = 12  # disagreements; more are folded away

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
class Disagreement:
    """An answer that one of state and judge holds for right and the other for wrong."""

    case: Case
    model: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class Example:
    """One preference question: its scored candidates, and the pair made of them."""

    question: str
    reference: str
    caption: str
    chosen: str
    rejected: str
    answers: tuple[Mapping[str, Any], ...]


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


def lost_examples(cases: Sequence[Case], count: int) -> list[Case]:
    """Choose questions that only SFT had right: of each kind in turn, the most lost kind first."""
    lost: dict[str, list[Case]] = {}
    for case in outcomes(cases)["broke"]:
        lost.setdefault(case.kind, []).append(case)
    by_loss = sorted(lost.values(), key=len, reverse=True)
    longest = len(by_loss[0]) if by_loss else 0
    return [of[turn] for turn in range(longest) for of in by_loss if turn < len(of)][:count]


def disagreements(cases: Iterable[Case]) -> list[Disagreement]:
    """List the answers on which state and judge disagree, in the order of their questions."""
    return [
        Disagreement(case, model, case.answers[model])
        for case in cases
        for model in MODELS
        if case.answers[model].judged not in (None, case.answers[model].right)
    ]


def read_example(folder: Path, draw: int) -> Example | None:
    """Read pair number `draw` (modulo their number) with the candidates that it was made of."""
    preferences = folder / "datasets" / "preferences"
    pairs = list(read_rows("preferences", data_dir=preferences, split="train"))
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


def shown_clip(media: MediaFolder, video: str, count: int | None, page: Path) -> Clip | str:
    """Return a clip with the `count` frames that a model is given of it.

    Of a clip that cannot be read, or where it is not known how many there were, the reason.
    """
    if count is None:
        return f"{video}: the run does not say how many frames its models were given"
    path = media.resolve(video)
    if path is None:
        return f"{video}: no such clip"
    try:
        return clip_part(path, count, page, name=video)
    except MediaError as error:
        return str(error)


def clip_card(outcome: str, case: Case, clip: Clip | str) -> Card:
    """Show a question with its clip, both answers and their verdicts."""
    rows: list[list[Cell]] = [["Reference", case.reference, "", ""]]
    for model in MODELS:
        answer = case.answers[model]
        text: Cell = answer.text
        if answer.error is not None:
            text = Markup("<em>failed: {}</em>").format(answer.error)
        rows.append(
            [model_key(model), text, _verdict(answer.right),
             _judged(answer.score, answer.reason)]
        )  # fmt: skip
    who = Markup('<span class="hidden">Who</span>')
    return Card(
        OUTCOME_NAMES[outcome],
        [
            clip,
            _question(case.question["text"]),
            Table((who, "Answer", "Exact state", "Judge of captions"), rows, stacked=True),
            _about("Caption", case.caption),
        ],
        [SET_NAMES[case.task_set], case.kind],
    )


def example_card(example: Example) -> Card:
    """Show how one pair was made of its candidates."""
    rows: list[list[Cell]] = []
    for answer in example.answers:
        tag: Cell = ""
        if answer["text"] == example.chosen:
            tag = Tag("good", "chosen")
        elif answer["text"] == example.rejected:
            tag = Tag("bad", "rejected")
        drawn = Value(answer["copies"], f"{answer['copies']}×")
        judged = _judged(answer["score"], answer.get("reason"))
        rows.append([answer["text"], drawn, judged, tag])
    columns = ("Candidate", "drawn", "Judge of captions", "Pair")
    return Card(
        "How one pair was made",
        [
            _question(example.question),
            Table(columns, rows, stacked=True),
            _about("Reference", example.reference),
            _about("Caption", example.caption),
        ],
        ["drawn with the seed"],
    )


def disagreement_part(cases: Sequence[Case]) -> Part:
    """List the answers on which state and judge disagree; many are folded away."""
    apart = disagreements(cases)
    n = f"{len(cases) * len(MODELS):,}"
    if not apart:
        return f"Nowhere: both give the same verdict on all {n} answers to test questions."
    rows: list[list[Cell]] = [
        [one.case.question["text"], key(COLOURS[one.model], dots=True) + one.answer.text,
         Markup("{} {}").format(_verdict(one.answer.right), one.answer.why or ""),
         Markup("{} {}").format(_verdict(one.answer.judged), one.answer.reason or "")]
        for one in apart
    ]  # fmt: skip
    columns = ("Question", "Answer", "Exact state", "Judge of captions")
    summary = f"{len(apart)} of {n} answers to test questions, both sets"
    table = Table(columns, rows, stacked=True)
    return Details(summary, table, open=len(apart) <= _OPEN_UP_TO)


def _verdict(right: bool | None) -> Tag:
    if right is None:
        return Tag("none", "no verdict", "–")
    return Tag("good", "right", "✓") if right else Tag("bad", "wrong", "✗")


def _judged(score: float | None, reason: str | None) -> Markup:
    said = Markup("unscored") if score is None else Markup("<b>{:g}</b> of 5").format(score)
    return Markup("{}: {}").format(said, reason) if reason else said


def _question(text: str) -> Markup:
    return Markup('<p class="question">{}</p>').format(text)


def _about(what: str, text: str) -> Markup:
    return Markup('<p class="about"><b>{}</b> {}</p>').format(what, text)
