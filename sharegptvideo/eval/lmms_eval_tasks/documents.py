"""The questions of a task as lmms-eval's documents.

A task's YAML names the function of this module that is called like the task; lmms-eval calls it in
place of its own data (`process_docs`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharegptvideo.errors import UserError
from sharegptvideo.eval.lmms_eval_tasks.settings import Settings
from sharegptvideo.eval.score import MISSING_CLIP
from sharegptvideo.eval.tasks import load_questions, load_task, media_folder, task_names
from sharegptvideo.judges import open_judge
from sharegptvideo.models.types import Question

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["cannot_be_asked", "documents", "messages", "task_questions"]

_log = logging.getLogger(__name__)


def __getattr__(name: str) -> Callable[[object], Dataset]:
    if name not in task_names():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return partial(_process_docs, name)


def _process_docs(name: str, _stand_in: object) -> Dataset:
    try:
        return documents(name, Settings.read())
    except UserError as error:
        # lmms-eval tries again after any Exception, five times, and then tells of the tries.
        raise SystemExit(f"error: {error}") from error


def documents(name: str, settings: Settings) -> Dataset:
    """The questions of the task `name` whose clip a model can be given.

    Columns: `id`, `task`, `video`, `prompt` (what the model is told), `answer`, `clip` (a file).
    Questions that cannot be asked are left out, with a warning; `figures` counts them as failed.

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
