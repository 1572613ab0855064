"""`media_availability` and `sharegptvideo data status`: which rows have their clip."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from sharegptvideo import load_dataset
from sharegptvideo.cli import app
from sharegptvideo.data.media_availability import Count, media_availability
from sharegptvideo.data.sources import ReadReport
from sharegptvideo.media.index import index_media

Row = Callable[..., dict[str, Any]]
Write = Callable[..., Path]


@pytest.fixture
def cli() -> Callable[..., Any]:
    runner = CliRunner(env={"COLUMNS": "200"})
    return lambda *words: runner.invoke(app, ["data", "status", *map(str, words)])


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """Folders of one frame: good, broken, and one name twice."""
    root = tmp_path / "media"
    for name in ("chunk_0/good", "chunk_0/v_-0123456789", "chunk_0/twice", "chunk_1/twice"):
        (root / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(root / name / "c01_0001.jpeg")
    (root / "chunk_1" / "broken").mkdir()
    (root / "chunk_1" / "broken" / "c01_0001.jpeg").touch()
    return root


@pytest.fixture
def rows(release: Path, write: Write, qa_row: Row) -> Path:
    """Questions on clips in every state, and conversations of which one has no video."""
    videos = ["good", "good", "v_-0123456789", "v_-abcdefghij", "gone", "broken", "twice"]
    write(
        "train/qa/a.jsonl",
        *(qa_row(number, video) for number, video in enumerate(videos)),
        qa_row(9, "gone", source="WebVid"),
    )
    talk = [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Hello."}]
    write(
        "train/sft/a.jsonl",
        {"id": "a", "video": "good", "conversations": talk},
        {"id": "b", "video": "webvid/far", "conversations": talk},
        {"id": "c", "conversations": talk},
    )
    write("test/msvd.qa.jsonl", qa_row(1, "good"), qa_row(2, "test/msvd/far"))
    (release / "splits.json").write_text('{"validation": ["good"]}')
    return release


def test_rows_by_state_source_and_split(rows: Path, media: Path) -> None:
    found = media_availability("qa", rows, index_media(media))
    assert found.total == Count(rows=8, there=3, missing=3, unreadable=1, ambiguous=1)
    assert found.by_source == {
        "unknown": Count(rows=5, there=2, missing=1, unreadable=1, ambiguous=1),
        "ActivityNet": Count(rows=2, there=1, missing=1),
        "WebVid": Count(rows=1, missing=1),
    }
    assert found.by_split == {
        "train": Count(rows=6, there=1, missing=3, unreadable=1, ambiguous=1),
        "validation": Count(rows=2, there=2),
    }
    assert found.videos == 6
    assert found.missing == ["v_-abcdefghij", "gone"]
    assert found.unreadable == {"broken": "chunk_1/broken: frame c01_0001.jpeg is empty"}
    assert found.ambiguous == {
        "twice": "'twice' fits chunk_0/twice and chunk_1/twice; remove or rename all but one"
    }


def test_configs_without_a_source_column(rows: Path, media: Path) -> None:
    index = index_media(media)
    assert media_availability("sft", rows, index).by_source == {
        "unknown": Count(rows=1, there=1),
        "WebVid": Count(rows=1, missing=1),
        "none": Count(rows=1, no_media=1),
    }
    assert media_availability("msvd_qa", rows, index).by_source == {
        "MSVD": Count(rows=2, there=1, missing=1)
    }


@pytest.mark.filterwarnings("ignore::sharegptvideo.data.sources.DataWarning")
def test_rows_that_are_counted_as_there_are_those_that_require_media_keeps(
    rows: Path, media: Path
) -> None:
    from sharegptvideo import read_rows

    (media / "chunk_1" / "twice" / "c01_0001.jpeg").unlink()
    index = index_media(media)
    for name in ("qa", "sft"):
        split = "train+validation"
        kept = list(read_rows(name, rows, split, media=media, require_media=True))
        count = media_availability(name, rows, index).total
        assert len(kept) == count.there + count.no_media


def test_table(cli: Callable[..., Any], rows: Path, media: Path, tmp_path: Path) -> None:
    shown = cli("--data-dir", rows, "--media", media, "--missing", tmp_path / "out" / "list.txt")
    assert shown.exit_code == 0, shown.output
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert ["qa", "all", "8", "3", "37.5", "%", "3", "1", "1", "0"] in lines
    assert ["ActivityNet", "2", "1", "50.0", "%", "1", "0", "0", "0"] in lines
    assert ["sft", "all", "3", "1", "50.0", "%", "1", "0", "0", "1"] in lines
    assert ["msvd_qa", "MSVD", "2", "1", "50.0", "%", "1", "0", "0", "0"] in lines
    counted = f"{media}: 5 clips (videos: 0, folders of frames: 5, unreadable: 1)"
    assert counted in shown.stdout
    assert "media_index.sqlite: opened 5, unchanged 0, gone 0" in shown.stdout
    assert "unreadable  chunk_1/broken: frame c01_0001.jpeg is empty" in shown.stdout
    assert "missing  gone\n" in shown.stdout
    assert "ambiguous  'twice' fits" in shown.stdout
    names = (tmp_path / "out" / "list.txt").read_text().splitlines()
    assert names == ["v_-abcdefghij", "gone", "webvid/far", "test/msvd/far"]


def test_json_of_the_configs_named(cli: Callable[..., Any], rows: Path, media: Path) -> None:
    shown = cli("sft", "qa", "sft", "--data-dir", rows, "--media", media, "--json")
    figures = json.loads(shown.stdout)
    assert list(figures["configs"]) == ["sft", "qa"]
    assert figures["configs"]["qa"]["sources"]["WebVid"]["missing"] == 1
    assert figures["configs"]["qa"]["missing_videos"] == 2
    assert figures["media"]["unreadable"] == {"chunk_1/broken": "frame c01_0001.jpeg is empty"}
    assert (figures["media"]["opened"], figures["media"]["frame_folders"]) == (5, 5)


def test_a_release_with_media_beside_its_rows(
    cli: Callable[..., Any], shared_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "video_instruction").symlink_to(shared_data / "release" / "video_instruction")
    (tmp_path / "videos").symlink_to(shared_data / "videos")
    figures = json.loads(cli("--data-dir", tmp_path, "--json").stdout)
    tgif = figures["configs"]["tgif_qa"]
    assert (tgif["rows"], tgif["missing"]) == (6, 6), "the GIFs were left behind"
    assert figures["configs"]["msrvtt_qa"]["there"] == 3
    assert figures["media"]["unreadable"] == {}


def test_broken_rows_are_listed_when_asked(
    cli: Callable[..., Any], rows: Path, media: Path, write: Write, qa_row: Row
) -> None:
    write("test/msvd.qa.jsonl", qa_row(1, "good"), "{")
    words = ("msvd_qa", "--data-dir", rows, "--media", media)
    shown = cli(*words)
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert "msvd.qa.jsonl:2: not JSON" in shown.stderr
    shown = cli(*words, "--on-error", "skip")
    assert shown.exit_code == 0
    assert "msvd_qa: 1 row skipped, breaking the schema" in shown.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "name the datasets to look at (see `data list`), or pass --data-dir"),
        (("qa",), "--media is needed: the folder with the videos"),
        (("qas", "--media", "."), "unknown dataset 'qas'; did you mean qa?"),
        ((".", "--media", "."), ".: is a folder, not the name of a dataset; give it as --data-dir"),
        (("--data-dir", "no/where"), "no/where: no such folder"),
        (("--data-dir", "{rows}", "--media", "no/where"), "no/where: no such folder of media"),
        (("qa", "--data-dir", "{media}"), "{media}: no video_instruction/train/qa/*.jsonl"),
        (("--data-dir", "{media}"), "{media}: neither video_instruction/ as in the release"),
        (
            ("--data-dir", "{rows}", "--media", "{media}", "--missing", "{rows}/splits.json/x"),
            "{rows}/splits.json/x: cannot be written (",
        ),
    ],
)
def test_mistakes_are_one_line(
    cli: Callable[..., Any], rows: Path, media: Path, words: tuple[str, ...], message: str
) -> None:
    names = {"rows": rows, "media": media}
    shown = cli(*(word.format(**names) for word in words))
    assert shown.exit_code in {1, 2}
    (line,) = [line for line in shown.stderr.splitlines() if not line[-1].isdigit()]
    assert line.startswith("error: " + message.format(**names))
    before_the_work = "--missing" not in words
    assert (media / "media_index.sqlite").exists() != before_the_work
    assert shown.stdout == ""


def test_names_of_another_form_and_files_of_another_ending_are_named(
    release: Path, write: Write, qa_row: Row, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    composed, apart = (unicodedata.normalize(form, "Café") for form in ("NFC", "NFD"))
    media = tmp_path / "media"
    (media / apart).mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(media / apart / "c01_0001.jpeg")
    (media / "odd.xyz").touch()
    write("train/qa/a.jsonl", qa_row(0, composed), qa_row(1, "odd"))
    found = media_availability("qa", release, index_media(media))
    assert found.total == Count(rows=2, there=1, missing=1)
    assert found.other_form == {composed: apart}
    assert found.unlisted == {"odd": "odd.xyz"}
    shown = cli("--data-dir", release, "--media", media).stdout
    assert "other Unicode form  'Caf\\xe9' in the rows is 'Cafe\\u0301'" in shown
    assert "missing  odd  (odd.xyz is there" in shown
    report = ReadReport()
    load_dataset("qa", data_dir=str(release), split="train", media=str(media), report=report)
    assert report.unlisted_videos == ["odd.xyz"]


def test_odd_names_take_one_line_and_links_that_lead_nowhere_are_named(
    release: Path, write: Write, qa_row: Row, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    media = tmp_path / "media"
    media.mkdir()
    (media / "gone.mp4").symlink_to("../away.mp4")
    (media / "loop.mp4").symlink_to("loop.mp4")
    (media / "loop.tar.gz").symlink_to("loop.tar.gz")
    names = ["gone", "loop", "two\nerror  schema  lines", "red\x1b[31m"]
    write("train/qa/a.jsonl", *map(qa_row, range(4), names))
    shown = cli("--data-dir", release, "--media", media, "--missing", tmp_path / "list").stdout
    lines = shown.splitlines()
    assert "missing  gone  (gone.mp4 -> ../away.mp4: a link that leads nowhere)" in lines
    assert "missing  loop  (loop.mp4 -> loop.mp4: a link that leads nowhere)" in lines
    assert r"missing  two\nerror  schema  lines" in lines
    assert (tmp_path / "list").read_text().splitlines() == [
        "gone", "loop", r"two\nerror  schema  lines", r"red\x1b[31m",
    ]  # fmt: skip
    report = ReadReport()
    load_dataset("qa", data_dir=str(release), split="train", media=str(media), report=report)
    assert report.broken_links == ["gone.mp4 -> ../away.mp4", "loop.mp4 -> loop.mp4"]
    checked = CliRunner().invoke(app, ["data", "validate", str(release), "--media", str(media)])
    found = [line for line in checked.stdout.splitlines() if "no clip" in line]
    assert len(found) == 3
    assert all(line.startswith("error  missing-media  ") for line in found)
