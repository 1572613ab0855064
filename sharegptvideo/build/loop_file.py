"""The file of a loop: which stages, with what models and settings, and what they start from."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from sharegptvideo._io import (
    dumps,
    os_errors,
    parse_yaml,
    read_json_object,
    read_text,
    sha256_file,
    sha256_text,
    write_text,
)
from sharegptvideo._runs import differences
from sharegptvideo._strict import StrictModel, key_problems
from sharegptvideo._text import and_more
from sharegptvideo.build.captions import CaptionStage, caption_wording
from sharegptvideo.build.clips import Clips, clips_in_folder, with_titles
from sharegptvideo.build.finish import FinishOptions
from sharegptvideo.build.gates import GateSettings
from sharegptvideo.build.model_stage import ModelChoice
from sharegptvideo.build.outputs import DATASET_FILE, FILES
from sharegptvideo.build.qa import Captions, QaStage, qa_wording, read_captions
from sharegptvideo.build.report import STAGES, read_report
from sharegptvideo.build.stage import Context, Row, read_questions
from sharegptvideo.endpoint import EndpointOptions
from sharegptvideo.errors import UserError
from sharegptvideo.judges import JudgeChoice
from sharegptvideo.models import SamplingParams
from sharegptvideo.models.served import Send

__all__ = [
    "CandidatesStep",
    "CaptionsStep",
    "Loop",
    "ModelStep",
    "PreferencesStep",
    "QaStep",
    "RewardsStep",
    "captions_of",
    "check_step",
    "checked_loop",
    "clips_of",
    "common_loop",
    "endpoint_of",
    "identity_of",
    "is_finished",
    "judge_of",
    "load_loop",
    "questions_of",
    "write_loop",
]


class ModelStep(StrictModel):
    """What stages have that ask a model: those of `build captions`, `qa` and `candidates`."""

    model: str
    base_url: str | None = None
    max_new_tokens: int = Field(default=1024, ge=1)
    batch_size: int | None = Field(default=None, ge=1)

    def choice(self, loop: Loop, temperature: float, send: Send = "auto") -> ModelChoice:
        """Return the model as a stage takes it."""
        params = SamplingParams(
            temperature=temperature, max_new_tokens=self.max_new_tokens, seed=loop.seed
        )
        served = self.model.startswith("openai:")
        url = self.base_url or (loop.base_url if served else None)
        return ModelChoice(self.model, params, url, send, self.batch_size)


class CaptionsStep(ModelStep):
    """A caption of each clip; see `build captions --help`."""

    frames: int | None = Field(default=None, ge=1)
    titles: str | None = None
    prompt: str | None = None
    temperature: float = Field(default=0.0, ge=0)
    send: Send = "auto"

    def stage(self, loop: Loop) -> CaptionStage:
        """Return the stage."""
        wording = caption_wording(None if self.prompt is None else Path(self.prompt))
        return CaptionStage(self.choice(loop, self.temperature, self.send), self.frames, wording)


class QaStep(ModelStep):
    """Questions and answers made of each caption; see `build qa --help`."""

    n: int = Field(default=3, ge=1)
    kinds: tuple[str, ...] = ()
    difficulty: str | None = None
    prompt: str | None = None
    temperature: float = Field(default=0.0, ge=0)

    def stage(self, loop: Loop) -> QaStage:
        """Return the stage."""
        wording = qa_wording(None if self.prompt is None else Path(self.prompt))
        choice = self.choice(loop, self.temperature)
        return QaStage(choice, self.n, self.kinds, self.difficulty, wording)


class CandidatesStep(ModelStep):
    """Several answers to each question; see `build candidates --help`."""

    k: int = Field(default=6, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    top_p: float = Field(default=0.95, gt=0, le=1)
    max_new_tokens: int = Field(default=256, ge=1)
    frames: int | None = Field(default=None, ge=1)
    send: Send = "auto"


class RewardsStep(StrictModel):
    """A score of each answer; see `build rewards --help`."""

    judge: str = "answer-match"
    base_url: str | None = None


class PreferencesStep(StrictModel):
    """Pairs of a better and a worse answer; see `build preferences --help`."""

    threshold: float = 3.0


class Loop(StrictModel):
    """A file of `build run`: stages with their settings, and what they share.

    `out` is the folder to write. `videos` holds the clips. Where `captions` are not made here,
    `input` is a folder with what the first stage starts from: captions in the release's layout for
    `qa`, questions for `candidates`, else the folder of the stage before; `split` and `limit` take
    some of its rows (`limit` some of the videos, where captions are made). `no_gate` names quality
    gates that are not applied, `against` folders with test sets that nothing may leak from;
    `keep_all` keeps rows that a gate flags, marked. `engine`, `ray_address`, `actors`,
    `actor_cpus` and `vllm` say what runs the stages; the rest how servers are asked, for all
    stages together: `max_cost` in US dollars.
    """

    out: str
    videos: str | None = None
    input: str | None = None
    split: str = "train"
    limit: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)
    no_gate: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    keep_all: bool = False
    captions: CaptionsStep | None = None
    qa: QaStep | None = None
    candidates: CandidatesStep | None = None
    rewards: RewardsStep | None = None
    preferences: PreferencesStep | None = None
    engine: Literal["local", "ray"] = "local"
    ray_address: str | None = None
    actors: int | None = Field(default=None, ge=1)
    actor_cpus: float | None = Field(default=None, gt=0)
    vllm: bool = True
    base_url: str | None = None
    concurrency: int = Field(default=32, ge=1)
    rpm: float | None = Field(default=None, gt=0)
    tpm: float | None = Field(default=None, gt=0)
    max_cost: float | None = Field(default=None, ge=0)
    prices: str | None = None
    cache: bool = True

    @model_validator(mode="after")
    def _in_a_row(self) -> Self:
        names = list(self.steps)
        if not names:
            raise ValueError(f"no stage; give some of {', '.join(STAGES)}")
        first, last = STAGES.index(names[0]), STAGES.index(names[-1])
        if missing := [name for name in STAGES[first:last] if name not in names]:
            raise ValueError(
                f"{', '.join(missing)} between {names[0]} and {names[-1]}: a stage starts from the "
                "one before; give its settings too"
            )
        if names[0] == "captions" and self.videos is None:
            raise ValueError("videos is missing: the folder with the clips")
        if names[0] == "captions" and self.input is not None:
            raise ValueError("input is for loops that do not begin with captions; leave it out")
        if names[0] != "captions" and self.input is None:
            raise ValueError(f"input is missing: the folder that {names[0]} starts from")
        if self.engine != "ray" and (self.ray_address or self.actors or self.actor_cpus):
            raise ValueError("ray_address, actors and actor_cpus are for engine: ray")
        if self.engine != "ray" and not self.vllm:
            raise ValueError("vllm: false is for engine: ray; no other engine takes vLLM")
        return self

    @property
    def steps(self) -> dict[str, StrictModel]:
        """The stages that there are, in their order."""
        steps = {
            "captions": self.captions,
            "qa": self.qa,
            "candidates": self.candidates,
            "rewards": self.rewards,
            "preferences": self.preferences,
        }
        return {name: step for name, step in steps.items() if step is not None}

    @property
    def folder(self) -> Path:
        """The folder to write."""
        return Path(self.out).expanduser()

    @property
    def finish(self) -> FinishOptions:
        """What is left out of the datasets."""
        return FinishOptions(
            GateSettings(without=self.no_gate),
            [Path(folder) for folder in self.against],
            [Path(self.videos)] if self.videos else [],
            self.keep_all,
        )

    def before(self, name: str) -> Path:
        """Return the folder with what a stage starts from."""
        is_first = name == next(iter(self.steps))
        return Path(self.input).expanduser() if is_first and self.input else self.folder

    def limit_of(self, name: str) -> int | None:
        """Return how many rows a stage takes at the most: all but for the first one."""
        return self.limit if name == next(iter(self.steps)) else None


def load_loop(file: Path) -> Loop:
    """Read a loop's file and check all of it.

    Raises:
        UserError: not YAML, or one message with every unknown key (and its nearest names), bad
            value and missing field.
    """
    content = parse_yaml(str(file), read_text(file, "name a file with a loop; see --help"))
    return checked_loop(str(file), content)


def checked_loop(where: str, content: object) -> Loop:
    """Return a loop of what a file or a command says; `where` begins each error."""
    if not isinstance(content, dict):
        raise UserError(f"{where}: a loop is a mapping of keys to values")
    try:
        return Loop.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{where}: {'; '.join(key_problems(error, Loop))}") from error


def common_loop(
    videos: Path,
    out: Path,
    *,
    captioner: str,
    judge: str,
    questioner: str | None = None,
    answerer: str | None = None,
    base_url: str | None = None,
) -> Loop:
    """Return a loop of all stages over one's own videos; the captioner stands in for who is None.

    Raises:
        UserError: a mistake in one of them.
    """
    content = {
        "videos": str(videos),
        "out": str(out),
        "base_url": base_url,
        "captions": {"model": captioner},
        "qa": {"model": questioner or captioner},
        "candidates": {"model": answerer or captioner},
        "rewards": {"judge": judge},
        "preferences": {},
    }
    return checked_loop("loop", content)


def write_loop(loop: Loop) -> Path:
    """Write a loop's file into its folder, `loop.yaml`; one with the same settings stays.

    Raises:
        UserError: one with other settings is there.
    """
    file = loop.folder / "loop.yaml"
    if file.is_file():
        there = load_loop(file).model_dump(mode="json")
        changes = list(differences(there, loop.model_dump(mode="json")))
        if changes:
            raise UserError(
                f"{file}: has other settings: {and_more(changes)}; run it with `sharegptvideo "
                f"build run {file}`, or give another --to"
            )
        return file
    content = loop.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
    with os_errors(file, "give another --to"):
        write_text(file, f"# sharegptvideo build run {shlex.quote(str(file))}\n{text}")
    return file


def endpoint_of(
    loop: Loop,
    confirm: Callable[[str], bool] | None = None,
    report: Callable[[str], None] | None = None,
) -> EndpointOptions:
    """Return the options that all stages share; what earlier sittings spent counts."""
    options = EndpointOptions(
        concurrency=loop.concurrency,
        rpm=loop.rpm,
        tpm=loop.tpm,
        max_cost=loop.max_cost,
        prices=None if loop.prices is None else Path(loop.prices),
        cache=loop.cache,
        confirm=confirm,
        report=report,
    )
    if loop.max_cost is not None and any(
        (loop.folder / f"{name}.json").is_file() for name in STAGES
    ):
        options.budget.spent = read_report(loop.folder).replies["dollars"] or 0.0
    return options


def is_finished(loop: Loop, name: str) -> bool:
    """Return whether the results of a stage are there, whole, and the dataset made of them."""
    notes, dataset = loop.folder / f"{name}.json", FILES.get(name)
    if not notes.is_file() or (dataset is not None and not (loop.folder / dataset).is_file()):
        return False
    contents = read_json_object(notes)
    return "settings" not in contents or contents.get("report") is not None


def identity_of(loop: Loop, name: str) -> str:
    """Return what stands for a stage's settings and inputs."""
    step = loop.steps[name].model_dump(mode="json")
    keys = {"seed", "keep_all", "no_gate", "against", "base_url"}
    shared = loop.model_dump(mode="json", include=keys) | {"limit": loop.limit_of(name)}
    return sha256_text(dumps([step, shared, _inputs_of(loop, name)]))


def _inputs_of(loop: Loop, name: str) -> Any:
    """Return what changes when a stage's inputs do."""
    folder = loop.before(name)
    if name == "captions":
        return [(row["id"], *_stat(Path(row["video_path"]))) for row in clips_of(loop)]
    if name in ("rewards", "preferences"):
        log = {"rewards": "candidates.jsonl", "preferences": "rewards.jsonl"}[name]
        return sha256_file(folder / log) if (folder / log).is_file() else None
    config = {"qa": "captions", "candidates": "qa"}[name]
    record = folder / DATASET_FILE
    written = read_json_object(record).get(config) if record.is_file() else None
    return [loop.split, written["files"] if written else _fingerprint(folder, config)]


def _stat(path: Path) -> tuple[int, int]:
    with os_errors(path, action="read"):
        stat = path.stat()
    return stat.st_size, int(stat.st_mtime)


def _fingerprint(folder: Path, config: str) -> list[str]:
    from sharegptvideo.data.schema import config_of
    from sharegptvideo.data.sources import open_source

    return open_source(config_of(config), folder).fingerprint(config_of(config))


def clips_of(loop: Loop) -> Clips:
    """Return the clips to be captioned."""
    assert loop.videos is not None
    assert loop.captions is not None
    clips = clips_in_folder(Path(loop.videos), loop.limit)
    if loop.captions.titles is not None:
        clips, _ = with_titles(clips, Path(loop.captions.titles))
    return clips


def captions_of(loop: Loop) -> Captions:
    """Return the captions that questions are made of."""
    return read_captions(loop.before("qa"), split=loop.split, limit=loop.limit_of("qa"))


def questions_of(loop: Loop) -> list[Row]:
    """Return the questions that are answered, with the paths of their clips."""
    folder = loop.before("candidates")
    return read_questions(
        folder,
        split=loop.split,
        media=Path(loop.videos) if loop.videos else folder,
        limit=loop.limit_of("candidates"),
    )


def check_step(loop: Loop, name: str) -> None:
    """Find the mistakes in a stage's settings that show without its inputs; ask nothing."""
    context = Context(EndpointOptions())
    if name in ("captions", "qa"):
        loop.finish.gates.gates("captions")
    if name == "captions" and loop.captions:
        loop.captions.stage(loop).open(context)
        clips_of(loop)
    elif name == "qa" and loop.qa:
        loop.qa.stage(loop).open(context)
    elif name == "candidates" and loop.candidates:
        step = loop.candidates
        step.choice(loop, step.temperature, step.send).open(context.endpoint)
    elif name == "rewards" and loop.rewards:
        judge_of(loop).open(context.endpoint)


def judge_of(loop: Loop) -> JudgeChoice:
    """Return the judge that scores the answers."""
    assert loop.rewards is not None
    return JudgeChoice(loop.rewards.judge, loop.rewards.base_url or loop.base_url)
