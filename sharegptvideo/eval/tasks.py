"""Tasks, one YAML file each, named like the task, and the questions of one.

Tasks are the files of `eval/tasks`, and those of a folder of one's own. A task may `include:`
parts, files of the folder `parts/` beside it or of the shipped one, for what tasks share. Of
several parts a later one wins, and the task's own keys win over all of them.
"""

from __future__ import annotations

import random
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator

from sharegptvideo._io import dumps, parse_yaml, read_text
from sharegptvideo._shipped import shipped
from sharegptvideo._strict import StrictModel
from sharegptvideo._text import and_more, plural
from sharegptvideo.data.schema import CONFIGS
from sharegptvideo.errors import MediaWarning, UserError, field_problems, unknown_name
from sharegptvideo.models.base import Question, short_hash

__all__ = [
    "AnnotationFiles",
    "JudgeWording",
    "Task",
    "check_questions",
    "chosen_questions",
    "list_tasks",
    "load_questions",
    "load_task",
    "media_folder",
    "parse_task",
    "task_names",
]

Row = dict[str, Any]

_FOLDER = "eval/tasks"
_PARTS = "parts"


class AnnotationFiles(StrictModel):
    """Files of questions that a task also accepts, by their names in the data folder.

    Those of a task of one's own may lie beside it: the loader makes their names absolute. The
    reader `plain` takes JSONL, CSV or TSV with the columns of a task row.
    """

    reader: Literal["msvd", "msrvtt", "tgif", "activitynet", "plain"]
    questions: Annotated[tuple[str, ...], Field(min_length=1)]
    mapping: tuple[str, ...] = ()

    @field_validator("questions", "mapping")
    @classmethod
    def _inside(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            _check_inside(name)
        return names


class JudgeWording(StrictModel):
    """The prompt of a language model judge, where it is not the protocol's own."""

    prompt_file: Path
    """Beside the task's file; the form is that of the files in eval/prompts."""

    @field_validator("prompt_file")
    @classmethod
    def _inside(cls, file: Path) -> Path:
        _check_inside(str(file))
        return file


def _check_inside(name: str) -> None:
    """Refuse a name that leads out of the task's folder: a task may be anyone's."""
    if Path(name).is_absolute() or ".." in Path(name).parts or "\\" in name:
        raise ValueError(f"{name!r} leads out of the task's folder; name a file inside of it")


class Task(StrictModel):
    """One task: where its questions come from, how they are asked, and how answers are judged."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    title: str
    version: Annotated[int, Field(ge=1)]
    config: str
    split: str
    prompt: str
    protocol: Literal["official", "caption-grounded"]
    frames: Annotated[int, Field(ge=1)]
    max_new_tokens: Annotated[int, Field(ge=1)]
    source: str
    citation: str
    annotations: AnnotationFiles | None = None
    judge: JudgeWording | None = None

    @field_validator("config")
    @classmethod
    def _is_a_test_set(cls, config: str) -> str:
        known = [name for name, each in CONFIGS.items() if each.is_task]
        if config not in known:
            raise ValueError(str(unknown_name("config of a test set", config, known)))
        return config

    @field_validator("prompt")
    @classmethod
    def _has_the_question(cls, prompt: str) -> str:
        if prompt.count("{question}") != 1:
            raise ValueError("needs {question} exactly once")
        return prompt

    def render(self, question: str) -> str:
        """Return the prompt for one question; braces in the question stay as they are."""
        return self.prompt.replace("{question}", question)

    def of_split(self, split: str | None) -> Task:
        """Return the task on another split of its data; None: on its own.

        Raises:
            UserError: its data have no such split, or its questions are a file.
        """
        if split is None or split == self.split:
            return self
        splits = CONFIGS[self.config].splits
        if split not in splits:
            raise UserError(f"task {self.name}: {unknown_name('split', split, splits)}")
        files = self.annotations
        if files is not None and files.reader == "plain":
            raise UserError(f"task {self.name}: its questions are a file; leave --split out")
        if files is not None:
            short = {"validation": ("val", "validation")}.get(split, (split,))
            names = [name for name in files.questions if self.split in name]
            named = tuple(name.replace(self.split, word) for name in names for word in short)
            files = files.model_copy(update={"questions": named})
        return self.model_copy(update={"split": split, "annotations": files})

    @property
    def prompt_hash(self) -> str:
        """Hash of the template: it changes with any change of wording."""
        return short_hash(self.prompt)

    @property
    def task_hash(self) -> str:
        """Hash of all that the file and its parts say but for prose, and where its files lie.

        A judge's wording is left out: the judge's own description has it.
        """
        hashed = self.model_dump(mode="json", exclude={"title", "source", "citation", "judge"})
        if self.annotations is not None:
            for key in ("questions", "mapping"):
                names = hashed["annotations"][key]
                hashed["annotations"][key] = [Path(name).name for name in names]
        return short_hash(dumps(hashed))


def task_names(task_path: Path | None = None) -> tuple[str, ...]:
    """Return the names of all tasks, sorted; with those in the folder `task_path`.

    Raises:
        UserError: no such folder, no task in it, or one that is called like a task here.
    """
    return tuple(sorted(_task_files(task_path)))


def load_task(name: str, task_path: Path | None = None) -> Task:
    """Return the task called `name`, from `task_path` or from here.

    Raises:
        UserError: there is none (names the nearest ones), or its file is faulty.
    """
    files = _task_files(task_path)
    if name not in files:
        raise unknown_name("task", name, files)
    return parse_task(read_text(files[name]), name, files[name].parent)


def list_tasks(task_path: Path | None = None) -> list[Task]:
    """Load all tasks, by name; with those in the folder `task_path`."""
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
        raise UserError(f"{where}: {'; '.join(field_problems(error))}") from error
    if task.name != name:
        raise UserError(f"{where}: its name is {task.name!r}; name and file have to agree")
    return _with_own_files(task, home, where)


def _task_files(task_path: Path | None) -> dict[str, Path]:
    files = {file.stem: file for file in shipped(_FOLDER).glob("*.yaml")}
    if task_path is None:
        return files
    if not task_path.is_dir():
        raise UserError(f"{task_path}: no such folder; --task-path is one with task files")
    own = {file.stem: file for file in sorted(task_path.absolute().glob("*.yaml"))}
    if not own:
        raise UserError(f"{task_path}: no task in it; a task is a file NAME.yaml")
    both = sorted(own.keys() & files.keys())
    if both:
        raise UserError(
            f"{task_path}: {', '.join(both)} is the name of a task of this package; give it"
            " another, so that figures cannot be mixed up"
        )
    return files | own


def _mapping(text: str, where: str) -> dict[str, Any]:
    data = parse_yaml(where, text)
    if not isinstance(data, dict):
        raise UserError(f"{where}: needs one key: value a line")
    return data


def _merged(data: dict[str, Any], where: str, home: Path, chain: tuple[str, ...]) -> dict[str, Any]:
    """Return `data` over the parts that it includes; `chain` is how it was reached."""
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
    files = {file.stem: file for file in (shipped(_FOLDER) / _PARTS).glob("*.yaml")}
    files |= {file.stem: file for file in (home / _PARTS).glob("*.yaml")}
    if name not in files:
        raise UserError(f"{where}: {unknown_name('part', name, files)}")
    return files[name]


def _with_own_files(task: Task, home: Path, where: str) -> Task:
    """Return the task with the files beside it by their full path.

    A judge's wording has to be there; questions may also lie in the data folder.
    """
    changes: dict[str, Any] = {}
    named = (
        () if task.annotations is None else task.annotations.questions + task.annotations.mapping
    )
    for name in (*named, *([task.judge.prompt_file] if task.judge is not None else ())):
        if (home / name).exists() and not (home / name).resolve().is_relative_to(home.resolve()):
            raise UserError(f"{where}: {name} is a link out of the task's folder; copy the file")
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


def load_questions(
    task: Task, data_dir: Path | None = None, media: Path | None = None
) -> list[Question]:
    """Load all questions of a task, in the order of its file.

    Args:
        task: what to read.
        data_dir: a release, a synthetic world, or a folder with the task's original annotation
            files by the names that its YAML gives. None: the Hub, or for the synthetic tasks the
            built-in world.
        media: the folder with the clips; fills `video_path`.

    Raises:
        UserError: no such data, a broken row (file and line), or a duplicate id.
    """
    rows = _rows(task, data_dir)
    if media is not None:
        rows = _with_clips(rows, media)
    questions = [_question(task, row) for row in rows]
    if not questions:
        raise UserError(f"task {task.name}: {data_dir or 'its source'} holds no question")
    repeated = [key for key, count in Counter(q.id for q in questions).items() if count > 1]
    if repeated:
        count = plural(len(repeated), "duplicate id")
        raise UserError(
            f"task {task.name}: {count} in {data_dir or 'its source'}"
            f" ({and_more(repeated, 3)}); answers are kept by id, so fix the file"
        )
    return questions


def check_questions(task: Task, data_dir: Path | None) -> None:
    """Check that a folder holds questions of a task, by reading the first one.

    Raises:
        UserError: no such data, or the first row is broken.
    """
    if data_dir is not None:
        next(iter(_rows(task, data_dir)), None)


def _rows(task: Task, data_dir: Path | None) -> Iterator[Row]:
    if data_dir is not None and not data_dir.exists():
        raise UserError(f"{data_dir}: no such data folder; fix --data-dir")
    files = _annotation_files(task.annotations, data_dir)
    if files is None and task.annotations is not None and task.annotations.reader == "plain":
        # The rows of its config would be other questions than those of the task.
        raise UserError(
            f"task {task.name}: {' or '.join(task.annotations.questions)} is neither beside the"
            " task's file nor in --data-dir"
        )
    return _read_annotations(task, *files) if files else _read_rows(task, data_dir)


def chosen_questions(
    questions: Sequence[Question], limit: int | None, draw: int | None
) -> list[Question]:
    """Return the first `limit` questions, or with the seed `draw` as many at random, in order."""
    if limit is None or draw is None or limit >= len(questions):
        return list(questions)[:limit]
    by_id = sorted(range(len(questions)), key=lambda at: questions[at].id)  # not the file's order
    return [questions[at] for at in sorted(random.Random(draw).sample(by_id, limit))]


def _annotation_files(
    accepted: AnnotationFiles | None, data_dir: Path | None
) -> tuple[str, Path, Path | None] | None:
    if accepted is None:
        return None
    folder = data_dir or Path()

    def first(names: Iterable[str]) -> Path | None:
        # A file beside a task of one's own has its full path, which no folder changes.
        paths = (folder / name for name in names if data_dir or Path(name).is_absolute())
        return next((path for path in paths if path.is_file()), None)

    questions = first(accepted.questions)
    return (accepted.reader, questions, first(accepted.mapping)) if questions else None


def _read_annotations(
    task: Task, reader: str, questions: Path, mapping: Path | None
) -> Iterator[Row]:
    from sharegptvideo.data.sources.original_rows import (
        read_activitynet,
        read_msrvtt,
        read_msvd,
        read_tgif_frameqa,
    )
    from sharegptvideo.data.sources.plain import read_plain

    match reader:
        case "msvd":
            return read_msvd(questions, mapping)
        case "msrvtt":
            return read_msrvtt(questions, mapping)
        case "activitynet":
            return read_activitynet(questions)
        case "plain":
            return read_plain(questions, CONFIGS[task.config])
        case _:
            return read_tgif_frameqa(questions)


def _read_rows(task: Task, data_dir: Path | None) -> Iterator[Row]:
    from sharegptvideo.data.load import read_rows

    accepted = task.annotations.questions if task.annotations else ()
    files = f", or its annotations ({', '.join(accepted)})" if accepted else ""
    try:
        yield from read_rows(task.config, data_dir=data_dir, split=task.split)
    except UserError as error:
        raise UserError(
            f"task {task.name}: {error} (--data-dir: a folder with the release{files})",
            exit_code=error.exit_code,
        ) from error


def _with_clips(rows: Iterable[Row], media: Path) -> Iterator[Row]:
    from sharegptvideo.media import MediaFolder

    folder = MediaFolder(media)
    for row in rows:
        path = folder.resolve(row["video"])
        unlisted = None if path else folder.unlisted(row["video"])
        if unlisted:
            text = f"{media / unlisted}: an ending that no video is known by; rename the file"
            warnings.warn(text, MediaWarning, stacklevel=2)
        link = None if path else folder.broken_link(row["video"])
        if link:
            text = f"{media / link}: a link that leads nowhere; fix or remove it"
            warnings.warn(text, MediaWarning, stacklevel=2)
        yield row | {"video_path": str(path) if path else None}


def media_folder(task: Task, data_dir: Path | None, media: Path | None) -> Path | None:
    """Return the folder of a task's clips: `media`, the data folder, or the built-in world's."""
    if media is not None or data_dir is not None:
        return media or data_dir
    if not task.config.startswith("synthetic"):
        return None
    from sharegptvideo.data.sources import world_folder

    return world_folder()


def _question(task: Task, row: Row) -> Question:
    return Question(
        id=str(row["id"]),
        task=task.name,
        video=row["video"],
        question=row["question"],
        answer=row["answer"],
        caption=row.get("caption"),
        question_type=row.get("question_type"),
        video_path=row.get("video_path"),
    )
