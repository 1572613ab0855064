"""Several answers of a model to each question: the first step of the reward loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from sharegptvideo._concurrency import Progress
from sharegptvideo.build.engines import run_stage
from sharegptvideo.build.model_stage import ModelChoice, OpenModelStage, frames_for, model_settings
from sharegptvideo.build.stage import Context, EngineOptions, OpenStage, Row, Stage, input_hash
from sharegptvideo.endpoint import EndpointOptions, Estimate
from sharegptvideo.errors import UserError
from sharegptvideo.models import Answer, Question, Request, SamplingParams
from sharegptvideo.models.asking import Turn
from sharegptvideo.models.batches import Clip
from sharegptvideo.models.served import Send

__all__ = ["Candidates", "CandidatesReport", "sample_candidates"]

_NEEDED = ("id", "video", "question", "answer")
_COLUMNS = ("id", "video", "source", "question", "answer", "caption")
_FRAMES = 8  # of a clip, where neither the model nor the user says how many
_ROWS = 96  # answers decoded at once, at the least
_EARLIER_DRAWS = "candidates_draws.jsonl"  # of versions without a store of replies


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


@dataclass(frozen=True, slots=True)
class Candidates(Stage):
    """Answers to each question, `model.params.n` of them.

    Attributes:
        model: that answers.
        frames: how many frames of a clip it is given, where it was made for no number of them;
            default: 8.
    """

    model: ModelChoice
    frames: int | None = None

    name: ClassVar[str] = "candidates"
    version: ClassVar[int] = 1

    @property
    def k(self) -> int:
        """How many answers each question gets."""
        return self.model.params.n

    def open(self, context: Context) -> OpenStage:
        """Open the model, if it can give so many answers to a question."""
        return _OpenCandidates(self, context)

    def units(self, rows: Iterable[Row]) -> Iterator[Sequence[Row]]:
        """Yield the questions on each clip, the clips in the order in which they first come.

        A unit is what is decoded at once at the most, so that many questions on a clip are no
        reason to keep answers waiting.
        """
        groups: dict[tuple[str, str | None], list[Row]] = {}
        for row in rows:
            groups.setdefault((row["video"], row["video_path"]), []).append(row)
        most = max(1, (self.model.batch_size or _ROWS) // self.k)
        for group in groups.values():
            for start in range(0, len(group), most):
                yield group[start : start + most]

    def hash_of(self, row: Row) -> str:
        """Return what stands for a question with its reference and its caption."""
        return input_hash({name: row.get(name) for name in _COLUMNS})

    def input_of(self, row: Row) -> str | None:
        """Return the same of a row of the log, whose versions before this one had no `made`."""
        return self.hash_of(row) if row["error"] is None else None


class _OpenCandidates(OpenModelStage):
    takes_files = True

    def __init__(self, settings: Candidates, context: Context) -> None:
        super().__init__(settings, settings.model, context, prompt=None)
        model = self.model
        if settings.k > 1 and not model.gives_samples:
            raise UserError(
                f"model {model.spec}: a file has one answer to a question; take -k 1, or a model"
                " that can be asked again"
            )
        # Of a GPU a multiple of its slots, so that the last answers of a batch hold up few.
        answers = max(settings.model.batch_size or _ROWS, 4 * model.width)
        self.ask_in_steps(max(1, answers // settings.k))
        self._shown = frames_for(model, settings.frames, _FRAMES)
        self.frames = self._shown if model.needs_frames else None
        self._before: Mapping[str, Any] | None = None

    async def __call__(self, rows: Sequence[Row], turn: Turn) -> list[Row]:
        clip = turn.clip or Clip()
        error = f"no media found for {rows[0]['video']}" if clip.missing else clip.error
        if error is not None:
            return [self._row(row, Answer(Request(""), error=error), asked=False) for row in rows]
        requests = [
            Request(row["question"], clip.frames, clip.indices, _question(row), sent=clip.sent)
            for row in rows
        ]
        answers = await turn.ask(requests, self.params)
        return [self._row(row, answer) for row, answer in zip(rows, answers, strict=True)]

    def _row(self, row: Row, answer: Answer, *, asked: bool = True) -> Row:
        indices = list(answer.request.indices or ())
        made: Row = {name: row[name] for name in _COLUMNS} | {
            "frame_indices": indices,
            "candidates": list(answer.texts),
            "error": answer.error,
        }
        if any(answer.reasoning):
            made["reasoning"] = list(answer.reasoning)
        if any(answer.partial):
            made["partial"] = list(answer.partial)
        return made | {"made": self.made(row, [answer] * asked, frame_indices=indices)}

    def go_on(self, recorded: Mapping[str, Any]) -> None:
        self._before = recorded
        super().go_on(recorded)

    def describe(self) -> Row:
        """Return the model, the frames of a clip and the sampling, as earlier versions did."""
        settings = model_settings(self.model)
        before = self._before
        if before is not None and "send" not in before and settings.get("send") == "pictures":
            del settings["send"]  # as an earlier version wrote them
        sampling = asdict(self.params)
        return settings | {"frames": self._shown, "k": sampling.pop("n")} | sampling

    def check(self, rows: Iterable[Row]) -> None:
        # Answers that lie in a file are looked for there.
        every = [] if self.model.needs_frames else [_question(row) for row in rows]
        self.model.check(every, every)

    def estimate(self, rows: Iterable[Row]) -> Estimate:
        prompts = (row["question"] for row in rows)
        return self.model.estimate(prompts, frames=self._shown, params=self.params)

    def figures(self, rows: Iterable[Row]) -> Row:
        n_questions = n_candidates = 0
        videos = set()
        for row in rows:
            n_questions += 1
            n_candidates += len(row["candidates"])
            videos.add(row["video"])
        return {
            "n_questions": n_questions,
            "n_videos": len(videos),
            "n_candidates": n_candidates,
            "refused": [*self.model.refused] or None,
        }


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
    engine: str | EngineOptions = "local",
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
    reasoning [text or null], where a failed reply held something partial [text or null], made (see
    `provenance`); and the settings, then the report, in `out/candidates.json`. Each answer of a
    server stands in `out/replies` from the moment it comes.

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
        engine: what runs it, see `run_stage`.
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
    params = SamplingParams(k, temperature, top_p, max_new_tokens, seed)
    choice = ModelChoice(str(model), params, base_url, send, batch_size)
    endpoint = endpoint or EndpointOptions()
    _say_what_is_left_aside(out, endpoint)
    report = run_stage(
        Candidates(choice, frames),
        _questions(rows),
        out,
        engine=engine,
        endpoint=endpoint,
        progress=progress,
    )
    return CandidatesReport(
        **report.figures, n_failed=report.n_failed, failures=dict(report.failures)
    )


def _say_what_is_left_aside(out: Path, endpoint: EndpointOptions) -> None:
    """Report answers that an earlier version kept apart until their question had all of them."""
    draws = out / _EARLIER_DRAWS
    if draws.is_file() and endpoint.report is not None:
        endpoint.report(
            f"{draws}: answers that an earlier version kept, of questions that are not done; this"
            f" one keeps them in {out / 'replies'}, and asks for these again"
        )


def _questions(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Return the questions by video, the videos in the order in which they first come."""
    groups: dict[str, list[Row]] = {}
    for number, row in enumerate(rows, start=1):
        absent = [name for name in _NEEDED if not row.get(name)]
        if absent:
            raise UserError(f"row {number} ({row.get('id')}): no {', '.join(absent)}")
        question = {name: row.get(name) for name in (*_COLUMNS, "video_path")}
        video = str(row["video"])
        groups.setdefault(video, []).append(question | {"video": video})
    if not groups:
        raise UserError("no questions to answer; is this the right split?")
    return [question for group in groups.values() for question in group]


def _question(row: Row) -> Question:
    return Question(
        id=row["id"],
        task="qa",
        video=row["video"],
        question=row["question"],
        answer=row["answer"],
        caption=row["caption"],
        video_path=row["video_path"],
    )
