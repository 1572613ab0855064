"""What a stage of building is, and what it starts from: rows, or the file of the stage before it.

A stage's settings and its report are kept beside its rows.
"""

from __future__ import annotations

import abc
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from sharegptvideo import __version__
from sharegptvideo._io import LatestRows, dumps
from sharegptvideo._runs import RunDir, RunKind
from sharegptvideo.data.load import read_rows
from sharegptvideo.data.sources import world_folder
from sharegptvideo.endpoint import EndpointOptions, Estimate
from sharegptvideo.errors import UserError
from sharegptvideo.models.asking import SilentTurn, Turn
from sharegptvideo.models.base import Answer, Model, SamplingParams, short_hash
from sharegptvideo.models.batches import Clip, read_clip

__all__ = [
    "Context",
    "EngineOptions",
    "LatestRows",
    "OpenStage",
    "OwnServer",
    "Row",
    "Stage",
    "begin",
    "input_hash",
    "provenance",
    "read_questions",
    "recorded",
    "stage_file",
    "with_captions",
]

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What runs a stage over rows.

    Attributes:
        name: of `ENGINES`.
        ray_address: of the cluster that `ray` joins; None: one on this machine.
        actors: processes at work under `ray`; None: as many as it has room for.
        actor_cpus: CPUs that each of these is given; None: one, or less where there are fewer.
        vllm: whether an hf: model is served by vLLM under `ray` where that can be.
    """

    name: str = "local"
    ray_address: str | None = None
    actors: int | None = None
    actor_cpus: float | None = None
    vllm: bool = True

    def __post_init__(self) -> None:
        """Check that the options go together.

        Raises:
            UserError: they do not.
        """
        options = (self.ray_address, self.actors, self.actor_cpus)
        if self.name != "ray" and options != (None, None, None):
            raise UserError("--ray-address, --actors and --actor-cpus are for --engine ray")
        if self.name != "ray" and not self.vllm:
            raise UserError("--no-vllm is for --engine ray; no other engine takes vLLM")
        if self.actors is not None and self.actors < 1:
            raise UserError(f"actors must be at least 1, got {self.actors}")
        if self.actor_cpus is not None and not 0 < self.actor_cpus < math.inf:
            raise UserError(f"actor-cpus must be above 0, got {self.actor_cpus}")


@dataclass(frozen=True, slots=True)
class OwnServer:
    """A server that this process has started to answer for its hf: model.

    Attributes:
        model: the name that it knows the model by.
        base_url: where it is.
    """

    model: str
    base_url: str


@dataclass(frozen=True, slots=True)
class Context:
    """Where a stage is opened.

    Attributes:
        endpoint: speed, money, store and cache of its calls.
        engine: what runs it.
        server: what answers for an hf: model; None: it is loaded in this process.
    """

    endpoint: EndpointOptions = field(default_factory=EndpointOptions)
    engine: EngineOptions = field(default_factory=EngineOptions)
    server: OwnServer | None = None


class Stage(abc.ABC):
    """The settings of a stage: plain values, so that an engine can open it in another process.

    Attributes:
        name: of the stage, its log (`NAME.jsonl`) and its settings (`NAME.json`).
        version: goes up with whatever changes what comes out.
    """

    name: ClassVar[str]
    version: ClassVar[int]

    @abc.abstractmethod
    def open(self, context: Context) -> OpenStage:
        """Open models and clients; cheap, and asks nothing yet.

        Raises:
            UserError: a mistake in the settings.
        """

    def units(self, rows: Iterable[Row]) -> Iterator[Sequence[Row]]:
        """Yield what the function takes at once: a row, or those that share a clip."""
        for row in rows:
            yield [row]

    def hash_of(self, row: Row) -> str:
        """Return what stands for an input; another one is made again."""
        return input_hash(row)

    def input_of(self, row: Row) -> str | None:
        """Return the hash of what a row of the log was made of; None if it is to be made again."""
        made: str = row["made"]["input"]
        return made if row["error"] is None else None

    def export(self, row: Row) -> Sequence[Row]:
        """Return the dataset's rows in one row of the log, none for a failed one."""
        return () if row["error"] is not None else ({k: v for k, v in row.items() if k != "error"},)


class OpenStage(abc.ABC):
    """A stage at work: one async function from rows to rows, the same for every engine.

    Attributes:
        settings: what it was opened from.
        width: units to have under way at once.
        step: rows that are begun together, in whole units, see `Asker`.
        frames: how many of a unit's clip its turn has; None: none, no clip is opened.
        model: what these are shown to.
    """

    settings: Stage
    width: int = 1
    step: int = 1
    frames: int | None = None
    model: Model | None = None

    @abc.abstractmethod
    async def __call__(self, rows: Sequence[Row], turn: Turn) -> list[Row]:
        """Return a row of the log for each row of a unit, whose clip is `turn.clip`.

        Each has the `id` of the row that it is made of, `error` (null, or why nothing was made),
        and `made` (see `provenance`). It depends on the row, the settings and the model only.

        Raises:
            UserError: nothing more can be made (a server is gone, the money is spent).
        """

    def turns(self, count: int) -> Sequence[Turn]:
        """Return what the next `count` units ask with, see `Asker.turns`; here no model."""
        return [SilentTurn() for _ in range(count)]

    @abc.abstractmethod
    def describe(self) -> Row:
        """Return the settings that identify the results: model, prompt version and hash, sampling.

        May take long, where weights are hashed.
        """

    def check(self, rows: Iterable[Row]) -> None:  # noqa: B027 - for stages that can know better
        """Find out, before anything is written, whether the rows can be worked on.

        Not called where results are there and no row is left to be made.

        Raises:
            UserError: they cannot.
        """

    def go_on(self, recorded: Row) -> None:  # noqa: B027 - most have nothing to do
        """Take over from the settings of results that are there what only asking shows."""

    def estimate(self, rows: Iterable[Row]) -> Estimate:  # noqa: ARG002 - for those that cost
        """Return what the rows will take, from the length of what is asked; asks nothing."""
        return Estimate()

    def prepare(self, rows: Iterable[Row]) -> None:  # noqa: B027 - most have nothing to do
        """Do, before the first row, what is done once for all that are to be made.

        Raises:
            UserError: nothing can be made.
        """

    def read(self, rows: Sequence[Row]) -> Clip:
        """Return the clip of a unit; called ahead, in several threads, where `frames` is set."""
        assert self.frames is not None
        return read_clip(rows[0].get("video_path"), self.frames, self.model)

    def figures(self, rows: Iterable[Row]) -> Row:  # noqa: ARG002 - for those that have some
        """Return what the report says of the log's rows beside what all stages count."""
        return {}

    async def close(self) -> None:  # noqa: B027 - most have nothing to do
        """Free what belongs to the running event loop."""


_SAMPLING = ("temperature", "top_p", "max_new_tokens", "seed")


def input_hash(row: Row) -> str:
    """Return 16 hex digits that stand for an input, wherever its clip lies."""
    return short_hash(dumps({k: v for k, v in row.items() if k != "video_path"}))


def provenance(
    stage: Stage,
    row: Row,
    *,
    model: str,
    prompt: tuple[int, str] | None,
    params: SamplingParams | None,
    answers: Sequence[Answer],
    context: Context,
    frame_indices: Sequence[int] | None = None,
) -> Row:
    """Return the `made` of a row of the log: where it came from and what it cost.

    No times are in it: the same work gives the same bytes.

    Args:
        stage: that made it.
        row: that it was made of.
        model: that was asked.
        prompt: version and hash; None where the row itself is what was asked.
        params: of sampling.
        answers: all that were asked for, repairs and failures included; none where nothing was.
        context: of the stage.
        frame_indices: of the clip's frames that were sent.
    """
    usages = [answer.usage for answer in answers if answer.usage is not None]
    dollars = [answer.dollars for answer in answers if answer.dollars is not None]
    cached = [usage["cached_tokens"] for usage in usages if usage["cached_tokens"] is not None]
    return {
        "stage": stage.name,
        "version": stage.version,
        "parents": [row["id"]],
        "input": stage.hash_of(row),
        "model": model,
        "answered_by": sorted({each.answered_by for each in answers if each.answered_by}),
        "prompt_version": prompt and prompt[0],
        "prompt_hash": prompt and prompt[1],
        "sampling": params and {name: getattr(params, name) for name in _SAMPLING},
        "frame_indices": None if frame_indices is None else [int(each) for each in frame_indices],
        "tokens": {
            "prompt": sum(usage["prompt_tokens"] or 0 for usage in usages),
            "cached": sum(cached) if cached else None,
            "completion": sum(usage["completion_tokens"] or 0 for usage in usages),
        },
        "dollars": sum(dollars) if dollars else None,
        "requests": len(answers),
        "attempts": sum(answer.attempts for answer in answers),
        "engine": context.engine.name,
        "package_version": __version__,
    }


def read_questions(
    data_dir: str | Path,
    *,
    split: str = "train",
    media: str | Path | None = None,
    limit: int | None = None,
) -> list[Row]:
    """Rows of the config `qa` with `video_path` and, where the folder has it, the caption.

    Args:
        data_dir: a folder in the release layout, or "synthetic".
        split: "train", "validation" or "train+validation".
        media: the folder with the clips; default: `data_dir`.
        limit: take the first rows only.

    Raises:
        UserError: no such folder, no questions in it, a broken line.
    """
    root = world_folder() if str(data_dir) == "synthetic" else Path(data_dir)
    rows = read_rows("qa", root, split, media=root if media is None else media)
    questions = list(itertools.islice(rows, limit))
    if all(row["caption"] for row in questions):
        return questions
    captions = read_rows("captions", root, "train+validation")
    wanted = {row["video"] for row in questions}
    return list(with_captions(questions, (row for row in captions if row["video"] in wanted)))


def with_captions(
    rows: Iterable[Mapping[str, Any]], captions: Iterable[Mapping[str, Any]]
) -> Iterator[Row]:
    """Give each row that has no caption the first one of its video, where `captions` has it.

    The release keeps captions and questions in separate files; the judge needs both.
    """
    by_video: dict[str, str] = {}
    for row in captions:
        by_video.setdefault(str(row["video"]), row["caption"])
    for row in rows:
        yield dict(row) | {"caption": row.get("caption") or by_video.get(str(row["video"]))}


def stage_file(path: Path, name: str) -> Path:
    """Return the finished file of an earlier step: `path` itself, or `path/name` in a folder.

    Raises:
        UserError: there is no such file, or the step that writes it has not come to its end.
    """
    file = path / name if path.is_dir() else path
    step = Path(name).stem
    if not file.is_file():
        raise UserError(f"{file}: not found; make it with `sharegptvideo build {step}`")
    notes = replace(_STEP, file=f"{step}.json")
    if file.name == name and not notes.is_finished(file.parent):
        raise UserError(
            f"{file} is not finished; run `sharegptvideo build {step} --out {file.parent}` "
            "again, with the options it had"
        )
    return file


def recorded(notes: Path) -> Row | None:
    """Return the settings of the results there, None where a step has not begun.

    Raises:
        UserError: `notes` is no such file.
    """
    contents = replace(_STEP, file=notes.name).read(notes.parent)
    return None if contents is None else dict(contents["settings"])


def begin(
    notes: Path, settings: Row | Callable[[], Row], *, may_change: Collection[str] = ()
) -> RunDir:
    """Write a step's settings beside its results, or check that they are the ones there.

    Those in `may_change` may differ. See `RunDir` for settings that take long to find out.

    The step counts as finished once the folder's `finish` has written its report.

    Raises:
        UserError: results made with other settings lie there; names those that differ.
    """
    # Several steps share a folder, each with its notes: what else lies there is not foreign.
    kind = replace(_STEP, file=notes.name)
    return RunDir(notes.parent, settings, kind, may_change=may_change)


_STEP = RunKind(
    name="build step",
    other="results of other settings",
    section="settings",
    foreign=None,
)
