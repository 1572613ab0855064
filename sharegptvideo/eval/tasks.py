"""Tasks, one YAML file each, named like the task, and the questions of one.

Tasks are the files of `eval/tasks`, and those of a folder of one's own. A task may `include:`
parts, files of the folder `parts/` beside it or of the shipped one, for what tasks share. Of
several parts a later one wins, and the task's own keys win over all of them.
"""

from __future__ import annotations

import random
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from sharegptvideo._io import dumps, parse_yaml, read_text
from sharegptvideo._shipped import shipped
from sharegptvideo._strict import StrictModel
from sharegptvideo._text import and_more, duration, plural
from sharegptvideo.data.schema import CONFIGS
from sharegptvideo.errors import MediaWarning, UserError, field_problems, unknown_name
from sharegptvideo.judges.rules.choices import lettered
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
    "named_tasks",
    "parse_task",
    "task_names",
]

Row = dict[str, Any]

_FOLDER = "eval/tasks"
_PARTS = "parts"
_PICTURES_A_SECOND = 3  # of the folders of frames whose questions are on a part
_FIELDS = re.compile(r"\{question\}|\{options\}")


class AnnotationFiles(StrictModel):
    """Files of questions that a task also accepts, by their names in the data folder.

    Those of a task of one's own may lie beside it: the loader makes their names absolute. The
    reader `plain` takes JSONL, CSV or TSV with the columns of a task row.
    """

    reader: Literal[
        "msvd",
        "msrvtt",
        "tgif",
        "activitynet",
        "plain",
        "videohallucer",
        "eventhallusion",
        "tempcompass",
        "nextqa",
        "mvbench",
        "videomme",
        "egoschema",
        "video-chatgpt",
        "captions",
    ]
    questions: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names that one file goes by; with `together`, of several files."""
    mapping: tuple[str, ...] = ()
    """Names of a second file: clips' names, or answers."""
    together: bool = False
    """Whether all files of `questions` are read, one after the other."""

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
    config: str | None
    """The kind of row that its questions are; None: they are in annotation files only."""
    split: str
    prompt: str
    protocol: Literal[
        "official",
        "caption-grounded",
        "claims",
        "correctness",
        "detail",
        "context",
        "temporal",
        "consistency",
    ]
    frames: Annotated[int, Field(ge=1)]
    max_new_tokens: Annotated[int, Field(ge=1)]
    source: str
    citation: str
    annotations: AnnotationFiles | None = None
    judge: JudgeWording | None = None
    form: Literal["open", "yes-no", "choice", "description"] = "open"
    choice: Literal["letter", "likelihood"] = "letter"
    """Of form choice: the model names a letter, or its likeliest option counts."""
    groups: tuple[Annotated[str, Field(pattern=r"^[a-z0-9_]+$")], ...] = ()
    """Names under which several tasks are run together."""
    data: str = ""
    """Where the data is to be had, in a sentence."""

    @field_validator("config")
    @classmethod
    def _is_a_test_set(cls, config: str | None) -> str | None:
        known = [name for name, each in CONFIGS.items() if each.is_task]
        if config is not None and config not in known:
            raise ValueError(str(unknown_name("config of a test set", config, known)))
        return config

    @field_validator("protocol")
    @classmethod
    def _fits_the_prompt(cls, protocol: str, info: ValidationInfo) -> str:
        # Not a check of the whole file, so that it is reported with its other faults.
        held = str(info.data.get("prompt", "{question}" * (protocol != "claims")))
        if protocol == "claims" and "{question}" in held:
            raise ValueError("of a description the prompt is all that is asked, without {question}")
        if protocol != "claims" and held.count("{question}") != 1:
            raise ValueError(f"under {protocol} the prompt needs {{question}} exactly once")
        return protocol

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.config is None and (self.annotations is None or self.annotations.reader == "plain"):
            raise ValueError("config: null needs annotations whose reader is not plain")
        described = self.form == "description"
        if described != (self.protocol == "claims"):
            raise ValueError("form: description and protocol: claims go together")
        if self.annotations is not None and described != (self.annotations.reader == "captions"):
            raise ValueError("form: description is for files that the reader captions reads")
        lists = self.prompt.count("{options}")
        if lists != (self.form == "choice" and self.choice == "letter"):
            raise ValueError(
                "prompt: needs {options} exactly once where letters are asked for (form: choice,"
                f" choice: letter), else never; it is there {lists} times"
            )
        if self.choice == "likelihood" and self.form != "choice":
            raise ValueError("choice: likelihood is for form: choice")
        return self

    def render(self, question: str, options: Sequence[str] = ()) -> str:
        """Return the prompt for one question; braces in it and its options stay as they are."""
        texts = {"{question}": question, "{options}": lettered(options)}
        return _FIELDS.sub(lambda match: texts[match[0]], self.prompt)

    @property
    def own_judge(self) -> str | None:
        """The judge by rules that its answers are for; None: a judge of open answers.

        Descriptions of other clips than the rendered ones are for language models alone.
        """
        if self.form == "description":
            return "claim-match" if (self.config or "").startswith("synthetic") else None
        return {"yes-no": "yes-no", "choice": "choice"}.get(self.form)

    def of_split(self, split: str | None) -> Task:
        """Return the task on another split of its data; None: on its own.

        Raises:
            UserError: its data have no such split, or its questions are a file.
        """
        if split is None or split == self.split:
            return self
        if self.config is None:
            raise UserError(f"task {self.name}: its questions are files; leave --split out")
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

        A judge's wording is left out: the judge's own description has it. So are keys that later
        versions added, where they say what held before.
        """
        prose = {"title", "source", "citation", "judge", "groups", "data"}
        hashed = self.model_dump(mode="json", exclude=prose)
        for key in ("form", "choice"):
            if hashed[key] == type(self).model_fields[key].default:
                del hashed[key]
        if self.annotations is not None:
            if not self.annotations.together:
                del hashed["annotations"]["together"]
            for key in ("questions", "mapping"):
                names = hashed["annotations"][key]
                hashed["annotations"][key] = [Path(name).name for name in names]
        return short_hash(dumps(hashed))


def named_tasks(names: Iterable[str], task_path: Path | None = None) -> list[str]:
    """Return the names of tasks, each once, with those of a group in place of its name.

    Raises:
        UserError: there is neither a task nor a group of that name (names the nearest ones).
    """
    known = {name: [name] for name in task_names(task_path)}
    names = list(names)
    if any(name not in known for name in names):
        for task in list_tasks(task_path):
            for group in task.groups:
                known.setdefault(group, []).append(task.name)
    chosen: dict[str, None] = {}
    for name in names:
        if name not in known:
            raise unknown_name("task", name, known)
        chosen |= dict.fromkeys(known[name])
    return list(chosen)


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
    if task.form == "description" and task.config is not None:
        rows = _captions(task, rows)
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


def _captions(task: Task, rows: Iterable[Row]) -> Iterator[Row]:
    """Yield id, video and caption of each clip that questions are about; the id is its name."""
    seen: set[str] = set()
    for row in rows:
        if row["video"] in seen:
            continue
        seen.add(row["video"])
        if not row["caption"]:
            raise UserError(f"task {task.name}: {row['id']} has no caption to compare with")
        yield {"id": row["video"], "video": row["video"], "caption": row["caption"]}


def check_questions(task: Task, data_dir: Path | None) -> None:
    """Check that a folder holds questions of a task, by reading the first one.

    Raises:
        UserError: no such data, or the first row is broken.
    """
    if data_dir is not None or task.config is None:
        next(iter(_rows(task, data_dir)), None)


def _rows(task: Task, data_dir: Path | None) -> Iterator[Row]:
    if data_dir is not None and not data_dir.exists():
        raise UserError(f"{data_dir}: no such data folder; fix --data-dir")
    files = _annotation_files(task, data_dir)
    if files is not None:
        return _read_annotations(task, *files)
    if task.config is None or (task.annotations and task.annotations.reader == "plain"):
        # The rows of its config would be other questions than those of the task.
        assert task.annotations is not None, "a task without a config has annotations"
        where = " (" + task.data.rstrip(".") + ")" if task.data else ""
        raise UserError(
            f"task {task.name}: {' or '.join(task.annotations.questions)} is neither beside the"
            f" task's file nor in --data-dir{where}"
        )
    return _read_rows(task, data_dir)


def chosen_questions(
    questions: Sequence[Question], limit: int | None, draw: int | None
) -> list[Question]:
    """Return the first `limit` questions, or with the seed `draw` as many at random, in order.

    Pairs stay whole: of their tasks as many as fit are taken, and one at least.
    """
    if limit is None or limit >= len(questions):
        return list(questions)
    pairs: dict[str, list[int]] = {}
    for at, question in enumerate(questions):
        pairs.setdefault(question.pair or f"\0{at}", []).append(at)
    units = list(pairs.values())
    count = max(1, limit // max(map(len, units)))
    if draw is not None:
        units.sort(key=lambda unit: questions[unit[0]].id)  # not the file's order
        units = random.Random(draw).sample(units, count)
    return [questions[at] for at in sorted(at for unit in units[:count] for at in unit)]


def _annotation_files(task: Task, data_dir: Path | None) -> tuple[list[Path], Path | None] | None:
    """Return a task's files of questions and its second file; None where they are not there."""
    accepted = task.annotations
    if accepted is None:
        return None

    def path_of(name: str) -> Path | None:
        # A file beside a task of one's own has its full path, which no folder changes.
        if data_dir is None and not Path(name).is_absolute():
            return None
        path = (data_dir or Path()) / name
        if path.is_file() or task.config is not None or data_dir is None:
            return path if path.is_file() else None
        below = sorted(data_dir.rglob(name))  # as the authors' own folders have it
        if len(below) > 1:
            raise UserError(
                f"task {task.name}: {data_dir} holds {name} {len(below)} times"
                f" ({and_more([str(each) for each in below], 3)}); name the folder of one by"
                " --data-dir"
            )
        return below[0] if below else None

    paths = {name: path_of(name) for name in accepted.questions}
    there = [path for path in paths.values() if path is not None]
    mapping = next((path for path in map(path_of, accepted.mapping) if path is not None), None)
    if not accepted.together or not there:
        return (there[:1], mapping) if there else None
    if absent := [name for name, path in paths.items() if path is None]:
        raise UserError(
            f"task {task.name}: {and_more(absent, 3)} is not in {data_dir}; the task is all of its"
            f" {len(paths)} files"
        )
    return there, mapping


def _read_annotations(task: Task, files: Sequence[Path], mapping: Path | None) -> Iterator[Row]:
    from sharegptvideo.data.sources.benchmark_rows import BENCHMARKS
    from sharegptvideo.data.sources.original_rows import (
        read_activitynet,
        read_msrvtt,
        read_msvd,
        read_tgif_frameqa,
        read_video_chatgpt,
    )
    from sharegptvideo.data.sources.plain import read_described, read_plain

    assert task.annotations is not None, "it has the files"
    questions = files[0]
    match task.annotations.reader:
        case "msvd":
            return read_msvd(questions, mapping)
        case "msrvtt":
            return read_msrvtt(questions, mapping)
        case "activitynet":
            return read_activitynet(questions)
        case "tgif":
            return read_tgif_frameqa(questions)
        case "plain":
            assert task.config is not None, "a task says so"
            return read_plain(questions, CONFIGS[task.config])
        case "video-chatgpt":
            # The type is the file's: one for all questions of a task.
            return (row | {"question_type": None} for row in read_video_chatgpt(questions))
        case "captions":
            return read_described(questions)
        case reader:
            return BENCHMARKS[reader](files, mapping)


def _read_rows(task: Task, data_dir: Path | None) -> Iterator[Row]:
    from sharegptvideo.data.load import read_rows

    assert task.config is not None, "its questions are rows"
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
        clips = row.get("clips") or [row["video"]]  # one video's clip may lie in several folders
        path = next(filter(None, map(folder.resolve, clips)), None)
        for clip in [] if path else clips:
            if unlisted := folder.unlisted(clip):
                text = f"{media / unlisted}: an ending that no video is known by; rename the file"
                warnings.warn(text, MediaWarning, stacklevel=2)
            if link := folder.broken_link(clip):
                text = f"{media / link}: a link that leads nowhere; fix or remove it"
                warnings.warn(text, MediaWarning, stacklevel=2)
        if path and row.get("span"):
            _check_cut(path, *row["span"])
        yield row | {"video_path": str(path) if path else None}


def _check_cut(clip: Path, start: float, end: float) -> None:
    """Refuse a whole video where a question is on a part of it: frames are taken of all of it."""
    from sharegptvideo.media.facts import read_facts

    facts = read_facts(clip)
    seconds = facts.duration_s or (facts.frames or 0) / _PICTURES_A_SECOND
    if seconds > end - start + 1:
        raise UserError(
            f"{clip}: {duration(seconds)} long, and a question is on {start:g} to {end:g} s of it;"
            " put the cut clip there (the set's own archive has folders *_segment of them)"
        )


def media_folder(task: Task, data_dir: Path | None, media: Path | None) -> Path | None:
    """Return the folder of a task's clips: `media`, the data folder, or the built-in world's."""
    if media is not None or data_dir is not None:
        return media or data_dir
    if task.config is None or not task.config.startswith("synthetic"):
        return None
    from sharegptvideo.data.sources import world_folder

    return world_folder()


def _question(task: Task, row: Row) -> Question:
    if task.form == "description":
        return Question(
            id=str(row["id"]),
            task=task.name,
            video=row["video"],
            question=task.prompt,
            answer=row["caption"],
            video_path=row.get("video_path"),
        )
    return Question(
        id=str(row["id"]),
        task=task.name,
        video=row["video"],
        question=row["question"],
        answer=row["answer"],
        caption=row.get("caption"),
        question_type=row.get("question_type"),
        video_path=row.get("video_path"),
        options=tuple(row.get("options") or ()),
        pair=row.get("pair"),
    )
