"""The tasks as lmms-eval takes them, so that the models it has adapters for run on them.

```
lmms-eval --include_path "$(python -m sharegptvideo.eval.lmms_eval_tasks)" --tasks msvd_qa ...
```

The questions, prompts, judge and statistics are those of `sharegptvideo eval`; lmms-eval loads the
model and asks it. Its tasks have no options, so what the command line would say is said by the
environment: see `Settings`. `predictions:` reads the sample logs, to judge the same answers anew.

A task's YAML names the function here that is called like the task, in place of data of lmms-eval's
own (`process_docs`), and a function for each figure, which lmms-eval gives each document's values.
Those of the first one, `accuracy`, are the answers: it has them judged and leaves a run folder,
which `sharegptvideo eval compare`, `agreement` and `leaderboard` read. The others return figures of
that run.
"""

from __future__ import annotations

import logging
import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharegptvideo._io import write_json, write_jsonl
from sharegptvideo._shipped import shipped
from sharegptvideo.errors import UserError
from sharegptvideo.eval.run import judge_predictions
from sharegptvideo.eval.score import MISSING_CLIP
from sharegptvideo.eval.tasks import load_questions, load_task, media_folder, task_names
from sharegptvideo.judges import open_judge
from sharegptvideo.models.base import Question
from sharegptvideo.models.predictions import ID_FIELD, model_name

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = [
    "FIGURES",
    "Settings",
    "accuracy",
    "accuracy_high",
    "accuracy_low",
    "accuracy_se",
    "cannot_be_asked",
    "coverage",
    "documents",
    "folder",
    "messages",
    "n",
    "process_results",
    "score",
    "score_se",
    "task_questions",
    "videos",
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
    | `SHAREGPTVIDEO_JUDGE` | `--judge` | `answer-match` |
    | `SHAREGPTVIDEO_OUT` | `--out`, with a run folder a task in it | in lmms-eval's output path |

    An `openai:` judge finds its endpoint and key in `OPENAI_BASE_URL` and `OPENAI_API_KEY`.
    """

    data_dir: Path | None
    media: Path | None
    judge: str
    out: Path | None

    @classmethod
    def read(cls) -> Settings:
        """Return the settings as the environment has them now; an empty variable is none."""
        return cls(
            data_dir=_path("SHAREGPTVIDEO_DATA_DIR"),
            media=_path("SHAREGPTVIDEO_MEDIA"),
            judge=os.environ.get("SHAREGPTVIDEO_JUDGE") or "answer-match",
            out=_path("SHAREGPTVIDEO_OUT"),
        )


def _path(name: str) -> Path | None:
    value = os.environ.get(name)
    return Path(value).expanduser() if value else None


def __getattr__(name: str) -> Callable[[object], Dataset]:
    if name not in task_names():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return partial(_process_docs, name)


def _process_docs(name: str, _stand_in: object) -> Dataset:
    try:
        return documents(name, Settings.read())
    except UserError as error:
        # lmms-eval tries again after any Exception, five times, and then reports the tries.
        raise SystemExit(f"error: {error}") from error


def documents(name: str, settings: Settings) -> Dataset:
    """Return the questions of the task `name` whose clip a model can be given.

    Columns: `id`, `task`, `video`, `prompt` (with the question), `answer`, `clip` (a file).
    Questions that cannot be asked are left out, with a warning; `accuracy` counts them as failed.

    Raises:
        UserError: no such data or judge, an endpoint that does not answer, or not one clip.
    """
    from datasets import Dataset

    task = load_task(name)
    # Now, not after a day on eight GPUs.
    open_judge(settings.judge, protocol=task.protocol).check()
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
    return Dataset.from_list(
        [
            {
                "id": question.id,
                "task": name,
                "video": question.video,
                "prompt": task.render(question.question),
                "answer": question.answer,
                "clip": question.video_path,
            }
            for question in asked
        ]
    )


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


FIGURES = (
    ID_FIELD,
    "accuracy_se",
    "accuracy_low",
    "accuracy_high",
    "score",
    "score_se",
    "coverage",
    "n",
    "videos",
)
"""Names of the figures. `accuracy` is first, by its place and by the alphabet: lmms-eval goes by
the one in a single process and by the other in several."""

_results: dict[str, dict[str, Any]] = {}  # by task, the figures of the last answers


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Return one document's part of each figure; nothing is judged yet."""
    item = {"id": doc["id"], "task": doc["task"], "prediction": results[0]}
    return {ID_FIELD: item} | dict.fromkeys(FIGURES[1:], doc["task"])


def accuracy(items: Sequence[Mapping[str, Any]], args: Any = None) -> float:
    """Judge all answers to one task, and return the share that is right.

    Args:
        items: `id`, `task` and `prediction` of each question that was asked.
        args: the command line of lmms-eval; None where it was called from Python.

    Where the judging ends early (an endpoint is gone) every figure is NaN, and what was answered
    and judged is in the folder that the error names.
    """
    name = str(items[0]["task"])
    _results[name] = {}
    try:
        if getattr(args, "offset", 0):
            raise UserError("lmms-eval's --offset leaves out questions from the middle of a task")
        _results[name] = _judged(name, items, args)
    except (UserError, OSError) as error:
        # The answers, hours of work perhaps, are written by lmms-eval after this.
        _log.error("%s: not judged: %s", name, error)
    return _figure(name, "accuracy", "value")


def _judged(name: str, items: Sequence[Mapping[str, Any]], args: Any) -> dict[str, Any]:
    settings = Settings.read()
    rows, limit = _rows(name, items, settings)
    with tempfile.TemporaryDirectory() as scratch:
        home = _home(settings, args) or Path(scratch)
        answers = home / "answers" / f"{name}.jsonl"
        write_jsonl(answers, rows)
        write_json(answers.parent / "run.json", {"model": _model(args)})
        try:
            results = judge_predictions(
                answers,
                [name],
                settings.judge,
                home / name,
                data_dir=settings.data_dir,
                media=settings.media,
                limit=limit,
            )
        except UserError as error:
            fix = (
                f"the answers are in {answers}; go on with: sharegptvideo eval judge"
                f" --predictions {answers} --task {name} --judge {settings.judge} --out"
                f" {home / name}"
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
    said = {str(item["id"]): item["prediction"] for item in items}
    able = [cannot_be_asked(question) for question in questions]
    last = max(at for at, question in enumerate(questions) if question.id in said)
    limit = last + 1 if len(said) < able.count(None) else None
    rows: list[dict[str, Any]] = []
    for question, cause in zip(questions[:limit], able, strict=False):
        row = {"id": question.id, "task": name}
        if question.id in said:
            rows.append(row | {"prediction": said[question.id]})
        else:
            rows.append(row | {"status": "failed", "error": cause or "lmms-eval did not ask it"})
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
    return {
        "kind": "lmms-eval",
        "name": model_name(adapter, getattr(args, "model_args", None)),
        "adapter": adapter,
        "lmms_eval": metadata.version("lmms_eval"),
    }


def _figure(name: str, figure: str, part: str | None = None) -> float:
    value = _results[name].get(figure)
    if part is not None and value is not None:
        value = value[part]
    return math.nan if value is None else float(value)


def _bound(name: str, which: int) -> float:
    bounds = (_results[name].get("accuracy") or {}).get("ci95")
    return math.nan if bounds is None else float(bounds[which])


def accuracy_se(items: Sequence[str]) -> float:
    """Return the standard error of `accuracy`, clustered by video."""
    return _figure(items[0], "accuracy", "se")


def accuracy_low(items: Sequence[str]) -> float:
    """Return the lower end of the 95 % interval of `accuracy`, clustered by video."""
    return _bound(items[0], 0)


def accuracy_high(items: Sequence[str]) -> float:
    """Return the upper end of the 95 % interval of `accuracy`, clustered by video."""
    return _bound(items[0], 1)


def score(items: Sequence[str]) -> float:
    """Return the judge's mean score."""
    return _figure(items[0], "score", "value")


def score_se(items: Sequence[str]) -> float:
    """Return the standard error of `score`, clustered by video."""
    return _figure(items[0], "score", "se")


def coverage(items: Sequence[str]) -> float:
    """Return the share of the questions whose outcome is known."""
    return _figure(items[0], "coverage")


def n(items: Sequence[str]) -> float:
    """Count the questions asked, those included that could not be given to the model."""
    return _figure(items[0], "n")


def videos(items: Sequence[str]) -> float:
    """Count the videos that the questions are about."""
    return _figure(items[0], "clusters")


if __name__ == "__main__":
    print(folder())
