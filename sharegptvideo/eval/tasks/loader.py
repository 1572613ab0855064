"""Finds and reads task files: those of `eval/tasks`, and those of a folder of one's own.

A task may `include:` parts, files of the folder `parts/` beside it or of the shipped one, so that
what tasks share is said once. Of several parts a later one wins, and the task's own keys win over
all of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sharegptvideo._io import parse_yaml, read_text
from sharegptvideo._shipped import shipped
from sharegptvideo.errors import UserError, unknown_name
from sharegptvideo.eval.tasks.schema import Task

__all__ = ["list_tasks", "load_task", "parse_task", "task_names"]

_FOLDER = "eval/tasks"
_PARTS = "parts"


def task_names(task_path: Path | None = None) -> tuple[str, ...]:
    """Names of all tasks, sorted; with those in the folder `task_path`.

    Raises:
        UserError: no such folder, no task in it, or one that is called like a task here.
    """
    return tuple(sorted(_task_files(task_path)))


def load_task(name: str, task_path: Path | None = None) -> Task:
    """The task called `name`, from `task_path` or from here.

    Raises:
        UserError: there is none (names the nearest ones), or its file is faulty.
    """
    found = _task_files(task_path)
    if name not in found:
        raise unknown_name("task", name, found)
    return parse_task(read_text(found[name]), name, found[name].parent)


def list_tasks(task_path: Path | None = None) -> list[Task]:
    """All tasks, by name; with those in the folder `task_path`."""
    return [load_task(name, task_path) for name in task_names(task_path)]


def parse_task(text: str, name: str, folder: Path | None = None) -> Task:
    """Read a task from YAML.

    Args:
        text: the file's contents.
        name: what the file is called, and the task has to be.
        folder: where the file lies, for its parts and the files that it names.

    Raises:
        UserError: every fault of the file in one line; a part that is not there, or that includes
            itself.
    """
    where = f"task file {name}.yaml"
    home = folder or shipped(_FOLDER)
    data = _merged(_mapping(text, where), where, home, ())
    try:
        task = Task.model_validate(data)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()
        )
        raise UserError(f"{where}: {faults}") from error
    if task.name != name:
        raise UserError(f"{where}: its name is {task.name!r}; name and file have to agree")
    return _with_own_files(task, home, where)


def _task_files(task_path: Path | None) -> dict[str, Path]:
    found = {file.stem: file for file in shipped(_FOLDER).glob("*.yaml")}
    if task_path is None:
        return found
    if not task_path.is_dir():
        raise UserError(f"{task_path}: no such folder; --task-path is one with task files")
    own = {file.stem: file for file in sorted(task_path.absolute().glob("*.yaml"))}
    if not own:
        raise UserError(f"{task_path}: no task in it; a task is a file NAME.yaml")
    twice = sorted(own.keys() & found.keys())
    if twice:
        raise UserError(
            f"{task_path}: {', '.join(twice)} is the name of a task of this package; give it"
            " another, so that figures cannot be mixed up"
        )
    return found | own


def _mapping(text: str, where: str) -> dict[str, Any]:
    data = parse_yaml(where, text)
    if not isinstance(data, dict):
        raise UserError(f"{where}: needs one key: value a line")
    return data


def _merged(data: dict[str, Any], where: str, home: Path, chain: tuple[str, ...]) -> dict[str, Any]:
    """`data` over the parts that it includes; `chain` is how it was reached."""
    wanted = data.pop("include", [])
    if not isinstance(wanted, list) or not all(isinstance(part, str) for part in wanted):
        raise UserError(f"{where}: include is a list of names of parts, as [grounded]")
    merged: dict[str, Any] = {}
    for part in wanted:
        if part in chain:
            raise UserError(f"{where}: includes itself ({' > '.join([*chain, part])})")
        file = _part(part, home, where)
        below = f"{where}, part {part}"
        merged |= _merged(_mapping(read_text(file), below), below, home, (*chain, part))
    return merged | data


def _part(name: str, home: Path, where: str) -> Path:
    found = {file.stem: file for file in (shipped(_FOLDER) / _PARTS).glob("*.yaml")}
    found |= {file.stem: file for file in (home / _PARTS).glob("*.yaml")}
    if name not in found:
        raise UserError(f"{where}: {unknown_name('part', name, found)}")
    return found[name]


def _with_own_files(task: Task, home: Path, where: str) -> Task:
    """The task with the files beside it by their full path.

    A judge's wording has to be there; questions may also lie in the data folder.
    """
    changes: dict[str, Any] = {}
    if task.judge is not None:
        wording = home / task.judge.prompt_file
        if not wording.is_file():
            raise UserError(f"{where}: judge.prompt_file: {wording} is not there")
        changes["judge"] = task.judge.model_copy(update={"prompt_file": wording})
    if task.annotations is not None:
        beside = {
            key: tuple(
                str(home / name) if (home / name).is_file() else name
                for name in getattr(task.annotations, key)
            )
            for key in ("questions", "mapping")
        }
        changes["annotations"] = task.annotations.model_copy(update=beside)
    return task.model_copy(update=changes)
