"""The third verb: score the predictions and judgements of a task for results.json."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sharegptvideo.eval.agreement import member_agreement
from sharegptvideo.eval.published import paper_figures
from sharegptvideo.eval.statistics import (
    Estimate,
    bootstrap_interval,
    clustered_mean,
    clustered_share,
    minimum_detectable_difference,
    plain_mean,
)
from sharegptvideo.judges import Judge
from sharegptvideo.judges.base import CLAIM_COUNTS, Claims
from sharegptvideo.models.base import Question, other_questions

__all__ = [
    "MISSING_CLIP",
    "outcome",
    "pair_outcome",
    "pair_videos",
    "score_answers",
    "score_task",
    "token_usage",
]

# How a failed prediction's `error` begins where its clip was not found; the name follows.
MISSING_CLIP = "missing clip "

Row = Mapping[str, Any]


def score_answers(
    questions: Sequence[Question],
    predictions: Mapping[str, Row],
    judgements: Mapping[str, Row],
    judge: Judge,
    form: str = "open",
) -> dict[str, Any]:
    """Return the figures of one task, with what keeps them from being complete.

    Args:
        questions: those that were asked.
        predictions: rows of predictions.jsonl, by the questions' keys.
        judgements: rows of judgements.jsonl, likewise; those that are missing are unscored.
        judge: gave the verdicts.
        form: of the task's answers, see `Task.form`.

    Returns:
        What `score_task` does; `headline`, the key of the task's main figure, with `chance`, what
        guessing comes to in it (null where that is not known); of yes and no and of options also
        `type_mean`, the mean of the main figures of the question types, all weighing the same, as
        authors of benchmarks report it (null without types); of yes and no `yes_rate`,
        {value, ...}, the share of the answers read that say yes, with `right_yes_rate`, that of
        the questions it is right for, and `accuracy_yes` and `accuracy_no`, of the questions with
        either right answer; where questions come in pairs `pair_accuracy`, the share of pairs with
        both answers right, clustered by all videos that pairs connect, `pair_bounds`, `n_pairs`
        and, by question type, `pair_accuracy`; of descriptions `f1`, `claim_precision` and
        `claim_recall`, {value, ...}, and `claims`, the counts of all that were scored; `unscored`,
        how many answers by reason; `n_repaired`; `n_answers_cut`, of which the judge, or one of a
        panel, saw the beginning only; where a panel judged, what `member_agreement` does.
    """
    answers = {q.id: predictions[q.key] for q in questions}
    if judge.compares_pairs:
        answers = _whole_pairs(questions, answers)
    verdicts = {q.id: judgements[q.key] for q in questions if q.key in judgements}
    reasons = Counter(
        row["reason"]
        for key, row in verdicts.items()
        if row["status"] == "unscored" and answers[key]["status"] == "ok"
    )
    figures = score_task(
        [{"id": q.id, "video": q.video, "type": q.question_type} for q in questions],
        answers,
        verdicts,
        lowest_score=judge.scale[0],
        counts_claims=judge.headline == "f1",
    )
    figures |= {"headline": judge.headline, "chance": None}
    if judge.headline == "f1":
        figures |= _claim_figures(questions, answers, verdicts)
    if form == "choice":
        figures["chance"] = plain_mean([1 / len(q.options) for q in questions])
    if form == "yes-no":
        rights = {q.id: outcome(answers.get(q.id), verdicts.get(q.id))[0] for q in questions}
        figures |= _yes_no_figures(questions, rights, answers)
        by_type: dict[str, list[Question]] = {}
        for q in questions if "pair_accuracy" in figures else ():
            if q.question_type is not None:
                by_type.setdefault(q.question_type, []).append(q)
        for kind, mine in by_type.items():
            figures["by_question_type"][kind] |= _pair_figures(mine, rights)
    if form in ("yes-no", "choice"):
        kinds = figures["by_question_type"].values()
        known = [kind[figures["headline"]]["value"] for kind in kinds]
        figures["type_mean"] = None if None in known else plain_mean(known)
    return {
        **figures,
        "unscored": dict(reasons.most_common()),
        "n_repaired": sum(bool(row.get("repaired")) for row in verdicts.values()),
        "n_answers_cut": sum(_saw_a_part(row) for row in verdicts.values()),
        **member_agreement(list(verdicts.values())),
    }


def _whole_pairs(questions: Sequence[Question], answers: Mapping[str, Row]) -> dict[str, Row]:
    """Return the answers with each one failed whose other answer is not there to go with it."""
    others = other_questions(questions)
    failed = {"status": "failed", "error": "the other question of its pair has no answer"}

    def is_whole(question: Question) -> bool:
        other = others.get(question.key)
        return other is not None and _answered(answers.get(other.id))

    return {
        q.id: answers[q.id] if is_whole(q) or not _answered(answers[q.id]) else failed
        for q in questions
    }


def _claim_figures(
    questions: Sequence[Question], answers: Mapping[str, Row], verdicts: Mapping[str, Row]
) -> dict[str, Any]:
    """Return precision, recall and F1 of the descriptions of clips.

    Each is the mean over descriptions of that description's own share (`Claims`), 0 where there is
    no description, so that long ones weigh no more than short ones. F1 is thus a mean like any
    other, and its standard error is that of `clustered_mean`: no approximation is needed, as there
    would be for the F1 of the two means, which it is not.
    """
    counts: list[Claims | None] = []
    for q in questions:
        row = verdicts.get(q.id)
        answered = _answered(answers.get(q.id)) and row is not None and row["status"] == "scored"
        counts.append(Claims(**row["claims"]) if answered and row is not None else None)
    videos = [q.video for q in questions]

    def figure(share: Callable[[Claims], float]) -> dict[str, Any]:
        values = [
            share(count) if count is not None else None if _answered(answers.get(q.id)) else 0.0
            for q, count in zip(questions, counts, strict=True)
        ]
        return _figure(values, videos, clustered_mean)

    scored = [asdict(count) for count in counts if count is not None]
    return {
        "f1": figure(lambda count: count.f1),
        "claim_precision": figure(lambda count: count.precision),
        "claim_recall": figure(lambda count: count.recall),
        "claims": {name: sum(one[name] for one in scored) for name in CLAIM_COUNTS},
    }


def _yes_no_figures(
    questions: Sequence[Question], rights: Mapping[str, float | None], answers: Mapping[str, Row]
) -> dict[str, Any]:
    """Return the figures of yes and no: which is said how often, and how well, alone and paired.

    Args:
        questions: those asked, whose answers are "yes" and "no".
        rights: by id, 1.0 right, 0.0 wrong or failed, None unscored.
        answers: rows of predictions.jsonl by id.
    """
    wants_yes = {q.id: q.answer == "yes" for q in questions}
    read = [q for q in questions if _answered(answers.get(q.id)) and rights[q.id] is not None]
    said_yes = [float((rights[q.id] == 1.0) == wants_yes[q.id]) for q in read]
    figures: dict[str, Any] = {
        "chance": 0.5,
        "yes_rate": _figure(said_yes, [q.video for q in read], clustered_share),
        "right_yes_rate": plain_mean([float(wants) for wants in wants_yes.values()]),
    }
    for name, wanted in (("yes", True), ("no", False)):
        mine = [q for q in questions if wants_yes[q.id] is wanted]
        figures[f"accuracy_{name}"] = _figure(
            [rights[q.id] for q in mine], [q.video for q in mine], clustered_share
        )
    pairs = _pair_figures(questions, rights)
    if pairs["n_pairs"]:
        figures |= {"headline": "pair_accuracy", "chance": 0.25, **pairs}
    return figures


def _pair_figures(
    questions: Sequence[Question], rights: Mapping[str, float | None]
) -> dict[str, Any]:
    pairs: dict[str, list[Question]] = {}
    for q in questions:
        if q.pair is not None:
            pairs.setdefault(q.pair, []).append(q)
    outcomes = [pair_outcome([rights[q.id] for q in pair]) for pair in pairs.values()]
    both = sum(right or 0.0 for right in outcomes)
    unscored, n = sum(right is None for right in outcomes), len(pairs)
    videos = pair_videos([[q.video for q in pair] for pair in pairs.values()])
    return {
        "pair_accuracy": _figure(outcomes, videos, clustered_share),
        "pair_bounds": [both / n, (both + unscored) / n] if n else None,
        "n_pairs": n,
    }


def pair_outcome(rights: Sequence[float | None]) -> float | None:
    """Return whether all of a pair is right: 0.0 if one is wrong, else None if one is unscored.

    >>> pair_outcome([1.0, 1.0]), pair_outcome([0.0, None]), pair_outcome([1.0, None])
    (1.0, 0.0, None)
    """
    if 0.0 in rights:
        return 0.0
    return None if None in rights else 1.0


def pair_videos(videos: Sequence[Sequence[str]]) -> list[str]:
    """Return a cluster for each pair: pairs that share a video, over others too, are of one.

    >>> pair_videos([["a", "b"], ["c", "c"], ["b", "d"]])
    ['a', 'c', 'a']
    """
    parent: dict[str, str] = {}

    def root(video: str) -> str:
        while parent.setdefault(video, video) != video:
            video = parent[video]
        return video

    for pair in videos:
        for video in pair:
            parent[root(video)] = root(pair[0])
    return [root(pair[0]) for pair in videos]


def token_usage(
    questions: Sequence[Question], predictions: Mapping[str, Row]
) -> dict[str, dict[str, Any]]:
    """Return, as `usage`, the tokens of the answers as the server counted them.

    Returns:
        `n`, the answers whose tokens were counted, failed ones included, with `prompt_tokens` and
        `completion_tokens`; `n_cached`, those of them with a report of the prefix cache, with
        `cached_tokens` and `cached_share` of their prompt tokens, null where there are none.
        Nothing for a model that no server serves.
    """
    rows = [predictions[q.key].get("usage") for q in questions if q.key in predictions]
    counted = [usage for usage in rows if usage]
    if not counted:
        return {}
    known = [usage for usage in counted if usage["cached_tokens"] is not None]
    cached = sum(usage["cached_tokens"] for usage in known)
    prompts = sum(usage["prompt_tokens"] for usage in known)
    usage = {
        "n": len(counted),
        "prompt_tokens": sum(usage["prompt_tokens"] for usage in counted),
        "completion_tokens": sum(usage["completion_tokens"] for usage in counted),
        "n_cached": len(known),
        "cached_tokens": cached if known else None,
        "cached_share": cached / prompts if prompts else None,
    }
    return {"usage": usage}


def _saw_a_part(verdict: Row) -> bool:
    """Return whether the judge, or a member of a panel, read the beginning of the answer only."""
    judge = verdict.get("judge") or {}
    return "answer_cut" in judge or any(map(_saw_a_part, judge.get("members") or ()))


def score_task(
    rows: Sequence[Row],
    predictions: Mapping[str, Row],
    judgements: Mapping[str, Row],
    *,
    lowest_score: float = 1.0,
    counts_claims: bool = False,
) -> dict[str, Any]:
    """Count one task. The denominator is what was asked, never what happened to succeed.

    Args:
        rows: the questions asked: `id` (unique) and `video` (the cluster).
        predictions: by id: `status` "ok" or "failed", where failed `error`.
        judgements: by id: `status` "scored" or "unscored", where scored `correct` and `score`.
            One on a failed prediction is ignored.
        lowest_score: what a failed prediction scores: the lowest that the judge gives.
        counts_claims: whether verdicts are scores of descriptions, neither right nor wrong: then
            no answer has an accuracy.

    Returns:
        `n` asked = `n_predicted` + `n_failed` (no prediction at all is a failed one);
        `n_predicted` = `n_scored` + `n_unscored`; `coverage`, the share of `n` whose outcome is
        known: scored, or failed and therefore wrong; `accuracy` and `score`, {value, se, ci95,
        ci95_bootstrap, n} over those, standard errors and both intervals clustered by video
        (`se` is null where all videos came out alike, as with none right: no spread was seen);
        `accuracy_bounds` over all `n`, with the unscored all wrong and all right; `clusters`, how
        many videos; `minimum_detectable_difference`, of accuracy, to a second run of the same
        size whose answers are unrelated (a paired comparison finds smaller ones; 5 %, power
        80 %); `paper_accuracy`, `paper_score` and `paper_n`, by the published counting (see
        `paper_figures`), for comparison only;
        `contradictions`, of the answers that the judge checked for them: {value, se, ci95,
        ci95_bootstrap, n}, the share that contradict themselves, as "Yes, there is no dog.";
        `by_question_type`: of the rows that have a `type`, by type {n, n_unscored, clusters,
        accuracy}; {} where no row has one;
        `missing_clips`, names; `failures`, how many failed by cause, clips not found together.
        A figure without a single value is null.

    Raises:
        ValueError: an id is asked twice, a question has no video, or a scored judgement no verdict.
    """
    ids = [str(row["id"]) for row in rows]
    if len(set(ids)) != len(ids):
        raise ValueError(f"question {Counter(ids).most_common(1)[0][0]!r} is asked twice")
    outcomes = [outcome(predictions.get(key), judgements.get(key), lowest_score) for key in ids]
    if counts_claims:
        outcomes = [(None, score) for _, score in outcomes]
    videos = [row["video"] for row in rows]
    failed = [key for key in ids if not _answered(predictions.get(key))]
    unscored = sum(right is None and score is None for right, score in outcomes)
    correct = sum(right or 0.0 for right, _ in outcomes)
    n, n_predicted = len(ids), len(ids) - len(failed)
    accuracy = _figure([right for right, _ in outcomes], videos, clustered_share)
    return {
        "n": n,
        "n_predicted": n_predicted,
        "n_failed": len(failed),
        "n_scored": n_predicted - unscored,
        "n_unscored": unscored,
        "coverage": (n - unscored) / n if n else None,
        "accuracy": accuracy,
        "accuracy_bounds": (
            [correct / n, (correct + unscored) / n] if n and not counts_claims else None
        ),
        "score": _figure([score for _, score in outcomes], videos, clustered_mean),
        "clusters": len(set(videos)),
        "minimum_detectable_difference": _detectable(accuracy, len(set(videos))),
        **paper_figures(
            judgements[key]
            for key in ids
            if key in judgements and _answered(predictions.get(key)) and not counts_claims
        ),
        "contradictions": _contradictions(rows, judgements),
        "by_question_type": _by_type(rows, outcomes),
        "missing_clips": _missing_clips(failed, predictions),
        "failures": _causes(failed, predictions),
    }


def _answered(prediction: Row | None) -> bool:
    return prediction is not None and prediction["status"] == "ok"


def outcome(
    prediction: Row | None, verdict: Row | None, lowest_score: float = 1.0
) -> tuple[float | None, float | None]:
    """Return (right 1.0 or wrong 0.0, score) of an answer: both None where it is unscored.

    A description whose claims were counted has a score alone.

    Raises:
        ValueError: the verdict is scored but does not say whether the answer is correct.
    """
    if not _answered(prediction):
        return 0.0, lowest_score
    if verdict is None or verdict["status"] != "scored":
        return None, None
    if verdict.get("claims"):
        return None, float(verdict["score"])
    if verdict["correct"] is None:
        raise ValueError(f"a scored judgement does not say whether correct: {dict(verdict)}")
    score = verdict["score"]
    return float(verdict["correct"]), None if score is None else float(score)


def _figure(
    values: Sequence[float | None],
    videos: Sequence[object],
    estimate: Callable[[list[float], list[object]], Estimate],
) -> dict[str, Any]:
    known = [(value, video) for value, video in zip(values, videos, strict=True)
             if value is not None]  # fmt: skip
    numbers, clusters = [value for value, _ in known], [video for _, video in known]
    mean = estimate(numbers, clusters)
    drawn = bootstrap_interval(numbers, clusters)
    return {
        "value": mean.value,
        "se": mean.se,
        "ci95": list(mean.ci95) if mean.ci95 else None,
        "ci95_bootstrap": list(drawn) if drawn else None,
        "n": mean.n,
    }


def _contradictions(rows: Sequence[Row], judgements: Mapping[str, Row]) -> dict[str, Any]:
    flags = [judgements.get(str(row["id"]), {}).get("contradiction") for row in rows]
    values = [None if value is None else float(value) for value in flags]
    return _figure(values, [row["video"] for row in rows], clustered_share)


def _by_type(
    rows: Sequence[Row], outcomes: Sequence[tuple[float | None, float | None]]
) -> dict[str, Any]:
    kinds = sorted({str(row["type"]) for row in rows if row.get("type") is not None})
    figures = {}
    for kind in kinds:
        mine = [(*known, row["video"]) for row, known in zip(rows, outcomes, strict=True)
                if row.get("type") is not None and str(row["type"]) == kind]  # fmt: skip
        videos = [video for *_, video in mine]
        figures[kind] = {
            "n": len(mine),
            "n_unscored": sum(right is None and score is None for right, score, _ in mine),
            "clusters": len(set(videos)),
            "accuracy": _figure([right for right, *_ in mine], videos, clustered_share),
        }
    return figures


def _detectable(accuracy: Mapping[str, Any], clusters: int) -> float | None:
    se = accuracy["se"]
    return minimum_detectable_difference(None if se is None else math.sqrt(2) * se, clusters)


def _error(prediction: Row | None) -> str:
    return str(prediction.get("error") or "no cause given") if prediction else "no prediction"


def _missing_clips(failed: Sequence[str], predictions: Mapping[str, Row]) -> list[str]:
    errors = (_error(predictions.get(key)) for key in failed)
    names = (e.removeprefix(MISSING_CLIP) for e in errors if e.startswith(MISSING_CLIP))
    return list(dict.fromkeys(names))


def _causes(failed: Sequence[str], predictions: Mapping[str, Row]) -> dict[str, int]:
    errors = (_error(predictions.get(key)) for key in failed)
    causes = Counter(MISSING_CLIP.strip() if e.startswith(MISSING_CLIP) else e for e in errors)
    return dict(causes.most_common())
