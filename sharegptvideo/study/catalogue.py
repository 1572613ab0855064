"""All kinds of experiment, and the experiments of `eval/study`, one YAML file each."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from sharegptvideo._io import parse_yaml, read_text
from sharegptvideo._shipped import shipped
from sharegptvideo._strict import key_problems
from sharegptvideo.errors import UserError, unknown_name
from sharegptvideo.study.arms import Arms
from sharegptvideo.study.caption_quality import CaptionQuality
from sharegptvideo.study.cost import Cost
from sharegptvideo.study.drift import Drift
from sharegptvideo.study.experiment import Experiment
from sharegptvideo.study.kind import Kind
from sharegptvideo.study.loop import STAGES
from sharegptvideo.study.node import Stage
from sharegptvideo.study.transfer import Transfer
from sharegptvideo.study.verifier import Verifier

__all__ = ["KINDS", "all_stages", "list_experiments", "load_experiment"]

KINDS: dict[str, Kind] = {
    "arms": Arms(),
    "caption_quality": CaptionQuality(),
    "cost": Cost(),
    "drift": Drift(),
    "transfer": Transfer(),
    "verifier": Verifier(),
}
"""By the name that an experiment's file gives."""

_FOLDER = "eval/study"


def all_stages() -> dict[str, Stage]:
    """Return the stages of the loop and of all kinds, by name."""
    stages = dict(STAGES)
    for kind in KINDS.values():
        stages |= kind.stages
    return stages


def list_experiments() -> list[Experiment]:
    """Read all shipped experiments, in the order of their numbers.

    Raises:
        UserError: a file that is no experiment.
    """
    experiments = [_read(path) for path in sorted(shipped(_FOLDER).glob("*.yaml"))]
    return sorted(experiments, key=lambda experiment: experiment.number)


def load_experiment(name: str) -> Experiment:
    """Read the shipped experiment `name`, or the file of that path.

    Raises:
        UserError: there is none, with the nearest names; or it is no experiment.
    """
    if name.endswith((".yaml", ".yml")):
        return _read(Path(name))
    names = {path.stem: path for path in shipped(_FOLDER).glob("*.yaml")}
    if name not in names:
        raise unknown_name("experiment", name, names)
    return _read(names[name])


def _read(file: Path) -> Experiment:
    """Read an experiment, and check its levels by its kind.

    Raises:
        UserError: no such file, no YAML, an unknown key, or a level that its kind refuses.
    """
    content = parse_yaml(str(file), read_text(file))
    if not isinstance(content, dict):
        raise UserError(f"{file}: expected keys and values")
    try:
        experiment = Experiment.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{file}: {'; '.join(key_problems(error, Experiment))}") from error
    if experiment.name != file.stem:
        raise UserError(f"{file}: name must be the file's, {file.stem}, not {experiment.name}")
    if experiment.kind not in KINDS:
        raise UserError(f"{file}: {unknown_name('kind', experiment.kind, KINDS)}")
    kind = KINDS[experiment.kind]
    problems = []
    for name, settings in experiment.levels.items():
        try:
            kind.level.model_validate(settings)
        except ValidationError as error:
            problems += [f"level {name}: {each}" for each in key_problems(error, kind.level)]
    if problems:
        raise UserError(f"{file}: {'; '.join(problems)}")
    return experiment
