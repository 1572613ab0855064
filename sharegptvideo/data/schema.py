"""One row type for each config, and what follows from it: columns, `datasets.Features`, splits.

No other module spells out column names as a list; they ask here. A column whose type admits
None may be null; all others are always there and never empty (an answer that lost, `rejected`,
may be the empty string).
"""

from __future__ import annotations

import functools
import os
import types
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, get_type_hints

from sharegptvideo.errors import UserError, unknown_name

if TYPE_CHECKING:
    from datasets import Features

__all__ = [
    "CLIP",
    "CONFIGS",
    "DEFAULT_CONFIG",
    "FRAMES",
    "IMAGE_PATH",
    "PATHS",
    "VIDEO_PATH",
    "CaptionRow",
    "Config",
    "ImageCaptionRow",
    "Message",
    "PreferenceRow",
    "QaRow",
    "SftRow",
    "TaskRow",
    "columns",
    "config_of",
    "features",
]

VIDEO_PATH = "video_path"
"""The column that `media=` adds: a file or a frame folder, null where it is absent."""

IMAGE_PATH = "image_path"
"""The column that `media=` adds to configs with images: a file, null where it is absent."""

PATHS = {"video": VIDEO_PATH, "image": IMAGE_PATH}
"""The columns that name media, and the column of paths of each."""

CLIP = "clip"
"""The column that holds a published clip: `datasets.Video`, null where the clip is absent."""

FRAMES = "frames"
"""The column that `frames=` adds: frames decoded as the row is read, null where there are none."""


class Message(TypedDict):
    """One turn; `role` is "user" or "assistant"."""

    role: str
    content: str


class CaptionRow(TypedDict):
    """A video and one detailed caption of it."""

    id: str
    video: str
    source: str | None
    prompt: str
    caption: str
    video_path: NotRequired[str | None]


class ImageCaptionRow(TypedDict):
    """A still image and one detailed caption of it."""

    id: str
    image: str
    prompt: str
    caption: str
    image_path: NotRequired[str | None]


class QaRow(TypedDict):
    """A question about a video with its reference answer."""

    id: str
    video: str
    source: str | None
    question: str
    answer: str
    caption: str | None
    video_path: NotRequired[str | None]


class SftRow(TypedDict):
    """A conversation about a video, an image, or neither; never both."""

    id: str
    video: str | None
    image: str | None
    messages: list[Message]
    video_path: NotRequired[str | None]
    image_path: NotRequired[str | None]


class PreferenceRow(TypedDict):
    """Two answers to one question, the better first."""

    id: str
    video: str
    source: str | None
    prompt: str
    chosen: str
    rejected: str
    chosen_score: float | None
    rejected_score: float | None
    answer: str | None
    caption: str | None
    video_path: NotRequired[str | None]


class TaskRow(TypedDict):
    """A test question with its reference answer."""

    id: str
    video: str
    question: str
    answer: str
    caption: str | None
    question_type: str | None
    video_path: NotRequired[str | None]


@functools.cache
def columns(row: type) -> dict[str, Any]:
    """Column names of a row type, in order, with their Python types; without those of paths."""
    hints = get_type_hints(row)
    return {name: hints[name] for name in row.__annotations__ if name not in PATHS.values()}


def _may_be_null(hint: Any) -> bool:
    return isinstance(hint, types.UnionType) and type(None) in hint.__args__


@dataclass(frozen=True, slots=True)
class Config:
    """A dataset that can be loaded by name.

    `file` is the pattern of its files under `video_instruction/` in the release layout;
    `splits` are all that a folder may hold of it, the one to show first at the front, and
    `released` those that the release and the Hub have (the rest is made by `data convert`);
    `columns` are its columns in order, without those of paths, and `paths` says which of them
    name media: "video" or "image" → the column that `media=` adds for it.
    """

    name: str
    row: type
    file: str
    description: str
    splits: tuple[str, ...]
    released: tuple[str, ...]
    columns: tuple[str, ...] = field(init=False)
    nullable: frozenset[str] = field(init=False)
    paths: dict[str, str] = field(init=False, hash=False)

    def __post_init__(self) -> None:
        hints = columns(self.row)
        empty = frozenset(name for name, hint in hints.items() if _may_be_null(hint))
        object.__setattr__(self, "columns", tuple(hints))
        object.__setattr__(self, "nullable", empty)
        paths = {name: path for name, path in PATHS.items() if name in hints}
        object.__setattr__(self, "paths", paths)

    @property
    def is_task(self) -> bool:
        """Whether this is a test set."""
        return self.row is TaskRow


_TRAIN = ("train", "validation")
_TEST = ("test",)
# The sets of short answers were published with all three; the release has the test side alone.
_ORIGINAL = ("test", "train", "validation")


def _task(name: str, stem: str, about: str) -> Config:
    return Config(f"{name}_qa", TaskRow, f"test/{stem}.qa.jsonl", about, _TEST, _TEST)


def _official(name: str, stem: str, about: str, released: tuple[str, ...] = _TEST) -> Config:
    file = f"test/{stem}.qa.official.jsonl"
    return Config(f"{name}_qa_official", TaskRow, file, about, _ORIGINAL, released)


def _table(*configs: Config) -> dict[str, Config]:
    table: dict[str, Config] = {}
    for config in configs:
        if config.name in table:
            raise ValueError(f"config {config.name!r} is defined twice")
        table[config.name] = config
    return table


CONFIGS: dict[str, Config] = _table(
    Config(
        "captions",
        CaptionRow,
        "train/pretrain/video_caption_pretrain.jsonl",
        "900k videos, one detailed caption each",
        _TRAIN,
        _TRAIN,
    ),
    Config(
        "qa",
        QaRow,
        "train/qa/*.jsonl",
        "questions and answers written from the captions",
        _TRAIN,
        _TRAIN,
    ),
    Config(
        "sft",
        SftRow,
        "train/sft/*.jsonl",
        "conversations for instruction tuning, about videos and images",
        _TRAIN,
        _TRAIN,
    ),
    Config(
        "image_captions",
        ImageCaptionRow,
        "train/pretrain/image_caption_pretrain.jsonl",
        "650k still images, one detailed caption each",
        _TRAIN,
        _TRAIN,
    ),
    Config(
        "preferences",
        PreferenceRow,
        "train/dpo/*.jsonl",
        "17k pairs of a better and a worse answer, for DPO",
        _TRAIN,
        _TRAIN,
    ),
    _task("webvid", "webvid", "in-domain test questions on WebVid, with captions"),
    _task("vidal", "vidal", "in-domain test questions on VIDAL, with captions"),
    _task("activitynet", "actnet", "in-domain test questions on ActivityNet, with captions"),
    _task("msrvtt", "msrvtt", "out-of-domain test questions on MSRVTT, with captions"),
    _task("msvd", "msvd", "out-of-domain test questions on MSVD, with captions"),
    _task("tgif", "tgif", "out-of-domain test questions on TGIF, with captions"),
    _task("ssv2", "ssv2", "out-of-domain test questions on SSV2, with captions"),
    _official("msrvtt", "msrvtt", "about 5k of the MSRVTT-QA test questions, short answers"),
    _official("msvd", "msvd", "about 5k of the MSVD-QA test questions, short answers"),
    _official("tgif", "tgif", "about 5k of the TGIF-QA test questions, short answers"),
    # Its questions are not those of `activitynet_qa`, so they get a name of their own.
    _official(
        "activitynet",
        "actnet",
        "ActivityNet-QA, short answers; not in the release: `data convert activitynet-qa`",
        released=(),
    ),
    _task("synthetic", "synthetic", "test questions on the synthetic world"),
    _task(
        "synthetic_ood",
        "synthetic_ood",
        "test questions on unseen combinations and another style of the synthetic world",
    ),
)
"""Every config by its name, training sets first."""

DEFAULT_CONFIG = "captions"
"""The config that loads where none is named."""


def config_of(name: str) -> Config:
    """Return a config by name.

    Raises:
        UserError: there is none; names the nearest, or says where a folder belongs.
    """
    if name not in CONFIGS:
        if os.path.isdir(name):  # noqa: PTH112  # never raises, whatever the name
            raise UserError(
                f"{name}: is a folder, not the name of a dataset; give it as --data-dir "
                "(data_dir= in Python)"
            )
        raise unknown_name("dataset", name, CONFIGS, also=_by_file(str(name)))
    return CONFIGS[name]


def _by_file(name: str) -> list[str]:
    """Return the configs whose files carry a name: `dpo` and `actnet` are words of the release."""
    words = name.removesuffix(".jsonl").lower().split("_")
    return [
        one.name
        for one in CONFIGS.values()
        if (len(name) > 2 and "_".join(words) in one.file)
        or (not one.is_task and one.file.split("/")[-2] in words)
    ]


def features(name: str, *, media: bool = False) -> Features:
    """`datasets.Features` of a config, with the columns of paths at the end when `media` is set.

    Raises:
        KeyError: `name` is not in `CONFIGS`.
    """
    from datasets import Features, List, Value

    def feature(hint: Any) -> Any:
        if _may_be_null(hint):
            (hint,) = (part for part in hint.__args__ if part is not type(None))
        if hint is str:
            return Value("string")
        if hint is float:
            return Value("float64")
        return List({key: Value("string") for key in get_type_hints(Message)})

    table = {key: feature(hint) for key, hint in columns(CONFIGS[name].row).items()}
    if media:
        table |= {path: Value("string") for path in CONFIGS[name].paths.values()}
    return Features(table)
