"""From questions to predictions.jsonl: clips decoded once, questions batched, failures kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sharegptvideo.errors import UserError
from sharegptvideo.eval.models import Model
from sharegptvideo.eval.scoring import MISSING_CLIP
from sharegptvideo.eval.tasks import Task
from sharegptvideo.eval.types import Answer, Question, Request, short_hash
from sharegptvideo.storage import KeyedLog

__all__ = ["answer_questions"]

Progress = Callable[[int, int, str], None]


def answer_questions(
    task: Task,
    questions: Sequence[Question],
    model: Model,
    log: KeyedLog,
    *,
    frames: int,
    max_new_tokens: int,
    batch_size: int,
    progress: Progress | None = None,
) -> None:
    """Answer every question that `log` has no good answer to; failed ones are tried again.

    Answers from a file are read again whatever the log holds: the file may have been mended.

    A clip is decoded once for all its questions, and questions about several clips share a batch.

    Raises:
        UserError: `log` holds answers to other prompts than these.
    """
    prompts = {q.key: task.render(q.question) for q in questions}
    hashes = {key: short_hash(model.render(prompt)) for key, prompt in prompts.items()}
    _refuse_other_prompts(task, log, hashes)
    pending = [
        q
        for q in questions
        if not model.needs_frames or log.rows.get(q.key, {}).get("status") != "ok"
    ]
    done = len(questions) - len(pending)

    def write(question: Question, answer: Answer, indices: list[int] | None) -> None:
        nonlocal done
        row = _row(question, answer, indices, hashes[question.key])
        if log.rows.get(question.key) != row:
            log.append(row)
        done += 1
        if progress:
            progress(done, len(questions), f"answers to {task.name}")

    batch: list[tuple[Request, list[int] | None]] = []

    def flush() -> None:
        if not batch:
            return
        waiting = dict(enumerate(batch))
        requests = [request for request, _ in batch]
        for position, answer in model.answer(requests, max_new_tokens=max_new_tokens):
            request, indices = waiting.pop(position)
            write(request.question, answer, indices)
        for request, indices in waiting.values():
            write(request.question, Answer(error="the model gave no answer"), indices)
        batch.clear()

    for group in _by_video(pending):
        pixels, indices, error = _frames(group[0], frames) if model.needs_frames else _NONE
        for question in group:
            if error is not None:
                write(question, Answer(error=error), None)
                continue
            batch.append((Request(question, prompts[question.key], pixels), indices))
            if len(batch) >= batch_size:
                flush()
    flush()


_NONE: tuple[None, None, None] = (None, None, None)


def _frames(question: Question, n: int) -> tuple[Any, list[int] | None, str | None]:
    from sharegptvideo.media import MediaError, sample_frames

    if question.video_path is None:
        return None, None, f"{MISSING_CLIP}{question.video}"
    try:
        frames, indices = sample_frames(question.video_path, n)
    except MediaError as error:
        return None, None, str(error)
    return frames, [int(i) for i in indices], None


def _by_video(questions: Sequence[Question]) -> Iterator[list[Question]]:
    groups: dict[str, list[Question]] = {}
    for question in questions:
        groups.setdefault(question.video, []).append(question)
    yield from groups.values()


def _row(
    question: Question, answer: Answer, indices: list[int] | None, prompt_hash: str
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": question.id,
        "task": question.task,
        "video": question.video,
        "question": question.question,
        "prediction": answer.text,
        "status": "ok" if answer.error is None else "failed",
    }
    if answer.error is not None:
        row["error"] = answer.error
    return row | {"frame_indices": indices, "prompt_hash": prompt_hash}


def _refuse_other_prompts(task: Task, log: KeyedLog, hashes: dict[str, str]) -> None:
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
