"""Rows about images: how they are read and loaded, where their files lie, what counts them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image
from typer.testing import CliRunner

import sharegptvideo  # noqa: F401 - registers the name
from sharegptvideo import as_trl, load_dataset, read_rows
from sharegptvideo.cli import app
from sharegptvideo.data.convert import convert
from sharegptvideo.data.media_availability import Count, media_availability
from sharegptvideo.data.publish import publish
from sharegptvideo.data.sources import DataWarning, ReadReport, world_folder
from sharegptvideo.data.stats import StatsSettings, caption_stats
from sharegptvideo.data.validate import validate
from sharegptvideo.errors import UserError
from sharegptvideo.media import read_image
from sharegptvideo.media.index import index_media

Row = dict[str, Any]
Write = Callable[..., Path]

CAPTIONS = "train/pretrain/image_caption_pretrain.jsonl"


def talk(*turns: str) -> list[Row]:
    return [
        {"from": ("human", "gpt")[number % 2], "value": turn} for number, turn in enumerate(turns)
    ]


def captioned(number: int, image: str) -> Row:
    turns = talk("<image>\nDescribe it.", f"It shows {number}.")
    return {"id": f"c{number}", "image": image, "conversations": turns}


@pytest.fixture
def rows(release: Path, write: Write) -> Path:
    """Image captions and a mixture of conversations; of the images two lie below `media`."""
    write(
        CAPTIONS,
        captioned(0, "allava_laion/images/0.jpeg"),
        captioned(1, "allava_laion/images/1.jpeg"),
        captioned(2, "allava_vflan/images/images_191task_1k/q.png"),
    )
    write(
        "train/sft/a.jsonl",
        {"id": "image", "image": "allava_laion/images/0.jpeg", "conversations": talk("A?", "B.")},
        {"id": "broken", "image": "x/broken.jpg", "conversations": talk("A?\n<image>", "B.")},
        {"id": "text", "conversations": talk("A?", "B.")},
        {"id": "video", "video": "clip", "conversations": talk("<video>\nA?", "B.")},
    )
    return release


@pytest.fixture
def media(tmp_path: Path) -> Path:
    root = tmp_path / "media"
    names = ("allava_laion/images/0.jpeg", "image_191-task_1k/images_191task_1k/q.png")
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True)
        Image.new("RGB", (8, 6), (number, 0, 0)).save(root / name)
    (root / "x").mkdir()
    (root / "x/broken.jpg").write_bytes(b"404: Not Found")
    (root / "clip").mkdir()
    Image.new("RGB", (8, 8)).save(root / "clip/c01_0001.jpeg")
    return root


def plain(name: str, source: Path, **options: Any) -> list[Row]:
    return list(read_rows(name, source, **options))


def table(name: str, source: Path, **options: Any) -> list[Row]:
    return list(load_dataset(name, data_dir=source, **options))


def registered(name: str, source: Path, media: Path | None = None, **options: Any) -> list[Row]:
    options |= {} if media is None else {"media": str(media)}
    read = datasets.load_dataset(
        "sharegptvideo", name, data_dir=str(source), split="train", streaming=True, **options
    )
    return list(read)


READERS = pytest.mark.parametrize("read", [plain, table, registered])


@READERS
@pytest.mark.filterwarnings("ignore::sharegptvideo.data.sources.DataWarning")
def test_columns_and_paths(rows: Path, media: Path, read: Any) -> None:
    first, second, third = read("image_captions", rows, media=media)
    assert first == {
        "id": "c0",
        "image": "allava_laion/images/0.jpeg",
        "prompt": "Describe it.",
        "caption": "It shows 0.",
        "image_path": str(media / "allava_laion/images/0.jpeg"),
    }
    assert second["image_path"] is None
    assert third["image_path"] == str(media / "image_191-task_1k/images_191task_1k/q.png")
    assert read_image(third["image_path"])[0, 0].tolist() == [1, 0, 0]
    assert list(read("image_captions", rows)[0]) == ["id", "image", "prompt", "caption"]


@READERS
def test_missing_images_are_named(rows: Path, media: Path, read: Any) -> None:
    with pytest.warns(DataWarning) as caught:
        read("image_captions", rows, media=media)
    (warning,) = caught
    expected = "1 image not found, image_path is null: allava_laion/images/1.jpeg"
    assert str(warning.message) == expected
    with pytest.warns(DataWarning) as caught:
        kept = read("image_captions", rows, media=media, require_media=True)
    assert [row["id"] for row in kept] == ["c0", "c2"]
    assert "1 row left out for want of a readable image: c1" in {str(w.message) for w in caught}


@READERS
@pytest.mark.filterwarnings("ignore::sharegptvideo.data.sources.DataWarning")
def test_one_medium_a_row(rows: Path, media: Path, read: Any) -> None:
    paths = {
        row["id"]: (row["video_path"], row["image_path"]) for row in read("sft", rows, media=media)
    }
    assert paths == {
        "image": (None, str(media / "allava_laion/images/0.jpeg")),
        "broken": (None, str(media / "x/broken.jpg")),
        "text": (None, None),
        "video": (str(media / "clip"), None),
    }
    media_availability("sft", rows, index_media(media))  # lists what cannot be read
    kept = read("sft", rows, media=media, require_media=True)
    assert [row["id"] for row in kept] == ["image", "text", "video"]


@pytest.mark.filterwarnings("ignore::sharegptvideo.data.sources.DataWarning")
@pytest.mark.parametrize(
    ("row", "cause"),
    [
        ({"image": ["a.jpg", "b.jpg", "c.jpg"]}, "'image' is a list of 3 names where one belongs"),
        ({"image": ["a.jpg"]}, "'image' is a list where a text belongs"),
        ({"image": "a.jpg", "video": "clip"}, "names a video and an image where one of them"),
        ({"image": "../a.jpg"}, "'image' leads out of its folder"),
        ({"image": "/a.jpg"}, "'image' is an absolute path"),
        ({"image": ""}, "'image' is empty"),
    ],
)
def test_what_is_refused(release: Path, write: Write, row: Row, cause: str) -> None:
    good = {"id": "good", "image": "a.jpg", "conversations": talk("A?", "B.")}
    path = write("train/sft/a.jsonl", good, {"id": "bad", "conversations": talk("A?", "B."), **row})
    with pytest.raises(UserError) as caught:
        plain("sft", release)
    assert str(caught.value).startswith(f"{path}:2: {cause}")
    report = ReadReport()
    assert len(plain("sft", release, on_error="skip", report=report)) == 1
    assert len(report.skipped) == 1


def test_an_image_is_needed(release: Path, write: Write) -> None:
    write(CAPTIONS, {"id": "a", "video": "clip", "conversations": talk("A?", "B.")})
    with pytest.raises(UserError, match="no 'image'"):
        plain("image_captions", release)


def test_several_marks_for_one_image_are_counted(release: Path, write: Write) -> None:
    turns = talk("<image>\n<image>\nWhich?", "The first.", "And <image>?", "That too.")
    write("train/sft/a.jsonl", {"id": "a", "image": "a.jpg", "conversations": turns})
    (row,) = plain("sft", release)
    assert [turn["content"] for turn in row["messages"]] == [
        *("Which?", "The first.", "And ?", "That too.")
    ]
    report = validate(release)
    assert [finding.message for finding in report.findings if finding.check == "tag-left"] == [
        "'turn 1' holds <image> 2 times; the reader drops it",
        "'turn 3' holds <image>; the reader drops it",
    ]


def test_rows_of_an_image_lie_on_one_side(release: Path, write: Write) -> None:
    images = [f"allava_laion/images/{n}.jpeg" for n in range(400)]
    write(CAPTIONS, *(captioned(n, image) for n, image in enumerate(images)))
    asked = ({"id": image, "image": image, "conversations": talk("A?", "B.")} for image in images)
    write("train/sft/a.jsonl", *asked)
    sides = [
        {row["image"] for row in plain(name, release, split="validation")}
        for name in ("image_captions", "sft")
    ]
    assert sides[0] == sides[1]
    assert 0 < len(sides[0]) < 20


@pytest.mark.filterwarnings("ignore::sharegptvideo.data.sources.DataWarning")
def test_trl(rows: Path, media: Path) -> None:
    view = as_trl(load_dataset("image_captions", data_dir=rows, media=media, require_media=True))
    path = str(media / "allava_laion/images/0.jpeg")
    assert view[0]["messages"][0]["content"] == [
        {"type": "image", "image": path},
        {"type": "text", "text": "Describe it."},
    ]
    rows_with_null = load_dataset("image_captions", data_dir=rows, media=media, streaming=True)
    with pytest.raises(UserError, match=r"row c1: no image 'allava_laion/images/1.jpeg' under med"):
        list(as_trl(rows_with_null))


def test_the_synthetic_world_has_some() -> None:
    read = load_dataset("image_captions", data_dir="synthetic", media=world_folder())
    assert len(read) == 40
    for row in read.select(range(5)):
        assert read_image(row["image_path"]).shape == (96, 96, 3)
        assert "video" not in row["prompt"] + row["caption"]


# Status and validation.


def test_counted_as_clips_are(rows: Path, media: Path) -> None:
    index = index_media(media)
    captions = media_availability("image_captions", rows, index)
    assert captions.total == Count(rows=3, there=2, missing=1)
    assert list(captions.by_source) == ["allava_laion", "allava_vflan"]
    assert (captions.videos, captions.images) == (0, 3)
    assert captions.missing_images == ["allava_laion/images/1.jpeg"]
    sft = media_availability("sft", rows, index)
    assert sft.total == Count(rows=4, there=2, unreadable=1, no_media=1)
    cause = "cannot be read (no image, or of an unknown format)"
    assert sft.unreadable == {"x/broken.jpg": f"x/broken.jpg: {cause}"}
    assert sft.by_split["train"] == sft.total


def test_images_are_opened_again_only_once_they_changed(rows: Path, media: Path) -> None:
    def opened() -> list[int]:
        counts = []
        media_availability(
            "image_captions",
            rows,
            index_media(media),
            progress=lambda done, _total, what: (
                counts.append(done) if what == "images opened" else None
            ),
        )
        return counts

    paths = [path for path in media.rglob("*") if path.suffix in {".jpeg", ".png"}]
    for path in paths:
        os.utime(path, (1, 1))  # long ago: nothing may change within a tick of the clock
    assert opened() == [1, 2]
    assert opened() == []
    broken = media / "allava_laion/images/0.jpeg"
    broken.write_bytes(b"cut")
    assert opened() == [1]
    found = media_availability("image_captions", rows, index_media(media))
    assert list(found.unreadable) == ["allava_laion/images/0.jpeg"]


def test_a_folder_of_images_is_no_clip(rows: Path, media: Path) -> None:
    for name in ("images", "images_7", "image_191-task_1k"):
        (media / "more" / name).mkdir(parents=True)
        Image.new("RGB", (8, 6)).save(media / "more" / name / "a.jpeg")
    (media / "x/broken.jpg").unlink()
    assert [clip.path for clip in index_media(media).clips()] == ["clip"]
    assert media_availability("sft", rows, index_media(media)).total.there == 2


def test_status_on_the_command_line(rows: Path, media: Path, tmp_path: Path) -> None:
    runner = CliRunner(env={"COLUMNS": "200"})
    listed = tmp_path / "missing.txt"
    words = ["data", "status", "--data-dir", str(rows), "--media", str(media)]
    shown = runner.invoke(app, [*words, "--missing", str(listed)])
    assert shown.exit_code == 0, shown.output
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert ["image_captions", "all", "3", "2", "66.7", "%", "1", "0", "0"] in lines
    assert ["sft", "all", "4", "2", "66.7", "%", "0", "1", "1"] in lines
    assert "unreadable  x/broken.jpg: cannot be read (no image, or" in shown.stdout
    assert listed.read_text() == "allava_laion/images/1.jpeg\n"
    figures = json.loads(runner.invoke(app, [*words, "--json"]).stdout)["configs"]
    assert figures["image_captions"]["missing_images"] == 1
    assert list(figures["sft"]["unreadable_media"]) == ["x/broken.jpg"]


def test_validate_lists_what_is_missing_and_unreadable(rows: Path, media: Path) -> None:
    report = validate(rows, media=[media])
    assert (report.videos, report.images) == (1, 4)
    folder = rows / "video_instruction/train"
    listed = [(one.check, one.where, one.message) for one in report.findings]
    assert listed == [
        (
            "missing-media",
            f"{folder}/pretrain/image_caption_pretrain.jsonl:2",
            "no image allava_laion/images/1.jpeg (1 row)",
        ),
        (
            "unreadable-media",
            f"{folder}/sft/a.jsonl:2",
            f"{media}/x/broken.jpg: cannot be read (no image, or of an unknown format) (1 row)",
        ),
    ]


def test_validate_finds_an_image_in_any_of_several_folders(
    rows: Path, media: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    (other / "allava_laion/images").mkdir(parents=True)
    Image.new("RGB", (8, 6)).save(other / "allava_laion/images/1.jpeg")
    report = validate(rows, media=[media, other])
    assert report.count("missing-media") == 0


# Statistics, conversion, publishing.


def test_stats(rows: Path) -> None:
    figures = caption_stats(StatsSettings(rows, config="image_captions", workers=1))
    assert figures["whole"]["captions"] == 3
    assert figures["whole"]["videos"] == 3, "different images"


def test_convert_and_publish(tmp_path: Path, media: Path) -> None:
    mine = tmp_path / "mine.csv"
    mine.write_text(
        "image,prompt,caption\nallava_laion/images/0.jpeg,<image> What is it?,A cat.\n"
        "b/2.png,What is it?,A dog.\n"
    )
    out = tmp_path / "out"
    done = convert("plain", [mine], out, config="image_captions", split="train")
    assert (done.splits["train"].rows, done.splits["train"].images) == (2, 2)
    expected = [
        {
            "id": "mine-1",
            "image": "allava_laion/images/0.jpeg",
            "prompt": "What is it?",
            "caption": "A cat.",
        },
        {"id": "mine-2", "image": "b/2.png", "prompt": "What is it?", "caption": "A dog."},
    ]
    assert plain("image_captions", out) == table("image_captions", out) == expected
    tree = tmp_path / "tree"
    publish(out, "a/b", dry_run=tree, media=media)
    card = (tree / "image_captions/README.md").read_text()
    assert "| train | 2 | 2 images | 1 |" in card
    loaded = datasets.load_dataset("parquet", data_dir=str(tree / "image_captions"), split="train")
    assert loaded.to_list() == expected, "without a column of clips"
