"""The folder of a training: what it was made of, how far it is, and when it is done.

    OUT/recipe.yaml   the resolved recipe          OUT/log.jsonl   one line per logged step
    OUT/run.json      hashes, versions, status     OUT/loss.png    the curves
    OUT/evals.jsonl   one line per task and step   OUT/accuracy.png
    OUT/evaluations/  a run folder per step: questions, answers, verdicts
    OUT/tensorboard/  event files                  OUT/README.md   the model's card
    OUT/checkpoints/  while it runs                OUT/*           the model, once it is done

`run.json` says "finished" last of all, so a folder is either whole or goes on where it stopped.
"""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from sharegptvideo._concurrency import Progress
from sharegptvideo._io import (
    follow_umask,
    parse_yaml,
    read_json,
    read_jsonl,
    sync_folder,
    write_json,
    write_jsonl,
    write_text,
)
from sharegptvideo._runs import RunKind, differences
from sharegptvideo.errors import UserError
from sharegptvideo.models import checkpoint_folder, weights_hash
from sharegptvideo.models.convert import ModelParts, assembled
from sharegptvideo.training.checks import check_machine, check_output, check_push
from sharegptvideo.training.examples import DataReport
from sharegptvideo.training.launch import processes
from sharegptvideo.training.mix import check_parts
from sharegptvideo.training.recipes import NOT_HASHED, Recipe, Sharing, recipe_hash, renamed

__all__ = [
    "COMPLETE",
    "EVALS",
    "TRAINING_VERSION",
    "TrainResult",
    "TrainingDir",
    "checkpoint_step",
    "environment",
    "last_accuracies",
    "read_evaluations",
    "versions",
]

COMPLETE = "complete"
"""File that marks a checkpoint as whole; one without it was being written when the end came."""

EVALS = "evals.jsonl"
"""The file of a run's evaluations, a line for each task and step."""

_TRAINING = RunKind(
    name="training",
    other="a training by another recipe",
    fix="give another output",
    fix_mix="give another output or remove the folder",
    foreign="[!.]*",
    prefix="output ",
)

_PROCESSOR_FILES = (
    "processor_config.json",
    "video_preprocessor_config.json",
    "preprocessor_config.json",
    "chat_template.json",
    "chat_template.jinja",
)


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How a training ended. `log` has the logged steps; `already_done` if nothing was to do.

    `accuracy` is the last evaluation's, by task; `pushed` where the model is on the Hub.
    """

    output: Path
    stage: str
    steps: int
    rows: int
    seconds: float
    loss: float | None
    resumed_from: int | None = None
    already_done: bool = False
    notes: list[str] = field(default_factory=list)
    accuracy: dict[str, float | None] = field(default_factory=dict)
    pushed: str | None = None
    log: list[dict[str, Any]] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """Return the figures for `--json`: all but the log."""
        figures = asdict(self)
        del figures["log"]
        return {**figures, "output": str(self.output)}


class TrainingDir:
    """Opens the output folder of a recipe: new, to be continued, or finished.

    Raises:
        UserError: the folder belongs to another recipe or holds something else; or where the
            model is to be pushed cannot be.
    """

    def __init__(
        self,
        recipe: Recipe,
        report: Callable[[str], None] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Open it, and assemble the starting model where it is yet in parts.

        Args:
            report: gets each note as it is made.
            progress: of the assembling.
        """
        self.recipe = recipe
        self._report = report
        self.path = Path(recipe.output)
        self.checkpoints = self.path / "checkpoints"
        self.rows = self.checkpoints / "rows"
        self.staged = self.checkpoints / "final"
        self.log = self.path / "log.jsonl"
        self._record = self.path / "run.json"
        self._hash = recipe_hash(recipe)
        self.state: dict[str, Any] = _TRAINING.read(self.path) or {}
        if self.state and self.state.get("recipe_sha256") != self._hash:
            _TRAINING.refuse(self.path, self._changes())
        if not self.finished:
            check_output(self.path)
            check_push(recipe.push_to_hub)
            check_machine(recipe)
            if isinstance(recipe.model, ModelParts):
                check_parts(recipe.data)  # before gigabytes are fetched
                assembled(recipe.model, progress)
                check_machine(recipe)  # its memory, too, now that the sizes are there

    def _changes(self) -> list[str]:
        """Return what differs between the recipe of the folder and this one."""
        file = self.path / "recipe.yaml"
        there = parse_yaml(str(file), file.read_text(encoding="utf-8")) if file.is_file() else None
        here = self.recipe.model_dump(mode="json")
        changes: list[str] = []
        if isinstance(there, dict):
            there = renamed(str(file), there, warn=False)
            changes = list(differences(there, here, may_change=NOT_HASHED))
        # A recipe that was edited in the folder may be the one that is asked for.
        return changes or list(
            differences(self.state.get("recipe_sha256"), self._hash, "recipe_sha256")
        )

    @property
    def finished(self) -> bool:
        """Whether the model is there already."""
        return self.state.get("status") == "finished"

    @property
    def model_sha256(self) -> str:
        """The hash of the starting weights, once the run has started."""
        return str(self.state["model_sha256"])

    def result(self, *, resumed_from: int | None = None, already_done: bool = True) -> TrainResult:
        """Return what the finished run has recorded.

        Args:
            resumed_from: the step of the checkpoint that this sitting went on from.
            already_done: whether it was finished before.
        """
        if already_done:  # a kill in the last moment left them
            shutil.rmtree(self.checkpoints, ignore_errors=True)
        self.state = read_json(self._record)  # one process has written it for all
        log = [row for _, row in read_jsonl(self.log)]
        known = {key: self.state[key] for key in ("steps", "rows", "seconds", "loss", "notes")}
        known |= {key: self.state[key] for key in ("accuracy", "pushed") if key in self.state}
        return TrainResult(
            self.path,
            self.recipe.stage,
            **known,
            resumed_from=resumed_from,
            already_done=already_done,
            log=log,
        )

    def note(self, text: str, *, step: int | None = None) -> None:
        """Report a line now and keep it in run.json, with the step in which it came up, if any."""
        if text not in self.state["notes"]:
            self.state["notes"].append(text)
            if step is not None:
                self.state.setdefault("warnings", []).append({"step": step, "text": text})
            write_json(self._record, self.state)
            self.report(text)

    def report(self, text: str) -> None:
        """Report a line now, without keeping it."""
        if self._report:
            self._report(text)

    @property
    def sharing(self) -> Sharing:
        """The recipe's, with the attention that the training was begun with in place of `auto`.

        `flex` is tried anew on the device of today.
        """
        sharing = self.recipe.sharing
        kept = self.state.get("attention")
        if sharing.attention == "auto" and kept not in (None, "flex"):
            return sharing.model_copy(update={"attention": kept})
        return sharing

    def attends(self, attention: str, reason: str | None) -> None:
        """Write down how clips are attended to; report why it is not what `auto` stands for."""
        if processes().is_first:
            self.keep(attention=attention)
            if reason:
                self.note(reason, step=0)

    def fuses(self, parts: Sequence[str], reason: str | None) -> None:
        """Write down what layers compute by compiled functions; report why it is not all."""
        if processes().is_first:
            self.keep(fused=[*parts])
            if reason:
                self.note(reason, step=0)

    def rewind(self, step: int) -> None:
        """Drop what was noted in steps after `step`: a resumed training will do them again."""
        warnings = self.state.get("warnings", [])
        self.state["warnings"] = [one for one in warnings if one["step"] <= step]
        gone = {one["text"] for one in warnings if one["step"] > step}
        self.state["notes"] = [text for text in self.state["notes"] if text not in gone]
        write_json(self._record, self.state)

    def keep(self, **facts: Any) -> None:
        """Add to run.json."""
        self.state.update(facts)
        write_json(self._record, self.state)

    def start(self, data: DataReport) -> None:
        """Write down what the training is made of, or make sure that it is still the same.

        One process does so for all.

        Raises:
            UserError: the data or the starting model changed since the training began.
        """
        processes().first(lambda: self._start(data))
        self.state = read_json(self._record)

    def _start(self, data: DataReport) -> None:
        made_of = {
            "model_sha256": weights_hash(self.recipe.start),
            "data_sha256": data.sha256,
        }
        for key, value in made_of.items():
            if self.state.get(key, value) != value:
                raise UserError(
                    f"output {self.path}: {key.removesuffix('_sha256')} changed since this "
                    f"training began; remove the folder to start again"
                )
        begun_by = self.state.get("training_version", TRAINING_VERSION)
        if begun_by != TRAINING_VERSION:
            raise UserError(
                f"output {self.path}: was begun by training version {begun_by}, this is version "
                f"{TRAINING_VERSION}, whose steps would differ; remove the folder to start again"
            )
        unversioned = bool(self.state) and "training_version" not in self.state
        earlier = [one["text"] for one in self.state.get("warnings", [])]
        sitting = {
            "started": _now(),
            "versions": versions(),
            "environment": environment(processes().count),
        }
        self.state.update(
            status="training",
            stage=self.recipe.stage,
            model=str(self.recipe.model),
            recipe_sha256=self._hash,
            training_version=TRAINING_VERSION,
            **made_of,
            rows=data.used,
            missing=data.missing,
            cut=data.cut,
            notes=[*data.notes(), *earlier],
            seeds={"training": self.recipe.seed}
            | ({"evaluation": self.recipe.eval.seed} if self.recipe.eval else {}),
            versions=sitting["versions"],
            sittings=[*self.state.get("sittings", []), sitting],
        )
        write_json(self._record, self.state)
        text = yaml.safe_dump(self.recipe.model_dump(mode="json"), sort_keys=False)
        write_text(self.path / "recipe.yaml", text)
        for note in data.notes():
            self.report(note)
        if unversioned:
            self.note(
                f"begun by a package that recorded no training version; the steps from here on are "
                f"those of version {TRAINING_VERSION}",
                step=0,
            )

    def last_checkpoint(self) -> Path | None:
        """Return the newest whole checkpoint; half-written ones are removed."""
        whole: list[tuple[int, Path]] = []
        for folder in self.checkpoints.glob("checkpoint-*"):
            if (folder / COMPLETE).exists():
                whole.append((checkpoint_step(folder), folder))
            elif processes().is_first:
                shutil.rmtree(folder)
        processes().wait()
        return max(whole)[1] if whole else None

    def finish(self, log: list[dict[str, Any]], steps: int, seconds: float) -> None:
        """Move the saved model into place, copy the processor's config, mark the run finished."""
        staged = self.staged
        _copy_processor(self.recipe.start, staged)
        follow_umask(staged.iterdir())
        for file in sorted(staged.iterdir()):
            file.replace(self.path / file.name)
        sync_folder(self.path)
        staged.rmdir()
        write_jsonl(self.log, log)
        losses = [row["loss"] for row in log if "loss" in row]
        self.state.update(
            status="finished",
            steps=steps,
            seconds=round(self.state.get("seconds", 0.0) + seconds, 2),
            loss=losses[-1] if losses else None,
            accuracy=last_accuracies(read_evaluations(self.path)),
            weights_sha256=weights_hash(self.path),
            finished=_now(),
        )
        write_json(self._record, self.state)
        shutil.rmtree(self.checkpoints, ignore_errors=True)


def checkpoint_step(folder: Path) -> int:
    """Return the step after which a checkpoint was written."""
    return int(folder.name.rpartition("-")[2])


def _copy_processor(model: str, to: Path) -> None:
    folder = checkpoint_folder(model)
    for name in _PROCESSOR_FILES:
        # The tokenizer has brought the template that was trained with (`system`).
        if (folder / name).is_file() and not (to / name).is_file():
            shutil.copyfile(folder / name, to / name)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


TRAINING_VERSION = 1
"""Raise it when tests/golden/training.json changes: the same recipe then gives other weights."""

_PACKAGES = (
    "sharegptvideo",
    "torch",
    "transformers",
    "trl",
    "accelerate",
    "peft",
    "datasets",
    "tokenizers",
    "safetensors",
    "numpy",
    "av",
    "decord2",
    "deepspeed",
    "bitsandbytes",
)


def versions() -> dict[str, str]:
    """Return the installed versions of what can change weights."""
    installed = {}
    for package in _PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def environment(processes: int) -> dict[str, Any]:
    """Return Python, system, devices and what else a run depends on to be repeated to the bit."""
    import torch

    cuda = torch.cuda.is_available()
    count = torch.cuda.device_count() if cuda else 0
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name(0) if cuda else "cpu",
        "devices": count or 1,
        "cuda": torch.version.cuda if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,  # type: ignore[no-untyped-call]
        "processes": processes,
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def read_evaluations(run: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's evals.jsonl by step, the last one of each task and step."""
    if not (run / EVALS).exists():
        return []
    rows = {(row["step"], row["task"]): row for _, row in read_jsonl(run / EVALS)}
    return sorted(rows.values(), key=lambda row: int(row["step"]))


def last_accuracies(rows: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Return, by task, the accuracy of the last evaluation that went well."""
    return {row["task"]: row["accuracy"] for row in rows if row["status"] == "ok"}
