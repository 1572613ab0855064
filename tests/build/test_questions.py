"""Questions with their captions and clips, from the miniature release and a synthetic world."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from sharegptvideo._io import write_jsonl
from sharegptvideo.build import read_questions, with_captions
from sharegptvideo.data.sources import DataWarning
from sharegptvideo.errors import UserError


def talk(name: str, question: str, answer: str) -> dict[str, object]:
    return {
        "id": name,
        "video": name.split("_")[0],
        "conversations": [
            {"from": "human", "value": f"<video>\n{question}"},
            {"from": "gpt", "value": answer},
        ],
    }


@pytest.fixture
def source(tmp_path: Path) -> Path:
    train = tmp_path / "video_instruction" / "train"
    write_jsonl(
        train / "qa" / "video_qa.jsonl",
        [talk("a_0", "Where?", "Here."), talk("a_1", "Who?", "A man."), talk("b_0", "What?", "It")],
    )
    write_jsonl(
        train / "pretrain" / "video_caption_pretrain.jsonl",
        [talk("a", "Describe it.", "A man is here."), talk("c", "Describe it.", "Nothing.")],
    )
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "b.mp4").write_bytes(b"")
    return tmp_path


@pytest.mark.filterwarnings("ignore:1 video not found")
def test_captions_and_clips_are_joined(source: Path) -> None:
    rows = read_questions(source, split="train+validation")
    assert [(row["id"], row["question"], row["answer"], row["caption"]) for row in rows] == [
        ("a_0", "Where?", "Here.", "A man is here."),
        ("a_1", "Who?", "A man.", "A man is here."),
        ("b_0", "What?", "It", None),
    ]
    assert [row["video_path"] for row in rows] == [None, None, str(source / "videos" / "b.mp4")]


def test_limit_and_unknown_sources(source: Path) -> None:
    with pytest.warns(DataWarning, match="1 video not found"):
        assert len(read_questions(source, split="train+validation", limit=2)) == 2
    with pytest.raises(UserError, match="no such folder"):
        read_questions(source / "absent")
    with pytest.raises(UserError, match="train"):
        read_questions(source, split="trian")


def test_own_captions_come_first_and_the_first_of_a_video_counts() -> None:
    rows = [{"video": "a", "caption": "own"}, {"video": "a", "caption": None}]
    captions = [{"video": "a", "caption": "one"}, {"video": "a", "caption": "two"}]
    assert [row["caption"] for row in with_captions(rows, captions)] == ["own", "one"]


@pytest.mark.filterwarnings("ignore:3 videos not found")
def test_release_questions_with_captions_and_frame_folders(
    shared_data: Path, tmp_path: Path
) -> None:
    for archive in sorted((shared_data / "release" / "train_300k").glob("*.tar.gz")):
        with tarfile.open(archive) as tar:
            tar.extractall(tmp_path / archive.name.removesuffix(".tar.gz"), filter="data")
    rows = read_questions(shared_data / "release", split="train+validation", media=tmp_path)
    assert all(row["caption"] for row in rows)
    found = {row["video"]: Path(row["video_path"]).name for row in rows if row["video_path"]}
    assert found == {"baby_reading": "baby_reading", "baby_living_room": "baby_living_room"}


@pytest.mark.slow
def test_synthetic_questions_all_have_captions_and_clips() -> None:
    rows = read_questions("synthetic", split="train")
    assert len(rows) > 50
    assert all(row["caption"] and Path(row["video_path"]).is_file() for row in rows)
