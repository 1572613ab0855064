"""The first verb: answer the questions of a task into predictions.jsonl, failures kept.

All questions of a clip go to the model together, so that it can read the clip once for all of
them; meanwhile threads decode the next clips.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from sharegptvideo._concurrency import Progress
from sharegptvideo._io import KeyedLog
from sharegptvideo.endpoint import Estimate
from sharegptvideo.errors import UserError
from sharegptvideo.eval.score import MISSING_CLIP
from sharegptvideo.eval.tasks import Task
from sharegptvideo.models import Answer, Model, Question, Request, SamplingParams
from sharegptvideo.models.base import FRAME_BYTES, short_hash
from sharegptvideo.models.batches import answer_batches, decode_clips

__all__ = ["answer_questions", "estimate_answers"]


def answer_questions(
    task: Task,
    questions: Sequence[Question],
    model: Model,
    log: KeyedLog,
    *,
    frames: int,
    params: SamplingParams,
    batch_size: int,
    progress: Progress | None = None,
) -> None:
    """Answer every question that `log` has no good answer to; failed ones are tried again.

    Answers from a file are read again whatever the log holds: the file may have been corrected.

    A clip is decoded once for all its questions, and they go to the model together: a batch holds
    whole clips, with no more than `batch_size` questions between them unless one clip has more;
    fewer where the clips' frames take much memory, or where several workers would wait for one.

    Raises:
        UserError: `log` holds answers to other prompts than these.
    """
    prompts = {q.key: task.render(q.question, q.shown_options) for q in questions}
    hashes = {key: short_hash(model.render(prompt)) for key, prompt in prompts.items()}
    _refuse_other_prompts(task, log, hashes)
    pending = _pending(questions, log) if model.needs_frames else questions
    done = len(questions) - len(pending)
    if model.workers > 1:  # two batches each at least, so that all are done at about one time
        batch_size = min(batch_size, max(16, len(pending) // (2 * model.workers)))

    def write(answer: Answer) -> None:
        nonlocal done
        question = answer.request.question
        assert question is not None, "every request here has one"
        row = _row(question, answer, hashes[question.key])
        if log.rows.get(question.key) != row:
            log.append(row)
        done += 1
        if progress:
            progress(done, len(questions), f"answers to {task.name}")

    def batches() -> Generator[list[Request]]:
        batch: list[Request] = []
        held = 0
        with contextlib.closing(
            decode_clips(pending, frames if model.needs_frames else None)
        ) as clips:
            for clip in clips:
                requests = [
                    Request(
                        prompts[q.key],
                        clip.frames,
                        clip.indices,
                        q,
                        options=q.shown_options if task.choice == "likelihood" else (),
                    )
                    for q in clip.questions
                ]
                error = f"{MISSING_CLIP}{clip.questions[0].video}" if clip.missing else clip.error
                if error is not None:
                    for request in requests:
                        write(Answer(request, error=error))
                    continue
                size = 0 if clip.frames is None else clip.frames.nbytes
                full = len(batch) + len(requests) > batch_size or held + size > FRAME_BYTES
                if batch and full:
                    yield batch
                    batch, held = [], 0
                batch += requests
                held += size
        if batch:
            yield batch

    with (
        contextlib.closing(batches()) as source,
        contextlib.closing(answer_batches(model, source, params)) as answers,
    ):
        for answer in answers:
            write(answer)


def estimate_answers(
    task: Task,
    questions: Sequence[Question],
    model: Model,
    log: KeyedLog,
    *,
    frames: int,
    params: SamplingParams,
) -> Estimate:
    """Estimate the cost of the answers that `log` lacks; zero where the model costs nothing."""
    prompts = [task.render(q.question, q.shown_options) for q in _pending(questions, log)]
    return model.estimate(prompts, frames=frames, params=params)


def _pending(questions: Sequence[Question], log: KeyedLog) -> list[Question]:
    return [q for q in questions if log.rows.get(q.key, {}).get("status") != "ok"]


def _row(question: Question, answer: Answer, prompt_hash: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": question.id,
        "task": question.task,
        "video": question.video,
        "question": question.question,
        "prediction": answer.text,
        "status": "ok" if answer.error is None else "failed",
    }
    if question.question_type is not None:
        row["question_type"] = question.question_type
    if question.options:
        row["options"] = list(answer.options or question.shown_options)
    if answer.option_scores:
        row["option_scores"] = list(answer.option_scores)
    if question.pair is not None:
        row["pair"] = question.pair
    if answer.error is not None:
        row["error"] = answer.error
    if any(answer.reasoning):
        row["reasoning"] = answer.reasoning[0]
    if any(answer.partial):
        row["partial"] = answer.partial[0]
    if answer.usage is not None:
        row["usage"] = dict(answer.usage)
    indices = answer.request.indices
    frame_indices = None if indices is None else list(indices)
    return row | {"frame_indices": frame_indices, "prompt_hash": prompt_hash}


def _refuse_other_prompts(task: Task, log: KeyedLog, hashes: Mapping[str, str]) -> None:
    changed = [
        key
        for key, prompt_hash in hashes.items()
        if key in log and log.rows[key]["prompt_hash"] != prompt_hash
    ]
    if changed:
        raise UserError(
            f"{log.path}: {len(changed)} answers of {task.name} were given to another prompt"
            f" (such as {changed[0]}): the data or the model's chat template has changed;"
            " take another --out"
        )
