"""From questions to predictions.jsonl: clips decoded once and ahead, failures kept.

All questions of a clip go to the model together, so that it can look at the clip once for all of
them; while it does, threads decode the next clips.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from sharegptvideo._concurrency import Progress, ordered_map
from sharegptvideo._io import KeyedLog
from sharegptvideo.errors import UserError
from sharegptvideo.eval.score import MISSING_CLIP
from sharegptvideo.eval.tasks import Task
from sharegptvideo.models.adapters import Model
from sharegptvideo.models.types import Answer, Question, Request, short_hash

__all__ = ["answer_questions"]


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

    A clip is decoded once for all its questions, and they go to the model together: a batch holds
    whole clips, with no more than `batch_size` questions between them unless one clip has more.

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

    def write(question: Question, answer: Answer, indices: Sequence[int] | None) -> None:
        nonlocal done
        row = _row(question, answer, indices, hashes[question.key])
        if log.rows.get(question.key) != row:
            log.append(row)
        done += 1
        if progress:
            progress(done, len(questions), f"answers to {task.name}")

    def batches() -> Generator[list[Request]]:
        batch: list[Request] = []
        for group, clip in _decoded(pending, frames if model.needs_frames else None):
            if clip.error is not None:
                for question in group:
                    write(question, Answer(error=clip.error), None)
                continue
            if batch and len(batch) + len(group) > batch_size:
                yield batch
                batch = []
            batch += [Request(q, prompts[q.key], clip.frames, clip.indices) for q in group]
        if batch:
            yield batch

    with contextlib.closing(batches()) as source:
        if getattr(model, "workers", 1) > 1:
            _answer_at_once(model, source, max_new_tokens, write)
        else:
            for batch in source:
                _answer(batch, model.answer(batch, max_new_tokens=max_new_tokens), write)


_Write = Callable[[Question, Answer, Sequence[int] | None], None]


def _answer(batch: Sequence[Request], answers: Iterable[tuple[int, Answer]], write: _Write) -> None:
    """Write the answers to a batch as they come."""
    waiting = dict(enumerate(batch))
    for position, answer in answers:
        request = waiting.pop(position)
        write(request.question, answer, request.indices)
    for request in waiting.values():
        write(request.question, Answer(error="the model gave no answer"), request.indices)


def _answer_at_once(
    model: Model, batches: Iterator[list[Request]], max_new_tokens: int, write: _Write
) -> None:
    """Have several batches answered at a time; they are written in their order all the same."""
    workers: int = getattr(model, "workers", 1)
    waiting: deque[tuple[list[Request], Future[list[tuple[int, Answer]]]]] = deque()

    def ask(batch: list[Request]) -> list[tuple[int, Answer]]:
        return list(model.answer(batch, max_new_tokens=max_new_tokens))

    with ThreadPoolExecutor(workers, thread_name_prefix="answer") as pool:
        try:
            for batch in batches:
                waiting.append((batch, pool.submit(ask, batch)))
                if len(waiting) > 2 * workers:  # a spare one each, so that none waits for a clip
                    first, future = waiting.popleft()
                    _answer(first, future.result(), write)
            while waiting:
                first, future = waiting.popleft()
                _answer(first, future.result(), write)
        except BaseException:  # Ctrl-C too: what is being answered is kept, the rest is left
            begun = [(batch, future) for batch, future in waiting if not future.cancel()]
            for batch, future in begun:
                if future.exception() is None:
                    _answer(batch, future.result(), write)
            raise


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

    def decode(group: list[Question]) -> tuple[list[Question], _Clip]:
        return group, _sample(group[0], frames)

    yield from ordered_map(decode, groups, workers=_DECODERS, ahead=_AHEAD, name="decode")


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
    question: Question, answer: Answer, indices: Sequence[int] | None, prompt_hash: str
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
    frame_indices = None if indices is None else list(indices)
    return row | {"frame_indices": frame_indices, "prompt_hash": prompt_hash}


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
