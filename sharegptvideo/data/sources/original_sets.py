"""Which file of which published set is which split: written down once, and held to.

Published numbers on MSVD and MSRVTT have used both test and validation under one name. The two
cannot be mixed up here: a clip's number says which split it is of, whatever its file is called.
The table stands in `datasets_cards/README.md` for readers; a test keeps the two alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sharegptvideo.errors import UserError, unknown_name

__all__ = ["ORIGINAL_SETS", "OriginalSet", "original_set", "split_of_file"]

# The words in a file's name that say its split. `Total` holds more than one.
_WORDS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True, slots=True)
class OriginalSet:
    """A set as its authors published it.

    Attributes:
        name: what `data convert` calls it.
        title: what its authors call it.
        label: what `source` says of its rows, where the config has that column.
        config: where its rows go unless another config is asked for; None where it has to be.
        files: split → the authors' files, as in the table of `datasets_cards/README.md`.
        questions: split → how many questions the authors' files have.
        clips: split → first and last number of its clips, where clips are numbered.
        words: further words in a file's name that say its split.
    """

    name: str
    title: str
    label: str
    config: str | None
    files: Mapping[str, str] = field(default_factory=dict)
    questions: Mapping[str, int] = field(default_factory=dict)
    clips: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)


_QA_FILES = {"train": "train_qa.json", "validation": "val_qa.json", "test": "test_qa.json"}

ORIGINAL_SETS: dict[str, OriginalSet] = {
    entry.name: entry
    for entry in (
        OriginalSet(
            "msvd-qa",
            "MSVD-QA",
            "MSVD",
            "msvd_qa_official",
            _QA_FILES,
            {"train": 30_933, "validation": 6_415, "test": 13_157},
            {"train": (1, 1200), "validation": (1201, 1450), "test": (1451, 1970)},
        ),
        OriginalSet(
            "msrvtt-qa",
            "MSRVTT-QA",
            "MSRVTT",
            "msrvtt_qa_official",
            _QA_FILES,
            {"train": 158_581, "validation": 12_278, "test": 72_821},
            {"train": (0, 6512), "validation": (6513, 7009), "test": (7010, 9999)},
        ),
        OriginalSet(
            "tgif-qa",
            "TGIF-QA",
            "TGIF",
            "tgif_qa_official",
            {"train": "Train_*_question.csv", "test": "Test_*_question.csv"},
        ),
        OriginalSet(
            "activitynet-qa",
            "ActivityNet-QA",
            "ActivityNet",
            "activitynet_qa_official",
            {
                "train": "train_q.json, train_a.json",
                "validation": "val_q.json, val_a.json",
                "test": "test_q.json, test_a.json",
            },
            {"train": 32_000, "validation": 18_000, "test": 8_000},
        ),
        OriginalSet(
            "video-chatgpt",
            "Video-ChatGPT",
            "Video-ChatGPT",
            None,
            {
                "train": "VideoInstruct100K.json",
                "test": "generic_qa.json, temporal_qa.json, consistency_qa.json, "
                "test_q.json, test_a.json",
            },
            words={
                "videoinstruct100k": "train",
                "videoinstruct": "train",
                "generic": "test",
                "temporal": "test",
                "consistency": "test",
            },
        ),
        OriginalSet("plain", "a file of one's own", "plain", None),
    )
}
"""Every source of `data convert` by its name."""


def original_set(name: str) -> OriginalSet:
    """Return a set by its name.

    Raises:
        UserError: there is none; names the nearest.
    """
    if name not in ORIGINAL_SETS:
        raise unknown_name("source", name, ORIGINAL_SETS)
    return ORIGINAL_SETS[name]


def split_of_file(path: Path, original: OriginalSet, asked: str | None) -> str:
    """Return the split that a file holds: by the words of its name, or as asked where it has none.

    A file of one's own is what its owner says; its name is only asked where nothing is said.

    Raises:
        UserError: the name says no split or two, or another one than asked for.
    """
    if asked is not None and not original.files:
        return asked
    known = {**_WORDS, **original.words}
    words = re.split(r"[^a-z0-9]+", path.name.lower())
    named = {known[word] for word in words if word in known}
    if "total" in words and not named:
        raise UserError(f"{path}: holds all splits in one; take the files of each split")
    if len(named) > 1:
        raise UserError(f"{path}: its name says {' and '.join(sorted(named))}; rename it")
    if asked is None:
        if not named:
            raise UserError(f"{path}: its name does not say which split it is; pass --split")
        return named.pop()
    if named and asked not in named:
        raise UserError(f"{path}: {named.pop()} by its name, not {asked}; leave out --split")
    return asked
