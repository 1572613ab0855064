"""The rows of a dataset in the forms that other trainers read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from sharegptvideo._io import os_errors
from sharegptvideo.data.schema import CLIP, IMAGE_PATH, VIDEO_PATH
from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    from datasets import Features

__all__ = ["as_trl", "view_features", "view_of"]

Data = TypeVar("Data")
Row = dict[str, Any]


def as_trl(dataset: Data) -> Data:
    """Return the conversations of a dataset as TRL has them, with the clip as a content part.

    | columns of `dataset` | columns given |
    | --- | --- |
    | `messages` (`sft`) | `id`, `messages` |
    | `prompt`, `chosen`, `rejected` (`preferences`) | `id`, `prompt`, `chosen`, `rejected` |
    | `prompt`, `caption` (`captions`, `image_captions`) | `id`, `messages` |
    | `question`, `answer` (`qa`) | `id`, `messages` |

    Each of these is a list of `{"role", "content"}`, and each content a list of parts:
    `{"type": "text", "text": ...}`, and before the first user's text
    `{"type": "video", "video": ...}`, or `{"type": "image", "image": ...}` for a row about an
    image. A part has the keys of its type and no others (they are stored as JSON): many chat
    templates take a part that merely has a key `video`, though null, for a video.

    The video is `video_path` where the dataset was loaded with `media=` (a file, or a folder of
    frames), and the image `image_path`; without, the names as the row has them. A conversation
    about neither is text alone. Where clips are published within the rows, their column `clip`
    stays. `image` is no column here, as TRL would take it for pictures.

    TRL 1.16 has no video column: its own preparation tokenises the conversations, and pixels
    have to come from a collator of one's own, with
    `SFTConfig(dataset_kwargs={"skip_prepare_dataset": True}, remove_unused_columns=False)`.

    Args:
        dataset: a `datasets.Dataset`, an `IterableDataset` (rows are turned as they are read),
            or a dict of them by split.

    Returns:
        The same kind of object.

    Raises:
        UserError: the columns are of none of these (test sets are not for training), or a row's
            `video_path` or `image_path` is null: load with `require_media=True` to leave such
            rows out. A stream raises when it reaches the row.
    """
    from datasets import DatasetDict, IterableDatasetDict

    if isinstance(dataset, DatasetDict | IterableDatasetDict):
        views: Data = type(dataset)({split: as_trl(part) for split, part in dataset.items()})
        return views
    view: Data = _mapped(dataset)
    return view


def _mapped(dataset: Any) -> Any:
    from datasets import Dataset

    names = dataset.column_names
    if names is None:  # a stream whose features are not known yet
        names = list(next(iter(dataset), {}))
    turn, columns = view_of(names)
    features = view_features(columns)
    if isinstance(dataset, Dataset):
        return _mapped_table(dataset, turn, features)
    if CLIP in (dataset.features or ()):
        features[CLIP] = dataset.features[CLIP]
    gone = [name for name in names if name not in features or name == "id"]
    return dataset.map(turn, remove_columns=gone, features=features)


def _mapped_table(table: Any, turn: Any, features: Features) -> Any:
    from datasets import Dataset, concatenate_datasets

    if not len(table):
        # `map` gives a table without rows back without its columns.
        empty: dict[str, list[Any]] = {name: [] for name in features}
        return Dataset.from_dict(empty, features=features, split=table.split)
    # Clips stay where they are: `map` would decode them, and write them once more.
    clips = [CLIP] if CLIP in table.column_names else []
    rows = table.remove_columns(clips)
    with os_errors("the cache of the view", "make room beside the table that it is made of"):
        view = rows.map(turn, remove_columns=rows.column_names, features=features)
    return concatenate_datasets([view, table.select_columns(clips)], axis=1) if clips else view


def view_of(names: list[str]) -> tuple[Any, tuple[str, ...]]:
    """Return how to turn a row of these columns, and the columns of conversations that it gives.

    Raises:
        UserError: they are those of no training set.
    """
    there = set(names)
    if {"messages", "video", "image"} <= there:
        return _sft, ("messages",)
    if {"prompt", "chosen", "rejected", "video"} <= there:
        return _preference, ("prompt", "chosen", "rejected")
    if {"prompt", "caption", "source", "video"} <= there or {"prompt", "caption", "image"} <= there:
        return _caption, ("messages",)
    if {"question", "answer", "source", "video"} <= there:
        return _question, ("messages",)
    if {"question", "answer", "question_type"} <= there:
        raise UserError("as_trl: a test set is not for training; take sft, qa or preferences")
    raise UserError(
        f"as_trl: columns {', '.join(names) or 'none'} are those of no training set; it takes "
        "what load_dataset gives for sft, preferences, captions, image_captions or qa, as it is"
    )


def view_features(columns: tuple[str, ...]) -> Features:
    """Return the features of an id and columns of conversations; parts are stored as JSON."""
    from datasets import Features, Json, List, Value

    message = {"role": Value("string"), "content": List(Json())}
    return Features({"id": Value("string"), **{name: List(message) for name in columns}})


def _sft(row: Row) -> Row:
    return {"id": row["id"], "messages": _messages(row, row["messages"])}


def _caption(row: Row) -> Row:
    return {"id": row["id"], "messages": _asked(row, row["prompt"], row["caption"])}


def _question(row: Row) -> Row:
    return {"id": row["id"], "messages": _asked(row, row["question"], row["answer"])}


def _preference(row: Row) -> Row:
    return {
        "id": row["id"],
        "prompt": _messages(row, [{"role": "user", "content": row["prompt"]}]),
        **{side: [_message("assistant", [], row[side])] for side in ("chosen", "rejected")},
    }


def _asked(row: Row, question: str, answer: str) -> list[Row]:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return _messages(row, turns)


def _messages(row: Row, turns: Sequence[Mapping[str, str]]) -> list[Row]:
    """Return the turns with what the row is about before the first, which is the user's."""
    media = _media(row)
    return [
        _message(turn["role"], [] if number else media, turn["content"])
        for number, turn in enumerate(turns)
    ]


def _message(role: str, media: list[Row], text: str) -> Row:
    return {"role": role, "content": [*media, {"type": "text", "text": text}]}


def _media(row: Row) -> list[Row]:
    parts = []
    for medium, path in (("video", VIDEO_PATH), ("image", IMAGE_PATH)):
        name = row.get(medium)
        if name is None:
            continue
        place = row.get(path, name)
        if place is None:
            raise UserError(
                f"as_trl: row {row['id']}: no {medium} {name!r} under media=; load with "
                "require_media=True to leave such rows out"
            )
        parts.append({"type": medium, medium: place})
    return parts
