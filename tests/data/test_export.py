"""`data export`: the files of each trainer, held against what its documents ask for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from sharegptvideo import as_trl, load_dataset
from sharegptvideo._io import read_json, read_jsonl, write_json
from sharegptvideo.cli import app
from sharegptvideo.data.export import TRAINERS, export_rows
from sharegptvideo.errors import UserError
from tests.support.export_release import export_release

Row = dict[str, Any]

pytestmark = pytest.mark.filterwarnings("ignore::sharegptvideo.data.sources.DataWarning")


@pytest.fixture
def release(tmp_path: Path) -> tuple[Path, Path]:
    return export_release(tmp_path)


@pytest.fixture
def film(release: tuple[Path, Path]) -> str:
    return str(release[1] / "film.mp4")


@pytest.fixture
def grey(release: tuple[Path, Path]) -> list[str]:
    """The frames in their order: 10 comes after 2."""
    return [str(release[1] / "frames" / "grey" / f"grey_{number}.jpeg") for number in (1, 2, 10)]


def lines(file: Path) -> list[Row]:
    return [row for _, row in read_jsonl(file)]


def export(release: tuple[Path, Path], config: str, to: str, out: Path, **options: Any) -> Any:
    return export_rows(config, to, out, data_dir=release[0], media=release[1], **options)


def human(text: str) -> Row:
    return {"from": "human", "value": text}


def gpt(text: str) -> Row:
    return {"from": "gpt", "value": text}


def user(text: str) -> Row:
    return {"role": "user", "content": text}


def said(text: str) -> Row:
    return {"role": "assistant", "content": text}


def test_llama_factory(
    release: tuple[Path, Path], film: str, grey: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    own = {"mine": {"file_name": "mine.json"}}
    out.mkdir()
    write_json(out / "dataset_info.json", own)
    done = export(release, "sft", "llama-factory", out)
    assert done.files == {
        f"sft_train_{k}.jsonl": 1 for k in ("videos", "frames", "images", "texts")
    }
    assert done.left_out == {"its text holds <audio>, a medium's place to the trainer": ["f"]}
    assert done.report.without_media == ["e"]
    assert lines(out / "sft_train_videos.jsonl") == [
        {
            "id": "a",
            "conversations": [
                human("<video>What is it?"),
                gpt("Red."),
                human("Sure?"),
                gpt("Yes."),
            ],
            "videos": [film],
        }
    ]
    assert lines(out / "sft_train_frames.jsonl") == [
        {"id": "b", "conversations": [human("<video>What is it?"), gpt("Grey.")], "videos": [grey]}
    ]
    assert lines(out / "sft_train_images.jsonl") == [
        {
            "id": "c",
            "conversations": [human("<image>What is it?"), gpt("Grey too.")],
            "images": [str(release[1] / "images" / "still.jpg")],
        }
    ]
    assert lines(out / "sft_train_texts.jsonl") == [
        {"id": "d", "conversations": [human("Two and two?"), gpt("Four.")]}
    ]
    export(release, "preferences", "llama-factory", out)
    assert lines(out / "preferences_train_videos.jsonl")[0] == {
        "id": "p",
        "conversations": [human("<video>What is it?")],
        "chosen": gpt("Red."),
        "rejected": gpt(""),
        "videos": [film],
    }
    info = read_json(out / "dataset_info.json")
    assert info.keys() == own.keys() | {f"sft_train_{k}" for k in ("videos", "frames", "images", "texts")} | {  # noqa: E501
        "preferences_train_videos", "preferences_train_frames"
    }  # fmt: skip
    sharegpt = {"formatting": "sharegpt"}
    columns = {"messages": "conversations"}
    assert info["sft_train_texts"] == sharegpt | {
        "file_name": "sft_train_texts.jsonl", "columns": columns
    }  # fmt: skip
    assert info["sft_train_images"]["columns"] == columns | {"images": "images"}
    assert info["preferences_train_frames"] == sharegpt | {
        "file_name": "preferences_train_frames.jsonl",
        "ranking": True,
        "columns": columns | {"videos": "videos", "chosen": "chosen", "rejected": "rejected"},
    }


def test_ms_swift(release: tuple[Path, Path], film: str, grey: list[str], tmp_path: Path) -> None:
    done = export(release, "preferences", "ms-swift", tmp_path / "out")
    assert done.left_out == {"its answers are equal, which ms-swift's reader drops": ["r"]}
    assert lines(tmp_path / "out" / "preferences_train_videos.jsonl") == [
        {
            "id": "p",
            "messages": [user("<video>What is it?"), said("Red.")],
            "rejected_response": "",
            "videos": [film],
        }
    ]
    export(release, "qa", "ms-swift", tmp_path / "out")
    assert lines(tmp_path / "out" / "qa_train_frames.jsonl") == [
        {"id": "y_0", "messages": [user("<video>How grey?"), said("Very.")], "videos": [grey]}
    ]


def test_verl(release: tuple[Path, Path], film: str, grey: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = export(release, "preferences", "verl", out)
    assert done.files == {
        f"preferences_train_{kind}.{end}.parquet": count
        for kind, count in (("videos", 2), ("frames", 1))
        for end in ("sft", "rl")
    }
    first, second = pq.read_table(out / "preferences_train_videos.rl.parquet").to_pylist()
    assert first == {
        "data_source": "sharegptvideo",
        "prompt": [user("<video>What is it?")],
        "ability": "video-qa",
        "reward_model": {"style": "rule", "ground_truth": "It is red."},
        "extra_info": {
            "index": 0, "split": "train", "id": "p", "question": "What is it?",
            "answer": "It is red.",
        },
        "videos": [{"video": film}],
    }  # fmt: skip
    # Without a reference the better answer is it; the number is the row's place.
    assert second["reward_model"]["ground_truth"] == "Red."
    assert second["extra_info"]["index"] == 2
    (row,) = pq.read_table(out / "preferences_train_frames.sft.parquet").to_pylist()
    messages = [user("<video>What is it?"), said("Grey.")]
    assert row == {"id": "q", "messages": messages, "videos": [{"video": grey}]}
    export(release, "captions", "verl", out)
    assert not list(out.glob("captions_*.rl.parquet"))
    (row,) = pq.read_table(out / "captions_train_videos.sft.parquet").to_pylist()
    assert row["messages"] == [user("<video>Describe it."), said("A red film.")]


@pytest.mark.parametrize("config", ["sft", "preferences", "qa", "captions"])
def test_trl_gets_what_as_trl_gives(
    config: str, release: tuple[Path, Path], film: str, grey: list[str], tmp_path: Path
) -> None:
    done = export(release, config, "trl", tmp_path / "out")
    loaded = load_dataset(
        config, "train", data_dir=release[0], media=release[1], require_media=True
    )
    expected = {row["id"]: row for row in as_trl(loaded)}
    for name, count in done.files.items():
        written = datasets.load_dataset(
            "parquet",
            data_files=str(tmp_path / "out" / name),
            split="train",
            cache_dir=str(tmp_path / "cache"),
        )
        assert len(written) == count
        for row in written:
            text = json.dumps(expected.pop(row["id"]))
            # A folder of frames is written as its frames.
            text = text.replace(json.dumps(str(Path(grey[0]).parent)), json.dumps(grey))
            assert row == json.loads(text)
            assert "frames" not in name or "grey_10.jpeg" in text
            assert "videos" not in name or film in text
    assert not expected


@pytest.mark.parametrize("to", TRAINERS)
def test_the_same_rows_give_the_same_bytes_and_take_the_place_of_earlier_ones(
    to: str, release: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    export(release, "sft", to, out)
    whole = {file.name: file.read_bytes() for file in out.iterdir()}
    export(release, "qa", to, out)
    part = export(release, "sft", to, out, limit=1)
    assert all("sft_train_videos" in name for name in part.files)
    assert {file.name for file in out.glob("sft_*")} == part.files.keys()
    assert read_json(out / "export.json")["sets"]["sft_train"]["limit"] == 1
    assert "qa_train" in read_json(out / "export.json")["sets"]
    export(release, "sft", to, tmp_path / "again")
    assert {file.name: file.read_bytes() for file in (tmp_path / "again").iterdir()} == whole


def test_a_long_set_is_written_in_parts(release: tuple[Path, Path], tmp_path: Path) -> None:
    """More rows than are held at once, and progress on the way."""
    file = release[0] / "video_instruction/train/qa/asked.jsonl"
    row = lines(file)[0]
    text = "".join(json.dumps(row | {"id": f"x_{n}"}) + "\n" for n in range(2500))
    file.write_text(text)
    seen: list[int] = []
    for to, name in (("verl", "qa_train_videos.rl.parquet"), ("trl", "qa_train_videos.parquet")):
        done = export(release, "qa", to, tmp_path / to, progress=lambda n, *_: seen.append(n))
        assert done.files[name] == len(pq.read_table(tmp_path / to / name)) == 2500
    assert seen == [1000, 2000, 1000, 2000]


def test_what_cannot_be_written_is_one_line_and_leaves_nothing(
    release: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for config, to, options, message in (
        ("sft", "llamafactory", {}, "unknown trainer 'llamafactory'; did you mean llama-factory"),
        ("sfd", "trl", {}, "unknown dataset 'sfd'; did you mean sft"),
        ("msvd_qa", "trl", {}, "msvd_qa is a test set, which is not for training"),
        ("qa", "trl", {"split": "test"}, "test"),
        ("qa", "trl", {"limit": 0}, "limit must be at least 1, got 0"),
        ("image_captions", "trl", {}, "no video_instruction/train/pretrain/image_caption"),
    ):
        with pytest.raises(UserError, match=message):
            export(release, config, to, out, **options)
    with pytest.raises(UserError, match="trainers read the clips: give their folder with --media"):
        export_rows("qa", "trl", out)
    (release[1] / "film.mp4").unlink()
    with pytest.raises(UserError, match="captions_train: no row to write; 1 row left out for want"):
        export(release, "captions", "trl", out)
    assert not out.exists()
    export(release, "qa", "trl", out)
    with pytest.raises(
        UserError, match="out: holds an export for trl; give another --out for verl"
    ):
        export(release, "qa", "verl", out)
    write_json(out / "export.json", {"to": "trl", "sets": 3})
    with pytest.raises(UserError, match=r"export\.json: not the record of an export; give another"):
        export(release, "qa", "trl", out)


def test_the_command_says_what_was_written_and_how_it_is_used(
    release: tuple[Path, Path], tmp_path: Path
) -> None:
    given = ["--data-dir", str(release[0]), "--media", str(release[1])]
    out = tmp_path / "out"
    words = ["data", "export", "sft", "--to", "llama-factory", *given, "--out", str(out)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "files.sft_train_videos.jsonl  1" in result.stdout
    assert (
        "1 row left out: its text holds <audio>, a medium's place to the trainer: f"
        in result.stderr
    )
    assert "1 row left out for want of a readable video: e" in result.stderr
    assert (
        f"use it: dataset_dir: {out}, dataset: sft_train_videos,sft_train_frames" in result.stderr
    )
    result = CliRunner().invoke(app, [*words, "--json"])
    figures = json.loads(result.stdout)
    assert (figures["left_out"], figures["without_clip"]) == (1, 1)
