"""Requests on their way to a model: clips decoded once and ahead, batches in parallel."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sharegptvideo._concurrency import available_cores, ordered_map
from sharegptvideo.endpoint.messages import failure_of, split_reasoning
from sharegptvideo.models.base import Answer, Model, Question, Request, SamplingParams

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Clip", "answer_batch", "answer_batches", "decode_clips", "decoding_width", "read_clip"]

# Frames decoded and waiting, of all clips together: 2 GB at 1080p.
_FRAMES_AHEAD = 320


@dataclass(frozen=True, slots=True)
class Clip:
    """The questions about a clip with its sampled frames and their indices, or why it has none.

    All three are None for a model that needs no frames; `missing` clips have no path. `sent` is
    what a served model made of the frames, in their place.
    """

    questions: Sequence[Question] = ()
    frames: NDArray[np.uint8] | None = None
    indices: list[int] | None = None
    error: str | None = None
    missing: bool = False
    sent: object | None = None


def decode_clips(questions: Iterable[Question], frames: int | None) -> Generator[Clip]:
    """Yield the questions clip by clip, in the order in which the clips first come.

    Later clips are decoded meanwhile, each once. Close the iterator to end the threads.

    Args:
        questions: in any order.
        frames: how many of a clip; None: none, no clip is opened.
    """
    groups: dict[tuple[str, str | None], list[Question]] = {}
    for question in questions:
        groups.setdefault((question.video, question.video_path), []).append(question)
    if frames is None:
        yield from map(Clip, groups.values())
        return

    def decode(group: Sequence[Question]) -> Clip:
        return replace(read_clip(group[0].video_path, frames), questions=group)

    workers, ahead = decoding_width(frames, available_cores())
    yield from ordered_map(decode, groups.values(), workers=workers, ahead=ahead, name="decode")


def read_clip(path: str | None, frames: int, model: Model | None = None) -> Clip:
    """Return `frames` frames of the clip at a path, or why there are none.

    A served model gets them as it sends them, which takes a tenth of the memory.
    """
    from sharegptvideo.media import MediaError, sample_frames

    if path is None:
        return Clip(missing=True)
    try:
        pixels, indices = sample_frames(path, frames)
    except MediaError as error:
        return Clip(error=str(error))
    clip = Clip((), pixels, [int(index) for index in indices])
    if model is None:
        return clip
    about = Question(id="", task="", video="", question="", answer="", video_path=path)
    packed = model.packed(Request("", clip.frames, clip.indices, about))
    return replace(clip, frames=packed.frames, sent=packed.sent)


def decoding_width(frames: int, cores: int) -> tuple[int, int]:
    """Return how many threads decode clips, and how many decoded clips may wait.

    Two cores are left to the caller and what feeds the device; two threads there are in any case.
    Threads, not processes: at most 3 % of a 1080p clip's processor time needs Python's lock
    (`tests/benchmarks/bench_media.py`), so they keep tens of cores busy and pass frames on
    without a copy.

    Args:
        frames: how many of a clip.
        cores: that there are.
    """
    workers = max(2, cores - 2)
    ahead = max(4, min(workers + 2, _FRAMES_AHEAD // max(1, frames)))
    return min(workers, ahead), ahead


def answer_batches(
    model: Model, batches: Iterable[Sequence[Request]], params: SamplingParams
) -> Generator[Answer]:
    """Yield an answer for each request of all batches, as `Model.generate` gives them.

    A model with several workers answers as many batches at a time; their answers come in the order
    of the batches all the same. An error or Ctrl-C is raised once the answers that the workers are
    giving are out.

    Raises:
        UserError: see `Model.generate`.
    """
    if model.workers < 2:
        yield from _answers(model, batches, params)
        return
    waiting: deque[Future[list[Answer]]] = deque()
    with ThreadPoolExecutor(model.workers, thread_name_prefix="answer") as pool:
        try:
            for batch in batches:
                waiting.append(
                    pool.submit(lambda each: list(_answers(model, [each], params)), batch)
                )
                if len(waiting) > 2 * model.workers:  # a spare one each: none waits for a clip
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        except GeneratorExit:
            _cancel(waiting)
            raise
        except BaseException:  # Ctrl-C too: what was answered is given, then it is raised on
            for future in _cancel(waiting):
                if future.exception() is None:
                    yield from future.result()
            raise


def answer_batch(model: Model, requests: Sequence[Request], params: SamplingParams) -> list[Answer]:
    """Return an answer for each request of one batch, in their order.

    Raises:
        UserError: see `Model.generate`.
    """
    places = {_key(request): place for place, request in enumerate(requests)}
    answers = _answers(model, [requests], params)
    return sorted(answers, key=lambda answer: places[_key(answer.request)])


def _answers(
    model: Model, batches: Iterable[Sequence[Request]], params: SamplingParams
) -> Iterator[Answer]:
    waiting: dict[int, Request] = {}

    def noted() -> Iterator[Sequence[Request]]:
        for batch in batches:
            waiting.update((_key(request), request.bare) for request in batch)
            yield batch

    for answer in model.stream(noted(), params):
        waiting.pop(_key(answer.request), None)
        yield _without_reasoning(answer)
    for request in waiting.values():
        yield Answer(request, error="the model gave no answer")


def _key(request: Request) -> int:
    """Return what a request and its `bare` one have in common."""
    return id(request.question or request)


def _without_reasoning(answer: Answer) -> Answer:
    """Take reasoning out of the texts of any model, as it is taken out of a server's replies."""
    read = [split_reasoning(text) for text in answer.texts]
    thoughts = [thought for _, thought in read]
    if not any(thoughts):
        return answer
    if any(thought and not text for text, thought in read):
        error = failure_of("", None, thought=True)
        return replace(answer, texts=(), error=error, reasoning=tuple(thoughts))
    return replace(answer, texts=tuple(text for text, _ in read), reasoning=tuple(thoughts))


def _cancel(waiting: Iterable[Future[list[Answer]]]) -> list[Future[list[Answer]]]:
    """Cancel what has not begun; returns what has."""
    return [future for future in waiting if not future.cancel()]
