"""The tasks as lmms-eval takes them, so that the models it has adapters for run on them.

```
lmms-eval --include_path "$(python -m sharegptvideo.eval.lmms_eval_tasks)" --tasks msvd_qa ...
```

The questions, prompts, judge and statistics are those of `sharegptvideo eval`; lmms-eval loads the
model and asks it. Its tasks have no options, so what the command line would say is said by the
environment: see `Settings`. `predictions:` reads the sample logs, to judge the same answers anew.

A task's YAML names the function here that is called like the task, in place of data of lmms-eval's
own (`process_docs`), and a function for each figure, which lmms-eval gives each document's values.
Those of the first one, `accuracy` or `answers`, are the answers: it has them judged and leaves a
run folder, which `sharegptvideo eval compare`, `agreement` and `leaderboard` read. The others
return figures of that run.

Tasks of yes and no, of choice, of descriptions and of aspects have names with `PREFIX`: lmms-eval
has some of its own that are called like ours.
"""

from __future__ import annotations

import ast
import contextlib
import logging
import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sharegptvideo._io import write_json, write_jsonl
from sharegptvideo._shipped import shipped
from sharegptvideo.errors import UserError
from sharegptvideo.eval.run import judge_predictions, open_judges
from sharegptvideo.eval.score import MISSING_CLIP
from sharegptvideo.eval.tasks import Task, load_questions, load_task, media_folder, task_names
from sharegptvideo.judges.protocol import ASPECTS
from sharegptvideo.models.base import Question
from sharegptvideo.models.predictions import model_name

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = [
    "FIGURES",
    "PREFIX",
    "Kind",
    "Settings",
    "accuracy",
    "answers",
    "cannot_be_asked",
    "documents",
    "folder",
    "kind_of",
    "messages",
    "process_results",
    "task_questions",
]

_log = logging.getLogger(__name__)


def folder() -> Path:
    """Return the folder to give to lmms-eval's `--include_path`."""
    return shipped("eval/lmms_eval_tasks")


@dataclass(frozen=True, slots=True)
class Settings:
    """The environment's part of a run; read when a task is loaded and when it is judged.

    | variable | as the option | default |
    | --- | --- | --- |
    | `SHAREGPTVIDEO_DATA_DIR` | `--data-dir` | the release on the Hub, or the built-in world |
    | `SHAREGPTVIDEO_MEDIA` | `--media` | the data folder |
    | `SHAREGPTVIDEO_JUDGE` | `--judge` | the task's own rules, else `answer-match` |
    | `SHAREGPTVIDEO_OUT` | `--out`, with a run folder a task in it | in lmms-eval's output path |

    An `openai:` judge finds its endpoint and key in `OPENAI_BASE_URL` and `OPENAI_API_KEY`.
    """

    data_dir: Path | None
    media: Path | None
    judge: str | None
    out: Path | None

    @classmethod
    def read(cls) -> Settings:
        """Return the settings as the environment has them now; an empty variable is none."""
        return cls(
            data_dir=_path("SHAREGPTVIDEO_DATA_DIR"),
            media=_path("SHAREGPTVIDEO_MEDIA"),
            judge=os.environ.get("SHAREGPTVIDEO_JUDGE") or None,
            out=_path("SHAREGPTVIDEO_OUT"),
        )


def _path(name: str) -> Path | None:
    value = os.environ.get(name)
    return Path(value).expanduser() if value else None


def __getattr__(name: str) -> Callable[..., Any]:
    if name in task_names():
        return partial(_process_docs, name)
    if any(name in figures[1:] for figures in FIGURES.values()):
        return _reader(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _process_docs(name: str, _stand_in: object) -> Dataset:
    try:
        return documents(name, Settings.read())
    except UserError as error:
        # lmms-eval tries again after any Exception, five times, and then reports the tries.
        raise SystemExit(f"error: {error}") from error


def documents(name: str, settings: Settings) -> Dataset:
    """Return the questions of the task `name` whose clip a model can be given.

    Columns: `id`, `task`, `video`, `prompt` (with the question), `answer`, `clip` (a file), and of
    multiple choice `options`, as they are shown.
    Questions that cannot be asked are left out, with a warning; `accuracy` counts them as failed.

    Raises:
        UserError: no such data or judge, an endpoint that does not answer, or not one clip.
    """
    from datasets import Dataset

    task = load_task(name)
    # Now, not after a day on eight GPUs.
    open_judges(settings.judge, [task])
    questions = task_questions(name, settings)
    asked = [question for question in questions if cannot_be_asked(question) is None]
    if not asked:
        raise UserError(
            f"task {name}: {cannot_be_asked(questions[0])}, and so for all {len(questions)}"
            " questions; say where the clips are with SHAREGPTVIDEO_MEDIA"
        )
    if len(asked) < len(questions):
        _log.warning(
            "%s: %d of %d questions cannot be asked (such as %s: %s); they count as failed",
            name,
            len(questions) - len(asked),
            len(questions),
            *next((q.id, cannot_be_asked(q)) for q in questions if cannot_be_asked(q)),
        )
    rows: list[dict[str, Any]] = []
    for question in asked:
        options = question.shown_options
        row = {
            "id": question.id,
            "task": name,
            "video": question.video,
            "prompt": task.render(question.question, options),
            "answer": question.answer,
            "clip": question.video_path,
        }
        rows.append(row | {"options": list(options)} if options else row)
    return Dataset.from_list(rows)


@cache
def task_questions(name: str, settings: Settings) -> list[Question]:
    """All questions of a task, with their clips.

    Raises:
        UserError: no such data, or nothing is said of where the clips are.
    """
    task = load_task(name)
    media = media_folder(task, settings.data_dir, settings.media)
    if media is None:
        raise UserError(f"task {name}: say where its clips are with SHAREGPTVIDEO_MEDIA")
    return load_questions(task, settings.data_dir, media)


def cannot_be_asked(question: Question) -> str | None:
    """Why lmms-eval's models cannot be asked this question; None where they can."""
    if question.video_path is None:
        return f"{MISSING_CLIP}{question.video}"
    if Path(question.video_path).is_dir():
        return "its clip is a folder of frames, and lmms-eval's models open files"
    return None


def messages(doc: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One document as a chat; lmms-eval's own way would take a GIF for an image."""
    content = [
        {"type": "video", "url": doc["clip"]},
        {"type": "text", "text": doc["prompt"]},
    ]
    return [{"role": "user", "content": content}]


PREFIX = "sharegptvideo_"
"""What lmms-eval's names of the tasks that are not of open answers begin with; the readers of its
logs leave it out."""

Kind = Literal["open", "choice", "yes-no", "claims", "aspect"]

_SPREAD = ("{}", "{}_se", "{}_low", "{}_high")


def _spread(*names: str) -> tuple[str, ...]:
    return tuple(each.format(name) for name in names for each in _SPREAD)


FIGURES: Mapping[Kind, tuple[str, ...]] = {
    "open": (*_spread("accuracy"), "score", "score_se", "coverage", "n", "videos"),
    "choice": (*_spread("accuracy"), "chance", "coverage", "n", "videos"),
    "yes-no": (
        *_spread("accuracy"),
        "chance",
        "coverage",
        "n",
        *_spread("pair_accuracy"),
        "videos",
        "yes_rate",
    ),
    "claims": (
        "answers",
        "claim_precision",
        "claim_recall",
        "coverage",
        *_spread("f1"),
        "n",
        "videos",
    ),
    "aspect": ("answers", "coverage", "n", *_spread("score"), "videos"),
}
"""Names of the figures of a kind of task. The one that judges, `accuracy` or `answers`, is first by
its place and by the alphabet: lmms-eval goes by the one in a single process and by the other in
several."""

_results: dict[str, dict[str, Any]] = {}  # by task, the figures of the last answers


def kind_of(task: Task) -> Kind:
    """Return which figures lmms-eval shows of a task."""
    if task.protocol in ASPECTS:
        return "aspect"
    return "claims" if task.form == "description" else task.form


def process_results(doc: Mapping[str, Any], results: Sequence[Any]) -> dict[str, Any]:
    """Return one document's part of each figure; nothing is judged yet.

    Args:
        doc: a row of `documents`.
        results: the answer, or where options are scored (loss, whether greedy) of each, which
            lmms-eval 0.7.3 hands on as text.
    """
    task = load_task(doc["task"])
    item = {"id": doc["id"], "task": doc["task"]}
    if task.choice == "likelihood":
        item |= _likeliest(doc["options"], results)
    else:
        item["prediction"] = results[0]
    if doc.get("options"):
        item["options"] = list(doc["options"])
    first, *others = FIGURES[kind_of(task)]
    return {first: item} | dict.fromkeys(others, doc["task"])


def _likeliest(options: Sequence[str], results: Sequence[Any]) -> dict[str, Any]:
    """Return the option with the least loss, the mean over its tokens, as the prediction.

    So most adapters of lmms-eval give it, and so lmms-eval reads it. Log-likelihoods, which are
    below 0 and the other way round, would make the least likely option the answer.
    """
    losses = [_loss(result) for result in results]
    if len(losses) != len(options) or not all(loss >= 0 for loss in losses):
        return {"prediction": None, "error": "the adapter gives no mean losses of the options"}
    return {"prediction": options[losses.index(min(losses))]}


def _loss(result: Any) -> float:
    """Return the loss of an option; NaN where there is none."""
    try:
        pair = ast.literal_eval(result) if isinstance(result, str) else result
        return float(pair[0])
    except (ValueError, SyntaxError, TypeError, IndexError):
        return math.nan


def accuracy(items: Sequence[Mapping[str, Any]], args: Any = None) -> float:
    """Judge all answers to one task, and return the share that is right.

    Args:
        items: `id`, `task` and `prediction` of each question that was asked.
        args: the command line of lmms-eval; None where it was called from Python.

    Where the judging ends early (an endpoint is gone) every figure is NaN, and what was answered
    and judged is in the folder that the error names.
    """
    return _figure(_judge(items, args), "accuracy")


def answers(items: Sequence[Mapping[str, Any]], args: Any = None) -> float:
    """Judge all answers to a task that has no right ones; return how many verdicts could be read.

    For `items`, `args` and judging that ends early see `accuracy`.
    """
    return _figure(_judge(items, args), "n_scored")


def _judge(items: Sequence[Mapping[str, Any]], args: Any) -> str:
    """Keep the figures of a task's answers, and return its name."""
    name = str(items[0]["task"])
    _results[name] = {}
    try:
        if getattr(args, "offset", 0):
            raise UserError("lmms-eval's --offset leaves out questions from the middle of a task")
        _results[name] = _judged(name, items, args)
    except (UserError, OSError) as error:
        # The answers, hours of work perhaps, are written by lmms-eval after this.
        _log.error("%s: not judged: %s", name, error)
    return name


def _judged(name: str, items: Sequence[Mapping[str, Any]], args: Any) -> dict[str, Any]:
    settings = Settings.read()
    rows, limit = _rows(name, items, settings)
    with tempfile.TemporaryDirectory() as scratch:
        home = _home(settings, args) or Path(scratch)
        file = home / "answers" / f"{name}.jsonl"
        write_jsonl(file, rows)
        write_json(file.parent / "run.json", {"model": _model(args)})
        try:
            results = judge_predictions(
                file,
                [name],
                settings.judge,
                home / name,
                data_dir=settings.data_dir,
                media=settings.media,
                limit=limit,
            )
        except UserError as error:
            judge = f" --judge {settings.judge}" if settings.judge else ""
            fix = (
                f"the answers are in {file}; go on with: sharegptvideo eval judge"
                f" --predictions {file} --task {name}{judge} --out {home / name}"
            )
            raise UserError(f"{error}; {fix}" if home != Path(scratch) else str(error)) from error
    figures: dict[str, Any] = results["tasks"][name]
    return figures


def _rows(
    name: str, items: Sequence[Mapping[str, Any]], settings: Settings
) -> tuple[list[dict[str, Any]], int | None]:
    """Return the rows of a file of predictions, and how many questions they are on (None: all).

    A question that could not be asked is a failed one, unless a limit ended the run before it.
    """
    questions = task_questions(name, settings)
    said = {str(item["id"]): item for item in items}
    able = [cannot_be_asked(question) for question in questions]
    last = max(at for at, question in enumerate(questions) if question.id in said)
    limit = last + 1 if len(said) < able.count(None) else None
    rows: list[dict[str, Any]] = []
    for question, cause in zip(questions[:limit], able, strict=False):
        row = {"id": question.id, "task": name}
        item = said.get(question.id, {})
        if item.get("prediction") is not None:
            row |= {"prediction": item["prediction"]}
            rows.append(row | {"options": list(item["options"])} if item.get("options") else row)
        else:
            error = item.get("error") or cause or "lmms-eval did not ask it"
            rows.append(row | {"status": "failed", "error": error})
    return rows, limit


def _home(settings: Settings, args: Any) -> Path | None:
    if settings.out is not None:
        return settings.out
    output = getattr(args, "output_path", None)
    if not output:
        return None
    name = str(_model(args)["name"]).strip("/").replace("/", "__")
    return Path(output) / "sharegptvideo" / name


def _model(args: Any) -> dict[str, Any]:
    adapter = str(getattr(args, "model", "unknown"))
    version: str | None = None
    with contextlib.suppress(metadata.PackageNotFoundError):  # in a checkout it is none
        version = metadata.version("lmms_eval")
    return {
        "kind": "lmms-eval",
        "name": model_name(adapter, getattr(args, "model_args", None)),
        "adapter": adapter,
        "lmms_eval": version,
    }


@cache
def _reader(figure: str) -> Callable[[Sequence[str]], float]:
    """Return the function that gives a figure of the task whose name it is handed."""
    name, part = next(
        ((figure.removesuffix(end), part) for end, part in _PARTS.items() if figure.endswith(end)),
        (figure, None),
    )

    def read(items: Sequence[str]) -> float:
        return _figure(items[0], name, part)

    read.__name__ = figure
    return read


_PARTS: Mapping[str, str | int] = {"_se": "se", "_low": 0, "_high": 1}


def _figure(task: str, name: str, part: str | int | None = None) -> float:
    """Return a figure of the last answers to a task, or one end of its interval; NaN: none."""
    value = _results[task].get(_KEYS.get(name, name))
    if isinstance(value, Mapping):
        value = value["ci95" if isinstance(part, int) else part or "value"]
    if isinstance(part, int):
        value = None if value is None else value[part]
    return math.nan if value is None else float(value)


_KEYS = {"videos": "clusters"}
"""What results.json calls a figure, where that is another name."""


if __name__ == "__main__":
    print(folder())
