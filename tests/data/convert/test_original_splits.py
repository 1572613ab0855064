"""Which file is which split: the table in code, the table for readers, and what is refused."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from sharegptvideo.data.publish.facts import templates_folder
from sharegptvideo.data.schema import CONFIGS
from sharegptvideo.data.sources.original_sets import ORIGINAL_SETS, original_set, split_of_file
from sharegptvideo.errors import UserError


def test_the_table_for_readers_is_the_one_in_code() -> None:
    text = (templates_folder() / "README.md").read_text("utf-8")
    lines = re.findall(r"^\| `[\w-]+` \| (?:train|validation|test) \|.*", text, re.MULTILINE)
    found = [tuple(cell.strip(" `") for cell in line.split("|")[1:-1]) for line in lines]
    expected = []
    for name, entry in ORIGINAL_SETS.items():
        prefix = {"msvd-qa": "vid", "msrvtt-qa": "video"}.get(name, "")
        for split, names in entry.files.items():
            written = "`, `".join(names.split(", "))
            count = f"{entry.questions[split]:,}" if split in entry.questions else ""
            if name == "tgif-qa":
                count = "by kind, see below"
            clips = ""
            if entry.clips:
                first, last = entry.clips[split]
                clips = f"{prefix}{first} to {prefix}{last}"
            expected.append((name, split, written, count, clips))
    assert found == expected


def test_the_splits_of_a_set_are_splits_of_its_config_and_clips_do_not_overlap() -> None:
    for entry in ORIGINAL_SETS.values():
        if entry.config:
            assert set(entry.files) <= set(CONFIGS[entry.config].splits)
        ranges = sorted(entry.clips.values())
        assert all(a[1] + 1 == b[0] for a, b in itertools.pairwise(ranges))


@pytest.mark.parametrize(
    ("source", "name", "split"),
    [
        ("msvd-qa", "val_qa.json", "validation"),
        ("msvd-qa", "msvd_qa_test_qa.json", "test"),
        ("msrvtt-qa", "TRAIN_qa.json", "train"),
        ("tgif-qa", "tgif_qa_Test_frameqa_question.csv", "test"),
        ("activitynet-qa", "val_q.json", "validation"),
        ("video-chatgpt", "consistency_qa.json", "test"),
        ("video-chatgpt", "VideoInstruct100K.json", "train"),
        # No word of these is a split: `latest` holds test, `value` holds val.
        ("msvd-qa", "latest_value.json", None),
    ],
)
def test_split_by_name(source: str, name: str, split: str | None) -> None:
    path, entry = Path("latest/train", name), original_set(source)
    if split is None:
        with pytest.raises(UserError, match="does not say which split it is; pass --split"):
            split_of_file(path, entry, None)
        assert split_of_file(path, entry, "validation") == "validation"
    else:
        assert split_of_file(path, entry, None) == split_of_file(path, entry, split) == split


@pytest.mark.parametrize(
    ("source", "name", "asked", "message"),
    [
        ("msvd-qa", "val_qa.json", "test", "validation by its name, not test"),
        ("msvd-qa", "train_val_qa.json", None, "says train and validation; rename"),
        ("msvd-qa", "train_val_qa.json", "train", "says train and validation; rename"),
        ("tgif-qa", "Total_count_question.csv", None, "holds all splits in one"),
        ("tgif-qa", "Total_count_question.csv", "test", "holds all splits in one"),
    ],
)
def test_names_that_are_refused(source: str, name: str, asked: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        split_of_file(Path(name), original_set(source), asked)


def test_a_file_of_ones_own_is_what_its_owner_says() -> None:
    plain = original_set("plain")
    assert split_of_file(Path("my_train_test.csv"), plain, "validation") == "validation"
    assert split_of_file(Path("my_test.csv"), plain, None) == "test"


def test_unknown_set() -> None:
    with pytest.raises(UserError, match="did you mean msvd-qa"):
        original_set("msvd")
