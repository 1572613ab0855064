"""The questions of a task: from the release or the synthetic world, or from original files."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sharegptvideo._text import and_more
from sharegptvideo.data.schema import CONFIGS
from sharegptvideo.errors import UserError
from sharegptvideo.eval.tasks.schema import AnnotationFiles, Task
from sharegptvideo.models.base import Question

__all__ = ["chosen_questions", "load_questions", "media_folder"]

Row = dict[str, Any]


def load_questions(
    task: Task, data_dir: Path | None = None, media: Path | None = None
) -> list[Question]:
    """All questions of a task, in the order of its file.

    Args:
        task: what to read.
        data_dir: a release, a synthetic world, or a folder with the task's original annotation
            files by the names that its YAML gives. None: the Hub, or for the synthetic tasks the
            built-in world.
        media: the folder with the clips; fills `video_path`.

    Raises:
        UserError: no such data, a broken row (file and line), or an id that occurs twice.
    """
    if data_dir is not None and not data_dir.exists():
        raise UserError(f"{data_dir}: no such data folder; mend --data-dir")
    found = _annotation_files(task.annotations, data_dir)
    if found is None and task.annotations is not None and task.annotations.reader == "plain":
        # The rows of its config would be other questions than those of the task.
        raise UserError(
            f"task {task.name}: {' or '.join(task.annotations.questions)} is neither beside the"
            " task's file nor in --data-dir"
        )
    rows = _read_annotations(task, *found) if found else _read_rows(task, data_dir)
    if media is not None:
        rows = _with_clips(rows, media)
    questions = [_question(task, row) for row in rows]
    if not questions:
        raise UserError(f"task {task.name}: {data_dir or 'its source'} holds no question")
    twice = [key for key, count in Counter(q.id for q in questions).items() if count > 1]
    if twice:
        raise UserError(
            f"task {task.name}: {len(twice)} ids occur more than once in {data_dir or 'its source'}"
            f" ({and_more(twice, 3)}); answers are kept by id, so mend the file"
        )
    return questions


def chosen_questions(
    questions: Sequence[Question], limit: int | None, draw: int | None
) -> list[Question]:
    """The first `limit` questions, or with the seed `draw` as many at random, in their order."""
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
    from sharegptvideo.data.sources.activitynet import read_activitynet
    from sharegptvideo.data.sources.msrvtt import read_msrvtt
    from sharegptvideo.data.sources.msvd import read_msvd
    from sharegptvideo.data.sources.plain import read_plain
    from sharegptvideo.data.sources.tgif import read_tgif_frameqa

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
        yield from read_rows(task.config, source=data_dir, split=task.split)
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
        yield row | {"video_path": str(path) if path else None}


def media_folder(task: Task, data_dir: Path | None, media: Path | None) -> Path | None:
    """Where a task's clips are: `media`, else the data folder, else the built-in world's folder."""
    if media is not None or data_dir is not None:
        return media or data_dir
    if not task.config.startswith("synthetic"):
        return None
    from sharegptvideo.data.sources.synthetic import world_folder

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
