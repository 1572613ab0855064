"""From questions to predictions.jsonl: clips decoded once and ahead, failures kept.

All questions of a clip go to the model together, so that it can look at the clip once for all of
them; while it does, threads decode the next clips.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
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

    A clip is decoded once for all its questions. A batch holds whole clips as long as they have
    no more than `batch_size` questions between them; a clip with more is split.

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
    for group, clip in _decoded(pending, frames if model.needs_frames else None):
        if clip.error is not None:
            for question in group:
                write(question, Answer(error=clip.error), None)
            continue
        wanted = [Request(q, prompts[q.key], clip.frames) for q in group]
        if len(batch) + len(wanted) > batch_size:
            _answer(model, batch, max_new_tokens, batch_size, write)
            batch = []
        batch += [(request, clip.indices) for request in wanted]
    _answer(model, batch, max_new_tokens, batch_size, write)


def _answer(
    model: Model,
    batch: Sequence[tuple[Request, list[int] | None]],
    max_new_tokens: int,
    size: int,
    write: Callable[[Question, Answer, list[int] | None], None],
) -> None:
    """Ask the model, `size` questions at a time, and write each answer as it comes."""
    for start in range(0, len(batch), size):
        part = batch[start : start + size]
        waiting = dict(enumerate(part))
        requests = [request for request, _ in part]
        for position, answer in model.answer(requests, max_new_tokens=max_new_tokens):
            request, indices = waiting.pop(position)
            write(request.question, answer, indices)
        for request, indices in waiting.values():
            write(request.question, Answer(error="the model gave no answer"), indices)


@dataclass(frozen=True, slots=True)
class _Clip:
    """Sampled frames of a clip and their indices, or why there are none."""

    frames: Any = None
    indices: list[int] | None = None
    error: str | None = None


_DECODERS = 2
_AHEAD = 4  # clips decoded and waiting; 8 frames of 1080p take 50 MB


def _decoded(
    questions: Sequence[Question], frames: int | None
) -> Iterator[tuple[list[Question], _Clip]]:
    """The questions clip by clip, in order, each with its frames; later clips are being decoded."""
    groups = _by_video(questions)
    if frames is None:
        for group in groups:
            yield group, _Clip()
        return
    pool = ThreadPoolExecutor(_DECODERS, thread_name_prefix="decode")
    waiting: deque[tuple[list[Question], Future[_Clip]]] = deque()
    try:
        for group in groups:
            waiting.append((group, pool.submit(_sample, group[0], frames)))
            if len(waiting) > _AHEAD:
                first, clip = waiting.popleft()
                yield first, clip.result()
        while waiting:
            first, clip = waiting.popleft()
            yield first, clip.result()
    finally:  # an error or Ctrl-C does not wait for clips that nobody wants any more
        pool.shutdown(wait=True, cancel_futures=True)


def _sample(question: Question, n: int) -> _Clip:
    from sharegptvideo.media import MediaError, sample_frames

    if question.video_path is None:
        return _Clip(error=f"{MISSING_CLIP}{question.video}")
    try:
        frames, indices = sample_frames(question.video_path, n)
    except MediaError as error:
        return _Clip(error=str(error))
    return _Clip(frames, [int(i) for i in indices])


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
