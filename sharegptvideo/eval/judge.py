"""The second verb: judge the predictions of a task into judgements.jsonl."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sharegptvideo._concurrency import Progress
from sharegptvideo._io import KeyedLog
from sharegptvideo.endpoint import EndpointOptions, Estimate
from sharegptvideo.eval.run_dir import EvalRunDir
from sharegptvideo.judges import Judge, JudgeItem, is_judged, judge_items, verdict_row
from sharegptvideo.judges.rules.choices import lettered
from sharegptvideo.models.base import Question, other_questions

__all__ = ["estimate_verdicts", "item_of", "judge_answers", "judge_texts", "judged_items"]

Row = Mapping[str, Any]

# Stands for an answer that is not given yet: a long sentence, as models mostly answer.
_EXPECTED = {"status": "ok", "prediction": "word " * 30}


def judge_answers(
    questions: Sequence[Question],
    predictions: Mapping[str, Row],
    judge: Judge,
    log: KeyedLog,
    *,
    progress: Progress | None = None,
) -> None:
    """Judge every answer of one task that `log` has no verdict on.

    Failed predictions are never shown to the judge. A verdict is kept for the texts it was given
    on: where question, reference, answer or caption has changed, the answer is judged again. For
    which other verdicts are kept see `is_judged`.
    """
    items = list(_answered(questions, predictions, judge))
    pending = list(_unjudged(items, log))
    judge.keep_in(log.path.parent / "panel")
    done = len(items) - len(pending)
    for item, verdict in judge_items(judge, pending):
        row = verdict_row(item, verdict)
        if log.rows.get(log.key_of(row)) != row:
            log.append(row)
        done += 1
        if progress:
            progress(done, len(items), f"verdicts on {item.task}")


def estimate_verdicts(
    questions: Sequence[Question], predictions: Mapping[str, Row], judge: Judge, log: KeyedLog
) -> Estimate:
    """Return what the verdicts that `log` lacks will take.

    An answer that is not given yet counts as a sentence.
    """
    expected = {q.key: predictions.get(q.key, _EXPECTED) for q in questions}
    return judge.estimate(_unjudged(_answered(questions, expected, judge), log))


def judged_items(
    questions: Sequence[Question], predictions: Mapping[str, Row], judge: Judge
) -> list[JudgeItem]:
    """Return the answers that there are as `judge` gets them, with all texts of a verdict."""
    return list(_answered(questions, predictions, judge))


def judge_texts(
    judge: Judge,
    answers: Sequence[tuple[Question, str]],
    out: Path | None,
    settings: Mapping[str, Any],
    *,
    endpoint: EndpointOptions | None = None,
    progress: Progress | None = None,
) -> dict[str, dict[str, Any]]:
    """Judge answers that are of no run; resumable as a run is.

    Args:
        judge: gives the verdicts.
        answers: questions, each with an answer.
        out: a folder for run.json, predictions.jsonl and judgements.jsonl; None keeps nothing.
        settings: the contents of run.json.
        endpoint: the options that `judge` was opened with; what may cost more than they allow is
            asked for.
        progress: called as `progress(done, total, what)`.

    Returns:
        The rows of judgements.jsonl on these answers, by the questions' keys.

    Raises:
        UserError: `out` holds something else; the cost is not agreed to, or has reached its limit.
    """
    questions = [question for question, _ in answers]
    rows = {
        question.key: {
            "id": question.id,
            "task": question.task,
            "video": question.video,
            "prediction": answer,
            "status": "ok",
        }
        for question, answer in answers
    }
    with (
        tempfile.TemporaryDirectory() as scratch,
        EvalRunDir(out or Path(scratch) / "judged", settings) as run,
    ):
        for key, row in rows.items():
            if run.predictions.rows.get(key) != row:
                run.predictions.append(row)
        if endpoint is not None:
            endpoint.approve(estimate_verdicts(questions, rows, judge, run.judgements))
        judge_answers(questions, rows, judge, run.judgements, progress=progress)
        return {key: run.judgements.rows[key] for key in rows if key in run.judgements.rows}


def item_of(
    question: Question,
    prediction: str,
    *,
    clip: str | None = None,
    options: Sequence[str] = (),
    other: tuple[str, str] | None = None,
) -> JudgeItem:
    """Return an answer to a question as a judge gets it.

    Args:
        question: that was asked.
        prediction: the answer.
        clip: its path, for judges that see it.
        options: in the order in which the model was shown them.
        other: the other question of its pair and the answer to it, for judges that see both.
    """
    listed = f"\n{lettered(options)}" if options else ""
    return JudgeItem(
        id=question.id,
        task=question.task,
        video=question.video,
        question=question.question + listed,
        reference=question.answer,
        prediction=prediction,
        caption=question.caption,
        clip=clip,
        options=tuple(options),
        other=other,
    )


def _answered(
    questions: Sequence[Question], predictions: Mapping[str, Row], judge: Judge
) -> Iterator[JudgeItem]:
    """Yield the answers that there are, as items for `judge`.

    Of a pair that is judged together neither is there without the other. Each is an item, with the
    other one beside it, so that which of them comes first decides nothing.
    """
    others = other_questions(questions) if judge.compares_pairs else {}
    for question in questions:
        row = predictions.get(question.key)
        if row is None or row["status"] != "ok":
            continue
        beside: tuple[str, str] | None = None
        if judge.compares_pairs:
            second = others.get(question.key)
            answer = predictions.get(second.key) if second is not None else None
            if second is None or answer is None or answer["status"] != "ok":
                continue
            beside = (second.question, answer["prediction"])
        clip = question.video_path if judge.needs_frames else None
        options = row.get("options", question.shown_options)
        yield item_of(question, row["prediction"], clip=clip, options=options, other=beside)


def _unjudged(items: Iterable[JudgeItem], log: KeyedLog) -> Iterator[JudgeItem]:
    """Yield those that `log` has no lasting verdict on, for the texts as they are now."""
    for item in items:
        row = log.rows.get(f"{item.task}/{item.id}")
        if row is None or row["item_hash"] != item.hash or not is_judged(row):
            yield item
