"""From predictions to judgements.jsonl: every answer judged once, a changed answer again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sharegptvideo._concurrency import Progress
from sharegptvideo._io import KeyedLog
from sharegptvideo.judges import Judge, JudgeItem, Verdict
from sharegptvideo.models.types import Question

__all__ = ["item_of", "judge_answers", "unjudged"]

Row = dict[str, Any]


def judge_answers(
    questions: Sequence[Question],
    predictions: Mapping[str, Row],
    judge: Judge,
    log: KeyedLog,
    *,
    progress: Progress | None = None,
) -> None:
    """Judge every answer of one task that `log` holds no verdict on.

    Failed predictions are never shown to the judge. A verdict is kept for the texts it was given
    on: where question, reference, answer or caption has changed, the answer is judged again. An
    unscored verdict with a reply is kept (it was paid for and would come again); one without a
    reply, where the endpoint failed, is asked for again.
    """
    items, answered = unjudged(questions, predictions, judge, log)
    done = answered - len(items)
    what = f"verdicts on {questions[0].task}"
    for verdict in judge.judge(list(items.values())) if items else ():
        item = items.pop(verdict.id)
        _keep(log, _row(item, verdict))
        done += 1
        if progress:
            progress(done, answered, what)
    for item in items.values():
        silent = Verdict(item.id, "unscored", None, None, "the judge gave no verdict", None)
        _keep(log, _row(item, silent))


def unjudged(
    questions: Sequence[Question], predictions: Mapping[str, Row], judge: Judge, log: KeyedLog
) -> tuple[dict[str, JudgeItem], int]:
    """What is to be judged yet, by id of the question, and how many answers there are in all."""
    items: dict[str, JudgeItem] = {}
    answered = 0
    for question in questions:
        prediction = predictions.get(question.key)
        if prediction is None or prediction["status"] != "ok":
            continue
        answered += 1
        clip = question.video_path if getattr(judge, "needs_frames", False) else None
        item = item_of(question, prediction["prediction"], clip=clip)
        if not _is_judged(log.rows.get(question.key), item.hash):
            items[item.id] = item
    return items, answered


def item_of(question: Question, prediction: str, *, clip: str | None = None) -> JudgeItem:
    """An answer to a question as a judge is given it; `clip` for judges that look at it."""
    return JudgeItem(
        id=question.id,
        task=question.task,
        video=question.video,
        question=question.question,
        reference=question.answer,
        prediction=prediction,
        caption=question.caption,
        clip=clip,
    )


def _keep(log: KeyedLog, row: Row) -> None:
    if log.rows.get(log.key_of(row)) != row:
        log.append(row)


def _is_judged(row: Row | None, item_hash: str) -> bool:
    if row is None or row["item_hash"] != item_hash:
        return False
    return row["status"] == "scored" or row["reply"] is not None


def _row(item: JudgeItem, verdict: Verdict) -> Row:
    return {
        "id": item.id,
        "task": item.task,
        "status": verdict.status,
        "correct": verdict.correct,
        "score": verdict.score,
        "reason": verdict.reason,
        "reply": verdict.reply,
        "judge": verdict.judge,
        "tokens": verdict.tokens,
        "repaired": verdict.repaired,
        "contradiction": verdict.contradiction,
        "item_hash": item.hash,
    }
