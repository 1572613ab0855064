"""A judge against people who said which of two answers is better.

The judge scores each answer by itself, as it always does, and so prefers the one with the higher
score; equal scores are a tie. Nothing depends on which answer comes first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, get_args

from sharegptvideo._concurrency import Progress
from sharegptvideo._text import and_more
from sharegptvideo.data.sources.plain import file_entries
from sharegptvideo.endpoint import EndpointOptions
from sharegptvideo.errors import UserError
from sharegptvideo.eval.agreement import agreement_figures, rater_figures
from sharegptvideo.eval.judge import judge_texts
from sharegptvideo.eval.run_dir import package_versions
from sharegptvideo.eval.sheet_key import KeyItem, SheetKey, read_sheet_key
from sharegptvideo.eval.statistics import paired_difference
from sharegptvideo.judges import Judge
from sharegptvideo.judges.base import known_sum
from sharegptvideo.media import MediaFolder
from sharegptvideo.models.base import Question

__all__ = [
    "CHOICES",
    "Choice",
    "Preference",
    "PreferenceAgreement",
    "Preferences",
    "clips_of",
    "compare_with_preferences",
    "read_preferences",
]

Choice = Literal["a", "b", "tie"]
CHOICES: tuple[Choice, ...] = get_args(Choice)

_NEEDED = ("id", "video", "question", "answer_a", "answer_b", "rater", "choice")
_OPTIONAL = ("reference", "caption")
_COLUMNS = f"{', '.join(_NEEDED)}, and if there are any {' and '.join(_OPTIONAL)}"
_TASK = "preferences"
_NO_REFERENCE = "no reference answer, which this judge compares with"

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to a question about a clip, and who prefers which.

    `votes` are the choices by rater; `key` says which runs the answers are of, where a sheet's key
    was given.
    """

    id: str
    video: str
    question: str
    answers: tuple[str, str]
    reference: str | None
    caption: str | None
    votes: dict[str, Choice] = field(default_factory=dict)
    key: KeyItem | None = None


@dataclass(frozen=True, slots=True)
class Preferences:
    """People's preferences, in the order of their files."""

    files: tuple[str, ...]
    items: tuple[Preference, ...]
    key: SheetKey | None = None

    @property
    def protocol(self) -> Literal["caption-grounded", "official"]:
        """What a judge can be asked: by the captions, or without where a pair has none."""
        grounded = all(item.caption is not None for item in self.items)
        return "caption-grounded" if grounded else "official"


@dataclass(frozen=True, slots=True)
class PreferenceAgreement:
    """`figures` as JSON values, see `compare_with_preferences`; `votes`, one row a vote."""

    figures: Row
    votes: list[Row]


def read_preferences(files: Sequence[Path], key: Path | None = None) -> Preferences:
    """Read one row a choice from JSONL, JSON, CSV or TSV files.

    Columns: `id` of the pair, `video`, `question`, `answer_a`, `answer_b`, `rater`, `choice` (a, b
    or tie), and if there are any `reference` and `caption`. Several raters of one pair have a row
    each, with the same texts.

    Args:
        files: read as one.
        key: of the sheet that they were saved from: gives references and captions, and which run
            each answer is of.

    Raises:
        UserError: `FILE:LINE: cause` for an unknown or a missing column, another choice, a second
            one by the same rater, or texts that differ from those of an earlier row or of the key.
    """
    sheet = None if key is None else read_sheet_key(key, "preferences")
    items: dict[str, Preference] = {}
    places: dict[str, str] = {}
    for where, entry in (each for file in files for each in file_entries(file)):
        rater, choice, item = _parsed(where, entry)
        if sheet is not None:
            item = _joined(where, item, sheet, key)
        known = items.setdefault(item.id, item)
        first = places.setdefault(item.id, where)
        if replace(known, votes=item.votes) != item:
            raise UserError(
                f"{where}: pair {item.id!r} has other texts than in {first}; give it an id of its"
                " own"
            )
        if rater in known.votes:
            raise UserError(
                f"{where}: a second choice by {rater!r} on {item.id!r}, after that in {first};"
                " keep one"
            )
        known.votes[rater] = choice
    if not items:
        raise UserError(f"{', '.join(map(str, files))}: no preference in it")
    return Preferences(tuple(map(str, files)), tuple(items.values()), sheet)


def _parsed(where: str, entry: Mapping[str, Any]) -> tuple[str, Choice, Preference]:
    unknown = [name for name in entry if name not in (*_NEEDED, *_OPTIONAL)]
    absent = [name for name in _NEEDED if name not in entry]
    if "correct" in entry and "choice" in absent:
        raise UserError(
            f"{where}: a rating of one answer; give the run that it is of first: eval agreement RUN"
            " RATINGS"
        )
    wrong = [
        f"{what} {and_more(names, 9)}"
        for what, names in (("no", absent), ("unknown", unknown))
        if names
    ]
    if wrong:
        raise UserError(f"{where}: {', and '.join(wrong)}; a row has {_COLUMNS}")
    texts = {name: _text(where, name, value) for name, value in entry.items()}
    choice = next((each for each in CHOICES if each == texts["choice"]), None)
    if choice is None:
        raise UserError(f"{where}: choice must be a, b or tie, got {texts['choice']!r}")
    item = Preference(
        id=str(texts["id"]),
        video=str(texts["video"]),
        question=str(texts["question"]),
        answers=(texts["answer_a"] or "", texts["answer_b"] or ""),
        reference=texts.get("reference"),
        caption=texts.get("caption"),
    )
    return str(texts["rater"]), choice, item


def _text(where: str, name: str, value: object) -> str | None:
    """Return the text of a column; None for an optional one, or an answer, that is empty."""
    if name in ("id", "rater") and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        if name in (*_OPTIONAL, "answer_a", "answer_b"):
            return None
        raise UserError(f"{where}: {name} is empty")
    if not isinstance(value, str):
        raise UserError(f"{where}: {name} must be a text, got {value!r}")
    return value


def _joined(where: str, item: Preference, sheet: SheetKey, key: Path | None) -> Preference:
    """Return the item with what the key has on it."""
    known = sheet.items.get(item.id)
    if known is None:
        raise UserError(f"{where}: {item.id!r} is no pair of {key}; give the key of its own sheet")
    texts = (known.video, known.question, tuple(answer.text for answer in known.answers))
    if texts != (item.video, item.question, item.answers):
        raise UserError(f"{where}: {item.id!r} has other texts in {key}; leave the sheet's as is")
    return replace(item, reference=known.reference, caption=known.caption, key=known)


def clips_of(preferences: Preferences, media: Path) -> dict[str, str]:
    """Return the paths of the clips that are in a folder, by video.

    Raises:
        UserError: no such folder; a name that is no name of a clip, or of several.
    """
    folder = MediaFolder(media)
    paths = {video: folder.resolve(video) for video in {item.video for item in preferences.items}}
    return {video: str(path) for video, path in paths.items() if path is not None}


def compare_with_preferences(
    preferences: Preferences,
    judge: Judge,
    *,
    out: Path | None = None,
    clips: Mapping[str, str] | None = None,
    endpoint: EndpointOptions | None = None,
    progress: Progress | None = None,
) -> PreferenceAgreement:
    """How far a judge prefers what people prefer, how far they agree, and what it costs.

    A vote is one rater's choice on one pair. The judge scores both answers of a pair, so that two
    verdicts stand against each pair's votes. A pair with an unscored answer is left out and
    counted.

    Args:
        preferences: what people said.
        judge: gives the scores.
        out: folder that keeps the verdicts, so that none is asked for twice; None keeps none.
        clips: paths of the clips by video, for a judge that sees them.
        endpoint: the options that `judge` was opened with; what may cost more than they allow is
            asked for.
        progress: called as `progress(done, total, what)`.

    Returns:
        Figures: `judge`; `n_items`, `n_votes`, `n_videos`, `n_raters`; `n_unscored` pairs and, by
        reason, `unscored` answers; `all`: over the votes on scored pairs `n`, `n_clusters`,
        `agreement` (share of equal choices, a tie is a choice like the others), `kappa` (Cohen's,
        of three choices), `table` ({"people judge": ...}), and `decided`, the same over the votes
        in which neither side says tie; `raters`, the same for each, those with most votes first;
        `between_raters`: over
        any two votes on one pair, see `rater_figures`, None where no pair has two; `choices`:
        how often people and judge say a, b and tie; `cost`: `n_verdicts`, tokens and US dollars,
        together and for each verdict (None where a price is not known); `runs`, with a key, for
        each two runs: `n_items`, `n_same`, and of `people` and `judge` how often they prefer
        `first`, `second`, neither, and `net`, the second's share less the first's. Each figure is
        {value, ci95}, clustered by video.

    Raises:
        UserError: the judge cannot be used, `out` holds something else, or no pair has a
            reference, where the judge needs one.
    """
    judge.check()
    asked = _asked(preferences, judge, clips or {})
    if not asked and judge.needs_reference:
        raise UserError(
            f"{', '.join(preferences.files)}: no pair has a reference answer, which judge"
            f" {judge.name} compares with; add a column reference, give the sheet's key with --key,"
            " or take --prompt frames with an openai: judge"
        )
    rows = judge_texts(judge, asked, out, _describe(judge), endpoint=endpoint, progress=progress)
    scores = {item.id: _scores(item, rows) for item in preferences.items}
    preferred = {name: _preferred(pair) for name, pair in scores.items()}
    figures = _figures(preferences, preferred)
    unscored = Counter(
        _NO_REFERENCE if row is None else str(row["reason"])
        for item in preferences.items
        for row in _rows(item, rows)
        if row is None or row["status"] != "scored"
    )
    figures = {
        "files": list(preferences.files),
        "judge": judge.describe(),
        **figures,
        "unscored": dict(unscored.most_common()),
        "cost": _cost([rows[question.key] for question, _ in asked if question.key in rows]),
    }
    if preferences.key is not None:
        figures["runs"] = _runs(preferences, preferences.key, preferred)
    votes = [
        {
            "id": item.id, "video": item.video, "rater": rater, "choice": choice,
            "judge": preferred[item.id], "score_a": scores[item.id][0],
            "score_b": scores[item.id][1],
        }
        for item in preferences.items
        for rater, choice in item.votes.items()
    ]  # fmt: skip
    return PreferenceAgreement(figures, votes)


def _asked(
    preferences: Preferences, judge: Judge, clips: Mapping[str, str]
) -> list[tuple[Question, str]]:
    """List the answers to judge; those of a pair that are the same to the letter once."""
    asked = []
    for item in preferences.items:
        if item.reference is None and judge.needs_reference:
            continue
        question = Question(
            id=f"{item.id}/a",
            task=_TASK,
            video=item.video,
            question=item.question,
            answer=item.reference or "",
            caption=item.caption,
            video_path=clips.get(item.video),
        )
        asked.append((question, item.answers[0]))
        if item.answers[1] != item.answers[0]:
            asked.append((replace(question, id=f"{item.id}/b"), item.answers[1]))
    return asked


def _describe(judge: Judge) -> Row:
    return {
        "model": {"spec": _TASK},
        "judge": judge.name,
        "tasks": {_TASK: {"judge": judge.describe()}},
        "packages": package_versions(),
    }


def _rows(item: Preference, rows: Mapping[str, Row]) -> tuple[Row | None, Row | None]:
    first = rows.get(f"{_TASK}/{item.id}/a")
    same = item.answers[0] == item.answers[1]
    return first, first if same else rows.get(f"{_TASK}/{item.id}/b")


def _scores(item: Preference, rows: Mapping[str, Row]) -> tuple[float | None, float | None]:
    first, second = (
        None
        if row is None or row["status"] != "scored"
        else float(row["correct"] if row["score"] is None else row["score"])
        for row in _rows(item, rows)
    )
    return first, second


def _preferred(scores: tuple[float | None, float | None]) -> Choice | None:
    a, b = scores
    if a is None or b is None:
        return None
    return "a" if a > b else "b" if b > a else "tie"


def _figures(preferences: Preferences, preferred: Mapping[str, Choice | None]) -> Row:
    items = preferences.items
    votes = [
        (rater, choice, judged, item.video)
        for item in items
        for judged in [preferred[item.id]]
        if judged is not None
        for rater, choice in item.votes.items()
    ]
    given = Counter(rater for item in items for rater in item.votes)
    raters = sorted(given, key=lambda rater: (-given[rater], rater))
    judged = Counter(choice for choice in preferred.values() if choice is not None)
    people = Counter(choice for item in items for choice in item.votes.values())
    return {
        "n_items": len(items),
        "n_votes": sum(len(item.votes) for item in items),
        "n_videos": len({item.video for item in items}),
        "n_raters": len(raters),
        "n_unscored": sum(choice is None for choice in preferred.values()),
        "choices": {
            side: {choice: counts[choice] for choice in CHOICES}
            for side, counts in (("people", people), ("judge", judged))
        },
        "all": _against(votes),
        "raters": {
            rater: _against([vote for vote in votes if vote[0] == rater]) for rater in raters
        },
        "between_raters": rater_figures([(item.votes, item.video) for item in items]),
    }


_Vote = tuple[str, Choice, Choice, str]  # rater, their choice, the judge's, video


def _against(votes: Sequence[_Vote]) -> Row:
    decided = [vote for vote in votes if "tie" not in vote[1:3]]
    table = Counter(f"{people} {judge}" for _, people, judge, _ in votes)
    whole, part = (
        agreement_figures([v[1] for v in some], [v[2] for v in some], [v[3] for v in some])
        for some in (votes, decided)
    )
    names = [f"{people} {judge}" for people in CHOICES for judge in CHOICES]
    return whole | {"table": {name: table[name] for name in names}, "decided": part}


def _cost(rows: Sequence[Row]) -> Row:
    tokens = sum(row["tokens"] for row in rows)
    dollars = known_sum(row.get("dollars") for row in rows)
    return {
        "n_verdicts": len(rows),
        "tokens": tokens,
        "tokens_per_verdict": tokens / len(rows) if rows else None,
        "dollars": dollars,
        "dollars_per_verdict": None if dollars is None or not rows else dollars / len(rows),
    }


def _runs(
    preferences: Preferences, key: SheetKey, preferred: Mapping[str, Choice | None]
) -> list[Row]:
    """Return how often people and judge prefer which run, for each two runs that were compared."""
    compared = []
    for first, second in combinations(range(len(key.runs)), 2):
        items = [
            item
            for item in preferences.items
            if item.key is not None and {a.run for a in item.key.answers} == {first, second}
        ]
        people = [
            (_sign(item, choice, second), item.video)
            for item in items
            for choice in item.votes.values()
        ]
        judge = [
            (_sign(item, choice, second), item.video)
            for item in items
            for choice in [preferred[item.id]]
            if choice is not None
        ]
        compared.append(
            {
                "first": key.runs[first].model_dump(),
                "second": key.runs[second].model_dump(),
                "n_items": len(items),
                "n_shared": key.n_shared,
                "n_same": key.n_same[f"{first} {second}"],
                "people": _wins(people),
                "judge": _wins(judge),
            }
        )
    return compared


def _sign(item: Preference, choice: Choice, second: int) -> int:
    """Return 1 where the answer of run `second` is preferred, -1 where the other one, 0 for tie."""
    if choice == "tie" or item.key is None:
        return 0
    answer = item.key.answers["ab".index(choice)]
    return 1 if answer.run == second else -1


def _wins(signs: Sequence[tuple[int, str]]) -> Row:
    counts = Counter(sign for sign, _ in signs)
    first, second = ([float(sign == side) for sign, _ in signs] for side in (-1, 1))
    net = paired_difference(first, second, [video for _, video in signs])
    ends = None if net.ci95 is None else [min(max(end, -1.0), 1.0) for end in net.ci95]
    return {
        "n": len(signs),
        "first": counts[-1],
        "second": counts[1],
        "tie": counts[0],
        "net": {"value": net.delta, "ci95": ends},
    }
