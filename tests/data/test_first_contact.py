"""What a user types first: no config, no split, slices, all splits; in both forms, with media."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from sharegptvideo import load_dataset, read_rows
from sharegptvideo.data.sources import DataWarning, ReadReport
from sharegptvideo.errors import UserError

Row = Callable[..., dict[str, Any]]
Write = Callable[..., Path]
Load = Callable[..., Any]


def _through_datasets(name: str | None = None, split: Any = None, **options: Any) -> Any:
    return datasets.load_dataset("sharegptvideo", name, split=split, **options)


BOTH = pytest.mark.parametrize("load", [load_dataset, _through_datasets], ids=["ours", "datasets"])


@pytest.fixture
def seven(release: Path, write: Write, qa_row: Row) -> Path:
    """Seven questions, two of them for validation; captions; the clip of question 3."""
    write("train/qa/a.jsonl", *(qa_row(number) for number in range(7)))
    write("train/pretrain/video_caption_pretrain.jsonl", qa_row(0), qa_row(1))
    write("test/msvd.qa.jsonl", qa_row(1), qa_row(2))
    (release / "splits.json").write_text('{"validation": ["clip_1", "clip_5"]}')
    (release / "clip_3.mp4").write_bytes(b"x")
    return release


def test_captions_where_no_config_is_named(seven: Path) -> None:
    assert load_dataset(data_dir=seven)["caption"] == ["It is 0."]
    tables = datasets.load_dataset("sharegptvideo", data_dir=str(seven))
    assert {split: table["caption"][:] for split, table in tables.items()} == {
        "train": ["It is 0."],
        "validation": ["It is 1."],
    }


@pytest.mark.parametrize("streaming", [False, True])
def test_the_only_or_first_split_where_none_is_named(seven: Path, streaming: bool) -> None:
    ids = [row["id"] for row in load_dataset("qa", data_dir=seven, streaming=streaming)]
    assert ids == ["q0", "q2", "q3", "q4", "q6"]
    test = load_dataset("msvd_qa", data_dir=seven, streaming=streaming)
    assert str(test.split) == "test"
    assert [row["id"] for row in test] == ["q1", "q2"]
    assert [row["id"] for row in read_rows("msvd_qa", seven)] == ["q1", "q2"]


def test_the_first_split_of_parquet_is_one_that_is_there(seven: Path, tmp_path: Path) -> None:
    folder = tmp_path / "parquet" / "qa"
    folder.mkdir(parents=True)
    table = load_dataset("qa", "validation", data_dir=seven)
    table.to_parquet(folder / "validation-00000-of-00001.parquet")
    assert load_dataset("qa", data_dir=folder.parent)["id"] == ["q1", "q5"]
    (folder / "validation-00000-of-00001.parquet").rename(folder / "dev-00000-of-00001.parquet")
    with pytest.raises(UserError, match=r"qa: no split of it is here \(train or validation\)"):
        load_dataset("qa", data_dir=folder.parent)


SLICES: dict[Any, list[str]] = {
    "train[:2]": ["q0", "q2"],
    "train[4:]": ["q6"],
    "train[:50]": ["q0", "q2", "q3", "q4", "q6"],
    "train[:0]": [],
    "train[7:]": [],
    "train[:1]+validation[1:]+train[4:5]": ["q0", "q5", "q6"],
    "validation + train[:1]": ["q1", "q5", "q0"],
    "all": ["q0", "q2", "q3", "q4", "q6", "q1", "q5"],
    datasets.Split.VALIDATION: ["q1", "q5"],
}


@BOTH
@pytest.mark.parametrize("streaming", [False, True])
def test_slices(seven: Path, load: Load, streaming: bool) -> None:
    for split, ids in SLICES.items():
        rows = load("qa", split, data_dir=str(seven), streaming=streaming)
        assert [row["id"] for row in rows] == ids, split


@BOTH
@pytest.mark.parametrize("streaming", [False, True])
def test_slices_with_media(seven: Path, load: Load, streaming: bool) -> None:
    options = {"data_dir": str(seven), "media": str(seven), "streaming": streaming}
    with pytest.warns(DataWarning, match="1 video not found, video_path is null: clip_2"):
        rows = list(load("qa", "train[1:3]", **options))
    assert [row["video_path"] for row in rows] == [None, str(seven / "clip_3.mp4")]


@BOTH
@pytest.mark.filterwarnings("ignore::sharegptvideo.data.sources.DataWarning")
def test_a_slice_comes_before_what_require_media_leaves_out(seven: Path, load: Load) -> None:
    for streaming in (False, True):
        options = {"media": str(seven), "require_media": True, "streaming": streaming}
        assert [r["id"] for r in load("qa", "train[:3]", data_dir=str(seven), **options)] == ["q3"]
        assert not list(load("qa", "train[:2]", data_dir=str(seven), **options))


def test_a_sliced_stream_reads_no_further(seven: Path, write: Write, qa_row: Row) -> None:
    write("train/qa/a.jsonl", *(qa_row(number) for number in range(2, 5)), "{")
    stream = load_dataset("qa", "train[:2]", data_dir=seven, streaming=True)
    assert [row["id"] for row in stream] == ["q2", "q3"]
    with pytest.raises(UserError, match="not JSON"):
        list(load_dataset("qa", "train[:9]", data_dir=seven, streaming=True))


@BOTH
def test_slices_in_percent_and_from_the_end_need_a_table(seven: Path, load: Load) -> None:
    for split, ids in {"train[:40%]": ["q0", "q2"], "train[-2:]": ["q4", "q6"]}.items():
        assert load("qa", split, data_dir=str(seven))["id"][:] == ids
        with pytest.raises(UserError, match="does not know how many rows there are") as caught:
            load("qa", split, data_dir=str(seven), streaming=True)
        assert repr(split) in str(caught.value)


@BOTH
@pytest.mark.filterwarnings("ignore::sharegptvideo.data.sources.DataWarning")
def test_no_split_gives_all_of_them(seven: Path, load: Load) -> None:
    tables = load("qa", None, data_dir=str(seven), media=str(seven))
    streams = load("qa", None, data_dir=str(seven), media=str(seven), streaming=True)
    assert isinstance(tables, datasets.DatasetDict)
    assert isinstance(streams, datasets.IterableDatasetDict)
    for found in (tables, streams):
        assert {split: len(list(rows)) for split, rows in found.items()} == {
            "train": 5,
            "validation": 2,
        }
    assert list(tables["train"]) == list(streams["train"])


def test_all_splits_as_plain_rows(seven: Path) -> None:
    expected = list(load_dataset("qa", "all", data_dir=seven))
    assert list(read_rows("qa", seven, None)) == list(read_rows("qa", seven, "all")) == expected
    with pytest.raises(UserError, match=r"'train\[:2\]': slices are taken by load_dataset"):
        read_rows("qa", seven, "train[:2]")


MISTYPED = {
    "trian": "unknown split of qa 'trian'; did you mean train?",
    "train[:2]+vali[:1]": "unknown split of qa 'vali'; did you mean validation?",
    "test": "unknown split of qa 'test'",
    "train[5]": "split 'train[5]': a slice is written as in train[:5] or train[10%:20%]",
    "train[:x]": "split 'train[:x]': a slice is written as in",
    "": "unknown split of qa ''",
}


@BOTH
@pytest.mark.parametrize("streaming", [False, True])
def test_mistyped_splits(seven: Path, load: Load, streaming: bool) -> None:
    for split, line in MISTYPED.items():
        with pytest.raises(UserError) as caught:
            load("qa", split, data_dir=str(seven), streaming=streaming)
        assert str(caught.value).startswith(line)


@BOTH
def test_a_slice_that_ends_before_it_begins(seven: Path, load: Load) -> None:
    with pytest.raises(UserError, match=r"train\[3:2\]: the slice ends before it begins"):
        load("qa", "train[3:2]", data_dir=str(seven))
    assert list(load("qa", "train[3:2]", data_dir=str(seven), streaming=True)) == []


@BOTH
def test_cache_dir_and_num_proc(seven: Path, load: Load, tmp_path: Path) -> None:
    for number in (1, 3):
        options = {"cache_dir": str(tmp_path / f"cache{number}"), "num_proc": number}
        table = load("qa", "train", data_dir=str(seven), **options)
        assert len(table) == 5
        assert table.cache_files[0]["filename"].startswith(options["cache_dir"])
    with pytest.raises(UserError, match="num_proc must be at least 1, got 0"):
        load("qa", "train", data_dir=str(seven), num_proc=0)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UserError, match=r"file.*SHAREGPTVIDEO_CACHE"):
        load("qa", "train", data_dir=str(seven), cache_dir=str(file))


def test_report_of_all_splits(seven: Path) -> None:
    report = ReadReport()
    with pytest.warns(DataWarning, match="6 videos not found"):
        load_dataset("qa", None, data_dir=seven, media=seven, report=report)
    assert len(report.missing_videos) == 6


NAMES = {
    "dpo": "did you mean preferences?",
    "sft_dpo_17k": "did you mean sft, preferences?",
    "chatgpt_qa_240k.jsonl": "did you mean qa?",
    "video_caption_pretrain": "did you mean captions, image_captions?",
    "actnet": "did you mean activitynet_qa, activitynet_qa_official?",
    "Preferences": "did you mean preferences?",
    "captoins": "did you mean captions, image_captions?",
}


@pytest.mark.parametrize("name", NAMES)
@BOTH
def test_mistyped_names(load: Load, name: str) -> None:
    with pytest.raises(UserError) as caught:
        load(name)
    assert str(caught.value).startswith(f"unknown dataset {name!r}; {NAMES[name]} (known: ")


@BOTH
@pytest.mark.parametrize(
    "place", ["..", "../..", "video_instruction/train", "video_instruction/train/qa", "clips"]
)
def test_a_folder_too_high_or_too_deep(seven: Path, load: Load, place: str) -> None:
    (seven / "clips").mkdir()
    (seven.parent / "outer").mkdir()
    seven = seven.rename(seven.parent / "outer" / "release")
    folder = (seven / place).resolve()
    with pytest.raises(UserError) as caught:
        load("qa", data_dir=str(folder))
    assert str(caught.value) == (
        f"{folder}: no video_instruction/train/qa/*.jsonl for config 'qa'; "
        f"{seven} has it: pass that folder as data_dir="
    )


def test_folders_in_the_release_layout_are_taken_as_they_are(seven: Path) -> None:
    expected = list(read_rows("qa", seven))
    (seven / "splits.json").rename(seven / "video_instruction" / "splits.json")
    assert list(read_rows("qa", seven / "video_instruction")) == expected


def test_the_folder_of_a_config_in_parquet(seven: Path, tmp_path: Path) -> None:
    folder = tmp_path / "parquet" / "qa"
    folder.mkdir(parents=True)
    load_dataset("qa", data_dir=seven).to_parquet(folder / "train-00000-of-00001.parquet")
    with pytest.raises(UserError, match=rf"; {folder.parent} has it: pass that folder as data_dir"):
        load_dataset("qa", data_dir=folder)


@BOTH
def test_a_file_and_a_repository_where_a_folder_belongs(seven: Path, load: Load) -> None:
    file = seven / "video_instruction/train/qa/a.jsonl"
    with pytest.raises(UserError) as caught:
        load("qa", data_dir=str(file))
    assert str(caught.value).startswith(
        f"{file}: a file, not a folder; {seven} has it: pass that folder as data_dir=; "
        "a file of your own is made into one with `sharegptvideo data convert plain FILE"
    )
    with pytest.raises(UserError, match="no such folder; the release on the Hub is read where"):
        load("qa", data_dir="ShareGPTVideo/train_video_and_instruction")
    with pytest.raises(UserError, match=rf"{file}: a file, not a folder; media= is the folder"):
        load("qa", data_dir=str(seven), media=str(file))
