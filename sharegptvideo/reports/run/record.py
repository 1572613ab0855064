"""A run folder joined with its data: every question with its answer and verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharegptvideo._concurrency import Progress
from sharegptvideo.errors import UserError
from sharegptvideo.eval.judge import item_of
from sharegptvideo.eval.run_dir import asked_part, other_settings, read_run
from sharegptvideo.eval.run_record import check_judgement, check_prediction, read_rows
from sharegptvideo.eval.tasks import Task, load_questions, load_task, media_folder, task_names
from sharegptvideo.judges import JudgeItem
from sharegptvideo.models.base import Question, other_questions

__all__ = [
    "MIN_COVERAGE",
    "WITHOUT_SAMPLES",
    "Outcome",
    "Run",
    "Sample",
    "answering_models",
    "collect_samples",
    "open_run",
    "open_tasks",
    "outcome",
    "same_judge",
]

Row = dict[str, Any]
Key = tuple[str, str]
Outcome = str
"""`right`, `wrong`, `counted`: a description's claims, neither right nor wrong; `unscored`, or
`failed`: not answered, which counts as wrong."""

MIN_COVERAGE = 0.99
"""Below this share of questions with a known outcome, a figure is not put beside others."""

WITHOUT_SAMPLES = ", or write the tables alone with --no-samples"

# What a judge's description says of a place, not of the judge.
_PLACES = frozenset({"endpoint"})


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run: its record, its figures, and by (task, id) its answers and verdicts.

    `answered_by` counts, by task and judge (for a panel: by member), the models that in fact gave
    the verdicts, where a judge names them.
    """

    path: Path
    about: Row
    results: Row
    predictions: dict[Key, Row]
    judgements: dict[Key, Row]
    answered_by: dict[str, dict[str, Counter[str]]]

    @property
    def name(self) -> str:
        """The folder's own name, without the path to it."""
        return self.path.resolve().name

    @property
    def model(self) -> str:
        """The model's name, without the path to it where there is one."""
        model = self.about["model"]
        return str(model.get("name") or model["spec"])

    @property
    def authors(self) -> str | None:
        """Whose model it is, where somebody said so."""
        authors: str | None = self.about["model"].get("authors")
        return authors

    @property
    def link(self) -> str | None:
        """Where the model is described, likewise."""
        link: str | None = self.about["model"].get("link")
        return link

    def part(self, task: str) -> str:
        """Say which part of a task was asked, "" where all of it was."""
        return asked_part(self.about, task, self.results["tasks"][task]["n"])

    def settings(self, task: str) -> str:
        """Say under which settings other than the task's it was run, "" where under its own."""
        return other_settings(self.about, task)

    def judge(self, task: str) -> Row:
        """Return what run.json says of the judge of a task."""
        judge: Row = self.about["tasks"][task]["judge"]
        return judge


@dataclass(frozen=True, slots=True)
class Sample:
    """One question of a run. `question` is None where the data no longer has it.

    `other` is the other question of its pair and the answer, where both were judged together.
    """

    key: Key
    question: Question | None
    prediction: Row
    judgement: Row | None
    other: tuple[str, str] | None = None

    @property
    def outcome(self) -> Outcome:
        """What the answer counts as."""
        return outcome(self.prediction, self.judgement)

    @property
    def item(self) -> JudgeItem | None:
        """The answer as a judge gets it, with the texts that the data now has; None without one."""
        if self.question is None or self.prediction["status"] != "ok":
            return None
        options = self.prediction.get("options") or self.question.shown_options
        return item_of(
            self.question, self.prediction["prediction"], options=options, other=self.other
        )

    @property
    def is_of_other_texts(self) -> bool:
        """Whether the verdict was given on other texts than the data now has."""
        item, verdict = self.item, self.judgement
        if item is None or verdict is None:
            return False
        return bool(item.hash != (verdict.get("item_hash") or item.hash))


def open_run(path: Path) -> Run:
    """Read a finished run folder.

    Raises:
        UserError: it is no run folder, has not ended, or a line of its logs is broken.
    """
    about, results = read_run(path)
    for task in results["tasks"]:
        if task not in about["tasks"]:
            raise UserError(f"{path}: results.json has a task {task} that run.json lacks")
    checks = {"predictions.jsonl": check_prediction, "judgements.jsonl": check_judgement}
    for name in checks:
        if not (path / name).is_file():
            raise UserError(f"{path}: has no {name}; is a part of the folder missing?")
    predictions, judgements = (read_rows(path / name, check) for name, check in checks.items())
    answered: dict[str, dict[str, Counter[str]]] = {}
    for (task, _), row in judgements.items():
        for judge, model in answering_models(row):
            answered.setdefault(task, {}).setdefault(judge, Counter())[model] += 1
    return Run(path, about, results, predictions, judgements, answered)


def answering_models(judgement: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List (judge, model that in fact answered) of a judgement; several for a panel, or none."""
    about = judgement.get("judge") or {}
    asked = [(member["name"], member.get("judge") or {}) for member in about.get("members", ())]
    if not asked:
        asked = [(str(about.get("name", "judge")), about)]
    return [(name, str(each["answered_by"])) for name, each in asked if each.get("answered_by")]


def outcome(prediction: Mapping[str, Any], judgement: Mapping[str, Any] | None) -> Outcome:
    """Return what an answer and its verdict count as."""
    if prediction["status"] != "ok":
        return "failed"
    if judgement is None or judgement["status"] != "scored":
        return "unscored"
    if judgement.get("claims"):
        return "counted"
    return "right" if judgement["correct"] else "wrong"


def same_judge(first: Run, second: Run, task: str) -> bool:
    """Return whether a task was judged by the same judge, by the same rules, in both runs.

    For a judge served by an endpoint the same model has to have answered too.
    """
    judges = [
        {key: value for key, value in run.judge(task).items() if key not in _PLACES}
        for run in (first, second)
    ]
    models = [
        {judge: set(models) for judge, models in run.answered_by.get(task, {}).items()}
        for run in (first, second)
    ]
    return judges[0] == judges[1] and models[0] == models[1]


def collect_samples(
    run: Run,
    *,
    data_dir: Path | None = None,
    media: Path | None = None,
    task_path: Path | None = None,
    without: str = WITHOUT_SAMPLES,
    progress: Progress | None = None,
) -> dict[str, list[Sample]]:
    """Return every answer of a run by task, in the order of its file; last those it lacks now.

    Args:
        run: the run.
        data_dir: where the questions are; default: where the run had them.
        media: where the clips are; default: where the run had them.
        task_path: folder with the tasks that are the user's own; default: where the run had it.
        without: how the caller can do without the questions, as the end of an error's line.
        progress: called after each task.

    Raises:
        UserError: the questions cannot be read; names the option that says where they are.
    """
    recorded = run.about.get("data") or {}
    tasks = open_tasks(run, task_path, without)
    data = data_dir or _path(recorded.get("data_dir"))
    clips = media or _path(recorded.get("media"))
    if data is not None and not data.exists():
        raise _absent(data, "--data-dir", without)
    if clips is not None and not clips.is_dir():
        if media is not None:
            raise _absent(clips, "--media", without)
        clips = None  # the clips may be gone by now; the page says which have no frames
    samples = {}
    for number, (name, task) in enumerate(tasks.items()):
        questions = load_questions(task, data, media_folder(task, data, clips))
        samples[name] = list(_join(run, name, questions))
        if progress:
            progress(number + 1, len(tasks), "questions read")
    return samples


def open_tasks(run: Run, task_path: Path | None, without: str = "") -> dict[str, Task]:
    """Return the tasks of a run, on the splits that it asked.

    Args:
        run: the run.
        task_path: folder with the tasks that are the user's own; default: where the run had it.
        without: how the caller can do without them, as the end of an error's line.

    Raises:
        UserError: one is not there; names the option that says where it is.
    """
    own = task_path or _path((run.about.get("data") or {}).get("task_path"))
    if own is not None and task_path is None and not own.is_dir():
        raise _absent(own, "--task-path", without)
    tasks = {}
    for name in run.results["tasks"]:
        if name not in task_names(own):
            raise UserError(
                f"{run.path}: {name} is no task of this package; say with --task-path where its"
                f" file is{without}"
            )
        tasks[name] = load_task(name, own).of_split(run.about["tasks"][name].get("split"))
    return tasks


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def _absent(path: Path, option: str, without: str) -> UserError:
    return UserError(f"{path}: no such folder; say with {option} where it is now{without}")


def _join(run: Run, task: str, questions: Sequence[Question]) -> Iterator[Sample]:
    left = {key: row for key, row in run.predictions.items() if key[0] == task}
    together = run.judge(task).get("protocol") == "consistency"
    others = other_questions(questions) if together else {}
    for question in questions:
        key = (task, question.id)
        prediction = left.pop(key, None)
        if prediction is None:
            continue
        beside: tuple[str, str] | None = None
        if (other := others.get(question.key)) is not None:
            answer = run.predictions.get((task, other.id), {})
            beside = (other.question, answer.get("prediction") or "")
        yield Sample(key, question, prediction, run.judgements.get(key), beside)
    for key, prediction in left.items():
        yield Sample(key, None, prediction, run.judgements.get(key))
