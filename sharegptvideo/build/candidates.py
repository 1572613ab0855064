"""Several answers of a model to each question: the first step of the reward loop."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sharegptvideo._concurrency import Progress
from sharegptvideo._io import KeyedLog
from sharegptvideo._runs import check_place
from sharegptvideo.build.stage import Row, begin, recorded
from sharegptvideo.endpoint import EndpointOptions, Estimate
from sharegptvideo.errors import UserError
from sharegptvideo.models import Answer, Model, Question, Request, SamplingParams, open_model
from sharegptvideo.models.base import FRAME_BYTES
from sharegptvideo.models.batches import answer_batches, decode_clips
from sharegptvideo.models.registry import KINDS
from sharegptvideo.models.served import Send

__all__ = ["CandidatesReport", "sample_candidates"]

_NEEDED = ("id", "video", "question", "answer")
_COLUMNS = ("id", "video", "source", "question", "answer", "caption")
_DRAWS = "candidates_draws"
_FRAMES = 8  # of a clip, where neither the model nor the user says how many
# What `describe` says that is no part of the candidates' identity, or has another name there.
_NOT_IDENTITY = frozenset(
    ("kind", "name", "decoding", "temperature", "weights_hash", "clip", "answered_by")
)


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
        """Return the report as plain JSON values."""
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
    batch_size: int | None = None,
    seed: int = 0,
    frames: int | None = None,
    base_url: str | None = None,
    send: Send = "auto",
    endpoint: EndpointOptions | None = None,
    progress: Progress | None = None,
) -> CandidatesReport:
    """Draw `k` answers to every question; resumable. Six at temperature 1, top-p 0.95 in the paper.

    Questions are grouped by clip, so that each clip is decoded once, and read by a model on this
    machine once for all answers to all of them. What is drawn depends on `seed`, the clip's frames
    and the question only, so that a run that was killed and taken up again gives what an unbroken
    one gives. A served model is sent a seed for each answer; a function of the user's draws as it
    likes. A question whose clip is missing or unreadable, or one of whose calls failed, is kept as
    failed, with the cause, and tried again by the next run, which asks a server for the answers
    alone that failed or never came.

    Writes `out/candidates.jsonl`, one row a question: id, video, source, question, answer, caption,
    frame_indices, candidates [text], error (null, or why there are none), where the model thought
    reasoning [text or null], where a failed reply held something partial [text or null]; and the
    settings, then the report, in `out/candidates.json`. Until no question lacks answers, each
    answer of a server stands in `out/candidates_draws.jsonl` from the moment it comes.

    Args:
        rows: of the config `qa`, with `video_path` (see `media=` of `load_dataset`).
        model: what `open_model` takes; a folder or Hub id may stand without `hf:`.
        out: the folder to write.
        k: answers a question.
        temperature: of the draw, above 0.
        top_p: the share of probability that is drawn from, above 0, at most 1.
        max_new_tokens: where an answer is cut.
        batch_size: answers decoded at once, a question's together; default: 96, on a GPU 256.
        seed: of the draw.
        frames: how many frames of a clip a model is given that was made for no number of them;
            default: 8.
        base_url: where an openai: model is served; default: OPENAI_BASE_URL.
        send: how it is sent frames, see `open_model`; results that are gone on with keep to what
            was recorded.
        endpoint: speed, money and cache of its calls.
        progress: called with questions done, questions, "candidates".

    Raises:
        UserError: a setting out of range, rows without what the config `qa` has, an id that comes
            twice, no rows, no such model, or candidates of other settings in `out`; an endpoint
            that cannot be used, with what was answered before kept.
    """
    for name, value in (("k", k), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise UserError(f"{name} must be at least 1, got {value}")
    if temperature <= 0:
        raise UserError(f"temperature must be above 0, got {temperature}")
    check_place(out)
    params = SamplingParams(k, temperature, top_p, max_new_tokens, seed)
    questions = _questions(rows)
    endpoint = endpoint or EndpointOptions()
    answerer = _open_model(
        model, k, batch_size=batch_size, base_url=base_url, send=send, endpoint=endpoint
    )
    shown = _frames(answerer, frames)
    every = [_question(row) for row in questions]
    before = _begun(out, answerer, every)
    sampling = {"k": k} | {name: value for name, value in asdict(params).items() if name != "n"}
    # Weights may have to be hashed: meanwhile they are loaded, and answers begin.
    with begin(
        out / "candidates.json",
        lambda: _settings(answerer, shown, before) | sampling,
        may_change={"send_reason"},
    ) as run:
        log = run.log("candidates")
        draws = None
        if answerer.draws_apart:
            draws = _Draws(run.log(_DRAWS, key=("id", "number")), k)
        waiting = [row for row in questions if not _is_done(row, log.rows.get(row["id"]))]
        if waiting:
            endpoint.approve(_estimate(waiting, answerer, shown, params, draws))
            if before is not None or not answerer.draws_apart:
                answerer.check([_question(row) for row in waiting], every)
        # Of a GPU a multiple of its slots, so that the last answers of a batch hold up few.
        size = max(1, max(batch_size or 96, 4 * answerer.width) // k)
        done = len(questions) - len(waiting)
        with contextlib.closing(_sample(waiting, answerer, shown, params, size, draws)) as made:
            for row in made:
                log.append(row)
                done += 1
                if progress:
                    progress(done, len(questions), "candidates")
        report = _report([log.rows[row["id"]] for row in questions])
        report.refused = [*answerer.refused] or None
        run.finish(report.as_dict())
    if draws is not None and not report.n_failed:
        draws.log.path.unlink(missing_ok=True)  # all of them are in the rows
    return report


def _open_model(
    spec: str | Path,
    k: int,
    *,
    batch_size: int | None,
    base_url: str | None,
    send: Send,
    endpoint: EndpointOptions,
) -> Model:
    """Return the model, if it can give `k` answers a question; without a kind it is `hf:`."""
    kind = str(spec).partition(":")[0]
    if kind not in KINDS:
        kind, spec = "hf", f"hf:{spec}"
    if kind != "openai" and base_url is not None:
        raise UserError(f"model {spec}: a base URL is for served models (openai:NAME)")
    if kind == "openai" and endpoint.batch_api:
        raise UserError("--batch-api is for verdicts; candidates are asked for one by one")
    model = open_model(
        str(spec), base_url=base_url, options=endpoint, batch_size=batch_size, send=send
    )
    if k > 1 and not model.gives_samples:
        raise UserError(
            f"model {spec}: a file has one answer to a question; take -k 1, or a model that can"
            " be asked again"
        )
    return model


def _estimate(
    rows: Sequence[Row], model: Model, frames: int, params: SamplingParams, draws: _Draws | None
) -> Estimate:
    """Return what the answers that are not there yet will take."""
    if draws is None:
        return Estimate()
    prompts = (row["question"] for row in rows for _ in draws.missing(row["question"], row["id"]))
    return model.estimate(prompts, frames=frames, params=replace(params, n=1))


def _frames(model: Model, frames: int | None) -> int:
    """Return how many frames of a clip the model is given."""
    if frames is not None and frames < 1:
        raise UserError(f"frames must be at least 1, got {frames}")
    if frames is not None and model.frames is not None:
        raise UserError(
            f"model {model.spec}: was made for {model.frames} frames of a clip; leave frames out"
        )
    return model.frames or frames or _FRAMES


def _begun(out: Path, model: Model, every: Sequence[Question]) -> Row | None:
    """Return the settings there, with which the model goes on; None for a new folder.

    How a server takes frames is a part of the settings: it is asked before there are any.
    """
    before = recorded(out / "candidates.json")
    if before is not None:
        model.go_on(before)
    elif model.draws_apart:
        model.check(every, every)
    return before


def _settings(model: Model, frames: int, before: Row | None) -> Row:
    """Return what identifies the model in the candidates' settings; `before` are those there.

    Weights by their hash alone, so that a checkpoint may be moved.
    """
    described = model.describe()
    settings: Row = {} if described["kind"] == "hf" else {"model": model.spec}
    if described["kind"] in {"hf", "python"}:
        settings["weights_sha256"] = described["weights_hash"]
    settings |= {key: value for key, value in described.items() if key not in _NOT_IDENTITY}
    if before is not None and "send" not in before and settings.get("send") == "pictures":
        del settings["send"]  # as an earlier version wrote them
    return settings | {"frames": frames}


def _questions(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Return the rows by video, the videos in the order in which they first come."""
    groups: dict[str, list[Row]] = {}
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        absent = [name for name in _NEEDED if not row.get(name)]
        if absent:
            raise UserError(f"row {number} ({row.get('id')}): no {', '.join(absent)}")
        if row["id"] in seen:
            raise UserError(f"row {number}: duplicate id {row['id']!r}")
        seen.add(row["id"])
        question = {name: row.get(name) for name in (*_COLUMNS, "video_path")}
        groups.setdefault(str(row["video"]), []).append(question)
    if not seen:
        raise UserError("no questions to answer; is this the right split?")
    return [row for group in groups.values() for row in group]


def _is_done(row: Row, old: Row | None) -> bool:
    """Return whether `old` has candidates for what `row` asks, its reference and its caption."""
    return (
        old is not None
        and old["error"] is None
        and all(old[name] == row[name] for name in _COLUMNS)
    )


def _question(row: Row) -> Question:
    return Question(
        id=row["id"],
        task="qa",
        video=str(row["video"]),
        question=row["question"],
        answer=row["answer"],
        caption=row["caption"],
        video_path=row["video_path"],
    )


def _sample(
    rows: Sequence[Row],
    model: Model,
    frames: int,
    params: SamplingParams,
    size: int,
    draws: _Draws | None,
) -> Generator[Row]:
    """Yield the rows with their candidates, failed ones included, in the order given.

    Clips are decoded once and ahead. A model on this machine is given batches of `size` questions;
    a served one question after the other, as it has room for them. `draws` keeps its answers.
    """
    columns = {row["id"]: {name: row[name] for name in _COLUMNS} for row in rows}
    made = _RowsInOrder()
    needed = frames if model.needs_frames else None

    def put(answer: Answer) -> None:
        question = answer.request.question
        assert question is not None, "every request here has one"
        made.put(question.id, columns[question.id] | _result(answer))

    def requests() -> Iterator[Request]:
        for clip in clips:
            error = f"no media found for {clip.questions[0].video}" if clip.missing else clip.error
            for question in clip.questions:
                made.expect(question.id)
                request = Request(question.question, clip.frames, clip.indices, question)
                if error is None:
                    yield request
                else:
                    put(Answer(request, error=error))

    with contextlib.closing(decode_clips(map(_question, rows), needed)) as clips:
        batches = _batches(requests(), size) if draws is None else draws.calls(requests(), put)
        with contextlib.closing(answer_batches(model, batches, params)) as answers:
            for answer in answers:
                whole = answer if draws is None else draws.keep(answer)
                if whole is not None:
                    put(whole)
                    yield from made.ready()
        yield from made.ready()


class _RowsInOrder:
    """Rows that are made in any order, given out in the order in which they were expected."""

    def __init__(self) -> None:
        self._rows: dict[str, Row | None] = {}

    def expect(self, key: str) -> None:
        """Say that the row of this key comes after those expected before."""
        self._rows[key] = None

    def put(self, key: str, row: Row) -> None:
        """Take a row that was expected."""
        self._rows[key] = row

    def ready(self) -> Iterator[Row]:
        """Yield, once, each row before which none is missing."""
        while self._rows and (row := self._rows[key := next(iter(self._rows))]) is not None:
            del self._rows[key]
            yield row


def _batches(requests: Iterable[Request], size: int) -> Iterator[list[Request]]:
    """Yield `size` requests after the other, fewer where their clips' frames take much memory."""
    batch: list[Request] = []
    held = 0
    for request in requests:
        frames = request.frames
        if batch and frames is not None and frames is not batch[-1].frames:
            held += frames.nbytes
        if batch and held > FRAME_BYTES:
            yield batch
            batch = []
        if not batch:
            held = 0 if frames is None else frames.nbytes
        batch.append(request)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


class _Draws:
    """Answers that are calls of their own: each is kept from the moment it comes."""

    def __init__(self, log: KeyedLog, k: int) -> None:
        self.log = log
        self._k = k
        self._left: dict[str, int] = {}  # by the question's id: calls not answered

    def missing(self, question: str, of: str) -> list[int]:
        """Return the numbers of the answers that `question`, of the id `of`, still lacks."""
        return [n for n in range(self._k) if not self._is_kept(f"{of}/{n}", {"question": question})]

    def _is_kept(self, key: str, asked: Row) -> bool:
        row = self.log.rows.get(key)
        return row is not None and row["error"] is None and row == row | asked

    def calls(
        self, requests: Iterable[Request], put: Callable[[Answer], None]
    ) -> Iterator[list[Request]]:
        """Yield a call for each answer that a request lacks; `put` those that lack none."""
        for request in requests:
            asked = self._asked(request)
            calls = [
                replace(request, number=number)
                for number in range(self._k)
                if not self._is_kept(f"{asked['id']}/{number}", asked)
            ]
            self._left[asked["id"]] = len(calls)
            if calls:
                yield calls
            else:
                put(self._whole(request))

    def keep(self, answer: Answer) -> Answer | None:
        """Keep the answer to a call; return all of its request's if it was the last one open."""
        asked = self._asked(answer.request)
        row = {"number": answer.request.number, "text": answer.text, "error": answer.error}
        row |= {name: next(iter(getattr(answer, name)), None) for name in ("reasoning", "partial")}
        self.log.append(asked | row)
        self._left[asked["id"]] -= 1
        return None if self._left[asked["id"]] else self._whole(answer.request)

    def _whole(self, request: Request) -> Answer:
        """Return all answers to a request, or why some failed, from the log."""
        key = self._asked(request)["id"]
        rows = [self.log.rows[f"{key}/{number}"] for number in range(self._k)]
        error = next((row["error"] for row in rows if row["error"] is not None), None)
        return Answer(
            request,
            () if error else tuple(row["text"] for row in rows),
            error=error,
            reasoning=tuple(row["reasoning"] for row in rows),
            partial=tuple(row["partial"] for row in rows),
        )

    def _asked(self, request: Request) -> Row:
        question = request.question
        assert question is not None, "every request here has one"
        indices = list(request.indices or ())
        return {
            "id": question.id,
            "video": question.video,
            "question": question.question,
            "frame_indices": indices,
        }


def _result(answer: Answer) -> Row:
    row: Row = {
        "frame_indices": list(answer.request.indices or ()),
        "candidates": list(answer.texts),
        "error": answer.error,
    }
    if any(answer.reasoning):
        row["reasoning"] = list(answer.reasoning)
    if any(answer.partial):
        row["partial"] = list(answer.partial)
    return row


def _report(rows: list[Row]) -> CandidatesReport:
    failures = Counter(row["error"] for row in rows if row["error"] is not None)
    return CandidatesReport(
        n_questions=len(rows),
        n_videos=len({row["video"] for row in rows}),
        n_failed=failures.total(),
        n_candidates=sum(len(row["candidates"]) for row in rows),
        failures=dict(failures),
    )
