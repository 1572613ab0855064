"""All stages of building in one file: their settings, what they will take, one budget for all.

Each stage starts from what the one before it wrote into the same folder, and is what its own
command does. A stage that is finished is not begun again, as long as its settings and its inputs
are the same; so a loop that was stopped in any way goes on where it was.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharegptvideo._concurrency import Progress
from sharegptvideo._io import (
    os_errors,
    read_json_object,
    write_json,
)
from sharegptvideo._text import plural
from sharegptvideo.build.candidates import sample_candidates
from sharegptvideo.build.engines import run_stage
from sharegptvideo.build.finish import finish_stage
from sharegptvideo.build.loop_file import (
    Loop,
    captions_of,
    clips_of,
    endpoint_of,
    identity_of,
    is_finished,
    judge_of,
    questions_of,
)
from sharegptvideo.build.plan import plan_loop
from sharegptvideo.build.preferences import make_pairs
from sharegptvideo.build.rewards import score_candidates
from sharegptvideo.build.stage import EngineOptions, Row, Stage
from sharegptvideo.endpoint import EndpointOptions, Estimate
from sharegptvideo.errors import UserError

__all__ = ["LOOP_FILE", "StageOutcome", "run_loop", "train_command"]

LOOP_FILE = "loop.json"
"""The file in the output folder that says which stages ended, with what settings and inputs."""


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """What became of a stage: rows made of inputs; `before` if an earlier run had done it."""

    stage: str
    inputs: int
    made: int
    failed: int
    before: bool = False

    def as_dict(self) -> Row:
        """Return the outcome as plain JSON values."""
        return {"inputs": self.inputs, "made": self.made, "failed": self.failed}


def run_loop(
    loop: Loop,
    *,
    confirm: Callable[[str], bool] | None = None,
    report: Callable[[str], None] | None = None,
    progress: Progress | None = None,
    retry: bool = False,
) -> list[StageOutcome]:
    """Run the stages of a loop that are not finished; resumable, and nothing is paid for twice.

    Writes what the stages write, all into `loop.folder`, and `loop.json`.

    Args:
        loop: the stages.
        confirm: asked before a stage that may cross `max_cost`; see `EndpointOptions`.
        report: called with lines for the user.
        progress: called with rows done, rows, the stage and its number.
        retry: begin finished stages again whose rows failed in part, to try these once more.

    Raises:
        UserError: a mistake in the settings, more ahead than `max_cost` and no `confirm`, results
            of other settings in the folder, a stage that makes nothing; whatever ends a stage, with
            what was made before kept.
    """
    run = _Run(loop, endpoint_of(loop, confirm, report), report or _silent, progress)
    ahead = [plan.estimate for plan in plan_loop(loop) if plan.estimate is not None]
    run.endpoint.approve(sum(ahead, Estimate()))
    outcomes = []
    for number, name in enumerate(loop.steps, start=1):
        outcome = run.stage(name, f"{number}/{len(loop.steps)} {name}", retry=retry)
        outcomes.append(outcome)
        if not outcome.made:
            raise UserError(
                f"{name}: nothing was made of {plural(outcome.inputs, 'input')}; "
                f"`sharegptvideo build report {loop.out}` says why",
                exit_code=1,
            )
    return outcomes


def _silent(_: str) -> None:
    """Say nothing."""


@dataclass(slots=True)
class _Run:
    """A loop at work."""

    loop: Loop
    endpoint: EndpointOptions
    say: Callable[[str], None]
    progress: Progress | None

    def stage(self, name: str, title: str, *, retry: bool) -> StageOutcome:
        """Run one stage, unless it is finished with the same settings and inputs."""
        identity = identity_of(self.loop, name)
        file = self.loop.folder / LOOP_FILE
        ended = read_json_object(file) if file.is_file() else {}
        before = ended.get(name)
        if before is not None and before["identity"] == identity and is_finished(self.loop, name):
            outcome = StageOutcome(name, **before["outcome"], before=True)
            if not (retry and outcome.failed):
                self.say(f"{title}: finished before")
                return outcome
        outcome = _STAGES[name](self, title)
        ended[name] = {"identity": identity, "outcome": outcome.as_dict()}
        with os_errors(file, "free some space"):
            write_json(file, ended)
        return outcome

    def shown(self, title: str, *, parts: bool = False) -> Progress | None:
        """Return the progress of a stage, under its title; with `parts`, each with its name."""
        progress = self.progress
        if progress is None:
            return None
        return lambda done, total, what: progress(
            done, total, f"{title}: {what}" if parts else title
        )

    @property
    def engine(self) -> EngineOptions:
        """What runs the stages."""
        loop = self.loop
        return EngineOptions(
            loop.engine, loop.ray_address, loop.actors, loop.actor_cpus, vllm=loop.vllm
        )


def _make(run: _Run, title: str, stage: Stage, rows: Any) -> StageOutcome:
    """Run a stage of rows with provenance, and make its dataset."""
    loop = run.loop
    done = run_stage(
        stage,
        rows,
        loop.folder,
        engine=run.engine,
        endpoint=run.endpoint,
        progress=run.shown(title),
    )
    _say_failures(run, title, done.failures, done.n_rows)
    for cause, count in done.figures.get("dropped", {}).items():
        run.say(f"{title}: dropped: {cause} ({count:,})")
    if not done.n_made:
        return StageOutcome(stage.name, done.n_rows, 0, done.n_failed)
    gates, made = finish_stage(stage, loop.folder, loop.finish, run.shown(title, parts=True))
    run.say(f"{title}: {gates.sentence()}{', kept' if made.n_flagged and loop.keep_all else ''}")
    for reason in dict.fromkeys(gates.skipped.values()):
        names = (gate for gate, why in gates.skipped.items() if why == reason)
        run.say(f"{title}: not checked: {', '.join(names)} ({reason})")
    passing = made.n_rows - (made.n_flagged if loop.keep_all else 0)
    return StageOutcome(stage.name, done.n_rows, passing, done.n_failed)


def _say_failures(run: _Run, title: str, failures: Mapping[str, int] | None, rows: int) -> None:
    for cause, count in (failures or {}).items():
        run.say(f"{title}: failed: {cause} ({count:,} of {rows:,})")


def _make_captions(run: _Run, title: str) -> StageOutcome:
    assert run.loop.captions is not None
    return _make(run, title, run.loop.captions.stage(run.loop), clips_of(run.loop))


def _make_qa(run: _Run, title: str) -> StageOutcome:
    assert run.loop.qa is not None
    return _make(run, title, run.loop.qa.stage(run.loop), captions_of(run.loop))


def _make_candidates(run: _Run, title: str) -> StageOutcome:
    loop, step = run.loop, run.loop.candidates
    assert step is not None
    choice = step.choice(loop, step.temperature, step.send)
    done = sample_candidates(
        questions_of(loop),
        step.model,
        loop.folder,
        k=step.k,
        temperature=step.temperature,
        top_p=step.top_p,
        max_new_tokens=step.max_new_tokens,
        batch_size=step.batch_size,
        seed=loop.seed,
        frames=step.frames,
        base_url=choice.base_url,
        send=step.send,
        engine=run.engine,
        endpoint=run.endpoint,
        progress=run.shown(title),
    )
    _say_failures(run, title, done.failures, done.n_questions)
    return StageOutcome("candidates", done.n_questions, done.n_candidates, done.n_failed)


def _make_rewards(run: _Run, title: str) -> StageOutcome:
    done = score_candidates(
        run.loop.before("rewards"),
        judge_of(run.loop),
        run.loop.folder,
        engine=run.engine,
        endpoint=run.endpoint,
        progress=run.shown(title),
    )
    _say_failures(run, title, done.reasons, done.n_distinct)
    return StageOutcome("rewards", done.n_items, done.n_scored, done.n_failed)


def _make_preferences(run: _Run, title: str) -> StageOutcome:
    loop = run.loop
    assert loop.preferences is not None
    done = make_pairs(
        loop.before("preferences"),
        loop.folder,
        seed=loop.seed,
        threshold=loop.preferences.threshold,
    )
    without = {cause: count for cause, count in done.without_pair.items() if count}
    if without:
        causes = ", ".join(f"{cause} {count:,}" for cause, count in without.items())
        run.say(f"{title}: without a pair: {causes}")
    return StageOutcome("preferences", done.n_items, done.n_pairs, done.n_items - done.n_pairs)


_STAGES: dict[str, Callable[[_Run, str], StageOutcome]] = {
    "captions": _make_captions,
    "qa": _make_qa,
    "candidates": _make_candidates,
    "rewards": _make_rewards,
    "preferences": _make_preferences,
}


def train_command(loop: Loop) -> str:
    """Return the command that trains on what a loop made last: pairs, answers or captions."""
    recipe, config = "llava_hound/pretrain", "captions"
    if loop.qa:
        recipe, config = "llava_hound/sft", "qa"
    if loop.preferences:
        recipe, config = "llava_hound/dpo", "preferences"
    words = ["sharegptvideo", "train", "run", recipe, f"data.data_dir={loop.out}"]
    if config != "preferences":
        words += [f"data.name={config}", "data.mix=null", "data.files=null"]
    words += ["data.split=train"]
    if loop.videos:
        words.append(f"data.media={loop.videos}")
    if loop.candidates and loop.candidates.model.startswith("hf:") and loop.preferences:
        words.append(f"model={loop.candidates.model.removeprefix('hf:')}")
    return shlex.join([*words, f"output={Path(loop.out) / 'model'}"])
