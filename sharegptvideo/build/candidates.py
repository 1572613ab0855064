"""Several answers of a model to each question: the first step of the reward loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharegptvideo._concurrency import Progress
from sharegptvideo.build.answering import Answerer, Drawing, LocalModel, ServedModel
from sharegptvideo.build.stage import Row, begin
from sharegptvideo.errors import UserError
from sharegptvideo.media import MediaError, sample_frames

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sharegptvideo.endpoint import EndpointOptions

    Frames = NDArray[np.uint8]

__all__ = ["CandidatesReport", "sample_candidates"]

_NEEDED = ("id", "video", "source", "question", "answer")
_COLUMNS = (*_NEEDED, "caption")


@dataclass(slots=True)
class CandidatesReport:
    """What `sample_candidates` holds when it ends.

    `n_failed` questions have no candidates, mostly because their clip could not be read;
    `failures` counts them by cause. `refused` names settings of the draw that an endpoint does not
    take, and that did not count.
    """

    n_questions: int = 0
    n_videos: int = 0
    n_failed: int = 0
    n_candidates: int = 0
    failures: dict[str, int] | None = None
    refused: list[str] | None = None

    def as_dict(self) -> Row:
        """The report as plain JSON values."""
        return asdict(self)


def sample_candidates(
    rows: Iterable[Mapping[str, Any]],
    model: str | Path,
    out: Path,
    *,
    k: int = 6,
    temperature: float = 1.0,
    top_p: float = 0.95,
    max_new_tokens: int = 256,
    batch_size: int = 96,
    seed: int = 0,
    frames: int | None = None,
    base_url: str | None = None,
    endpoint: EndpointOptions | None = None,
    progress: Progress | None = None,
) -> CandidatesReport:
    """Draw `k` answers to every question; resumable. Six at temperature 1, top-p 0.95 in the paper.

    Questions are grouped by clip, so that each clip is decoded once, and read by a model on this
    machine once for all answers to all of them. What is drawn depends on `seed`, the clip's frames
    and the question only, so that a run that was killed and taken up again gives what an unbroken
    one gives; a served model is sent a seed for each answer, and what it answered is kept in the
    cache. A question whose clip is missing or unreadable, or whose call failed, is kept as failed,
    with the cause, and tried again by the next run.

    Writes `out/candidates.jsonl`, one row a question: id, video, source, question, answer, caption,
    frame_indices, candidates [text], error (null, or why there are none); and the settings, then
    the report, in `out/candidates.json`.

    Args:
        rows: of the config `qa`, with `video_path` (see `media=` of `load_dataset`).
        model: a Video-LLaVA, as a folder or a Hub id; or openai:NAME, a served model.
        out: the folder to write.
        k: answers a question.
        temperature: of the draw, above 0.
        top_p: the share of probability that is drawn from, above 0, at most 1.
        max_new_tokens: where an answer is cut.
        batch_size: answers decoded at once; a question's answers stay together.
        seed: of the draw.
        frames: how many frames of a clip a served model is sent; default: 8.
        base_url: where it is served; default: OPENAI_BASE_URL.
        endpoint: speed, money and cache of its calls.
        progress: called with questions done, questions, "candidates".

    Raises:
        UserError: a setting out of range, rows without what the config `qa` has, an id that comes
            twice, no rows, no such model, or candidates of other settings in `out`; an endpoint
            that cannot be used, with what was answered before kept.
    """
    for name, value in (("k", k), ("max_new_tokens", max_new_tokens), ("batch_size", batch_size)):
        if value < 1:
            raise UserError(f"{name} is {value}; it must be 1 or more")
    if temperature <= 0 or not 0 < top_p <= 1:
        raise UserError(f"temperature {temperature}, top_p {top_p}: need > 0 and 0 < top_p <= 1")
    questions = _questions(rows)
    answerer = _open(model, frames, base_url, endpoint)
    drawing = Drawing(k, temperature, top_p, max_new_tokens, seed)
    with begin(out / "candidates.json", answerer.settings() | asdict(drawing)) as run:
        log = run.log("candidates")
        waiting = [row for row in questions if not _is_done(row, log.rows.get(row["id"]))]
        answerer.begin([row["question"] for row in waiting], drawing)
        clips = _Clips(answerer.frames)
        step = max(1, max(batch_size, answerer.at_once) // k)
        for start in range(0, len(waiting), step):
            for row in _answer(waiting[start : start + step], answerer, clips, drawing):
                log.append(row)
            if progress:
                done = len(questions) - len(waiting) + min(start + step, len(waiting))
                progress(done, len(questions), "candidates")
        report = _report([log.rows[row["id"]] for row in questions])
        report.refused = answerer.refused() or None
        run.finish(report.as_dict())
    return report


def _open(
    model: str | Path, frames: int | None, base_url: str | None, endpoint: EndpointOptions | None
) -> Answerer:
    if ServedModel.is_meant(model):
        if frames is not None and frames < 1:
            raise UserError(f"frames is {frames}; it must be 1 or more")
        return ServedModel(str(model), base_url=base_url, frames=frames, options=endpoint)
    if frames is not None or base_url is not None:
        raise UserError(
            f"model {model}: frames and a base URL are for served models (openai:NAME); a"
            " checkpoint is given as many frames as it was made for"
        )
    return LocalModel(model)


def _questions(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """The rows, those of one video together, videos in the order in which they first come."""
    groups: dict[str, list[Row]] = {}
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        absent = [name for name in _NEEDED if not row.get(name)]
        if absent:
            raise UserError(f"row {number} ({row.get('id')}): no {', '.join(absent)}")
        if row["id"] in seen:
            raise UserError(f"row {number}: id {row['id']!r} comes twice; ids must be unique")
        seen.add(row["id"])
        question = {name: row.get(name) for name in (*_COLUMNS, "video_path")}
        groups.setdefault(str(row["video"]), []).append(question)
    if not seen:
        raise UserError("no questions to answer; is this the right split?")
    return [row for group in groups.values() for row in group]


def _is_done(row: Row, old: Row | None) -> bool:
    """Whether `old` has candidates for what `row` asks, with the reference and caption it has."""
    return (
        old is not None
        and old["error"] is None
        and all(old[name] == row[name] for name in _COLUMNS)
    )


class _Clips:
    """Frames by row; the last clip is kept, for a video whose questions fill several batches."""

    def __init__(self, frames: int) -> None:
        self._frames = frames
        self._last: tuple[str | None, Frames | None, list[int], str | None] | None = None

    def read(self, row: Row) -> tuple[Frames | None, list[int], str | None]:
        """`(frames, indices, None)`, or `(None, [], cause)`; one object for one clip."""
        path = row["video_path"]
        if self._last is None or self._last[0] != path or path is None:
            self._last = (path, *self._decode(row))
        return self._last[1:]

    def _decode(self, row: Row) -> tuple[Frames | None, list[int], str | None]:
        if row["video_path"] is None:
            return None, [], f"no media found for {row['video']}"
        try:
            frames, indices = sample_frames(row["video_path"], self._frames)
        except MediaError as error:
            return None, [], str(error)
        return frames, list(indices), None


def _answer(batch: list[Row], model: Answerer, clips: _Clips, drawing: Drawing) -> Iterator[Row]:
    """One row for each question of a batch, failed ones included, as they are done."""
    requests: list[tuple[Frames, str]] = []
    open_rows: list[Row] = []
    for row in batch:
        frames, indices, error = clips.read(row)
        result = {name: row[name] for name in _COLUMNS}
        result |= {"frame_indices": indices, "candidates": [], "error": error}
        if frames is None:
            yield result
        else:
            requests.append((frames, row["question"]))
            open_rows.append(result)
    if requests:
        for position, drawn in model.draw(requests, drawing):
            result = open_rows[position]
            result["candidates" if isinstance(drawn, list) else "error"] = drawn
            yield result


def _report(rows: list[Row]) -> CandidatesReport:
    failures = Counter(row["error"] for row in rows if row["error"] is not None)
    return CandidatesReport(
        n_questions=len(rows),
        n_videos=len({row["video"] for row in rows}),
        n_failed=failures.total(),
        n_candidates=sum(len(row["candidates"]) for row in rows),
        failures=dict(failures),
    )
