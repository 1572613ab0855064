"""Several answers of a model to each question: the first step of the reward loop."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from sharegptvideo.models.batches import Clip, answer_batches, decode_clips
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
        # A multiple of what is under way at once, so that the last answers hold up few.
        step = max(1, max(batch_size or 96, 4 * answerer.width) // k)
        done = len(questions) - len(waiting)
        for made in _sample(waiting, answerer, shown, params, step, draws):
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
    step: int,
    draws: _Draws | None,
) -> Iterator[Iterator[Row]]:
    """Yield the rows of `step` questions after the other, failed ones included, as they are done.

    Clips are decoded once and ahead. `draws` keeps the answers that are calls of their own.
    """
    by_id = {row["id"]: {name: row[name] for name in _COLUMNS} for row in rows}

    def made(batch: Sequence[tuple[Question, Clip]]) -> Iterator[Row]:
        requests = []
        for question, clip in batch:
            error = f"no media found for {question.video}" if clip.missing else clip.error
            if error is None:
                requests.append(Request(question.question, clip.frames, clip.indices, question))
            else:
                yield by_id[question.id] | _result(None, error=error)
        if draws is None:
            answers: Iterator[Answer] = answer_batches(model, [requests], params)
        else:
            answers = draws.draw(requests, model, params)
        for answer in _in_order(requests, answers):
            assert answer.request.question is not None
            row = by_id[answer.request.question.id] | _result(
                answer.request.indices, answer.texts, answer.error
            )
            if any(answer.reasoning):
                row["reasoning"] = list(answer.reasoning)
            if any(answer.partial):
                row["partial"] = list(answer.partial)
            yield row

    clips = decode_clips(map(_question, rows), frames if model.needs_frames else None)
    with contextlib.closing(clips):
        for batch in _steps(clips, step):
            yield made(batch)


def _steps(clips: Iterable[Clip], step: int) -> Iterator[list[tuple[Question, Clip]]]:
    """Yield `step` questions after the other, fewer where their clips' frames take much memory."""
    batch: list[tuple[Question, Clip]] = []
    held = 0
    for clip in clips:
        size = 0 if clip.frames is None else clip.frames.nbytes
        if batch and held + size > FRAME_BYTES:
            yield batch
            batch, held = [], 0
        held += size
        for question in clip.questions:
            batch.append((question, clip))
            if len(batch) == step:
                yield batch
                batch, held = [], size
    if batch:
        yield batch


class _Draws:
    """Answers that are calls of their own: each is kept from the moment it comes."""

    def __init__(self, log: KeyedLog, k: int) -> None:
        self.log = log
        self._k = k

    def missing(self, question: str, of: str) -> list[int]:
        """Return the numbers of the answers that `question`, of the id `of`, still lacks."""
        return [n for n in range(self._k) if not self._is_kept(f"{of}/{n}", {"question": question})]

    def _is_kept(self, key: str, asked: Row) -> bool:
        row = self.log.rows.get(key)
        return row is not None and row["error"] is None and row == row | asked

    def draw(
        self, requests: Sequence[Request], model: Model, params: SamplingParams
    ) -> Iterator[Answer]:
        """Yield each request with all its answers, or why some failed, once all are there."""
        parts: list[Request] = []
        open_parts: Counter[str] = Counter()
        by_id: dict[str, Request] = {}
        for request in requests:
            asked = self._asked(request)
            by_id[asked["id"]] = request
            wanted = [
                replace(request, number=number)
                for number in range(self._k)
                if not self._is_kept(f"{asked['id']}/{number}", asked)
            ]
            parts += wanted
            open_parts[asked["id"]] = len(wanted)
            if not wanted:
                yield self._whole(request)
        for part in answer_batches(model, [parts], params) if parts else ():
            asked = self._asked(part.request)
            row = {"number": part.request.number, "text": part.text, "error": part.error}
            row |= {
                name: next(iter(getattr(part, name)), None) for name in ("reasoning", "partial")
            }
            self.log.append(asked | row)
            open_parts[asked["id"]] -= 1
            if not open_parts[asked["id"]]:
                yield self._whole(by_id[asked["id"]])

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

    def _whole(self, request: Request) -> Answer:
        """Return all answers to a request, from the log."""
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


def _result(
    indices: Sequence[int] | None, texts: Sequence[str] = (), error: str | None = None
) -> Row:
    return {"frame_indices": list(indices or ()), "candidates": list(texts), "error": error}


def _in_order(requests: Sequence[Request], answers: Iterable[Answer]) -> Iterator[Answer]:
    """Put the answers of a served model, which come in any order, in that of their requests."""
    waiting: dict[int, Answer | None] = {id(request): None for request in requests}
    try:
        for answer in answers:
            waiting[id(answer.request)] = answer
            while waiting and (first := next(iter(waiting.values()))) is not None:
                del waiting[id(first.request)]
                yield first
    except UserError:
        # Paid for: those after the first one that lacks an answer.
        yield from (answer for answer in waiting.values() if answer is not None)
        raise


def _report(rows: list[Row]) -> CandidatesReport:
    failures = Counter(row["error"] for row in rows if row["error"] is not None)
    return CandidatesReport(
        n_questions=len(rows),
        n_videos=len({row["video"] for row in rows}),
        n_failed=failures.total(),
        n_candidates=sum(len(row["candidates"]) for row in rows),
        failures=dict(failures),
    )
