"""Batches, row by row, and the cache of clips."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sharegptvideo.media import MediaError, sample_frames
from sharegptvideo.models import VideoPixels
from sharegptvideo.training.collators import ClipCache, PreferenceCollator, SftCollator
from sharegptvideo.training.families.video_llava import VideoLlavaReader
from sharegptvideo.training.mix import Visual
from sharegptvideo.training.recipes import LengthLimit

PAD, VIDEO = 0, 9
PIXELS = VideoPixels(16, 16, 16)


def cache(video_tokens: int = 3, limit: int = 1 << 30) -> ClipCache:
    return ClipCache(VideoLlavaReader(PIXELS, 4, PAD, VIDEO, video_tokens), limit)


@pytest.fixture
def paths(release: Path) -> list[str]:
    return sorted(str(path) for path in (release / "videos").iterdir())


def test_labels_are_on_the_answer_only(paths: list[str]) -> None:
    collate = SftCollator(cache(), LengthLimit(8))
    rows = [
        {
            "video_path": paths[0],
            "ids": [1, 9, 5, 6, 2],
            "assistant_mask": [False] * 3 + [True] * 2,
        },
        {"video_path": paths[1], "ids": [1, 9, 7, 2], "assistant_mask": [False] * 2 + [True] * 2},
        # Nine positions with the clip: the last one goes.
        {
            "video_path": paths[1],
            "ids": [1, 9, 5, 6, 6, 6, 2],
            "assistant_mask": [False] * 4 + [True] * 3,
        },
    ]
    batch = collate(rows)
    assert batch["input_ids"].tolist() == [
        [1, 9, 9, 9, 5, 6, 2, PAD],
        [1, 9, 9, 9, 7, 2, PAD, PAD],
        [1, 9, 9, 9, 5, 6, 6, 6],
    ]
    assert batch["labels"].tolist() == [
        [-100] * 5 + [6, 2, -100],
        [-100] * 4 + [7, 2, -100, -100],
        [-100] * 6 + [6, 6],
    ]
    assert batch["attention_mask"].sum(1).tolist() == [7, 6, 8]
    assert batch["clip_of_row"].tolist() == [0, 1, 1]
    assert batch["clips"]["pixel_values_videos"].shape == (2, 4, 3, 16, 16)
    expected = PIXELS(sample_frames(paths[1], 4).frames)
    assert torch.equal(batch["clips"]["pixel_values_videos"][1], expected)


def test_a_limit_of_text_counts_a_clip_as_one(paths: list[str]) -> None:
    """Six tokens of text and the clip: with a limit of 7 all stay, with 6 the last one goes."""
    ids = [1, 9, 5, 6, 6, 6, 2]
    row = {"video_path": paths[0], "ids": ids, "assistant_mask": [False] * 4 + [True] * 3}
    for tokens, kept in ((7, [6, 6, 2]), (6, [6, 6])):
        batch = SftCollator(cache(), LengthLimit(tokens, counts_clip=False))([row])
        assert batch["input_ids"].tolist() == [[1, 9, 9, 9, 5, 6, *kept]]
    assert LengthLimit(2048, counts_clip=False).positions(2048) == 4095  # Vicuna has 4,096
    assert LengthLimit(2048, counts_clip=False).positions(0) == 2048  # no clip


def test_chosen_come_first_and_share_their_clips_with_rejected(paths: list[str]) -> None:
    collate = PreferenceCollator(cache(video_tokens=2), LengthLimit(99))
    rows = [
        {"video_path": paths[0], "prompt_ids": [1, 9], "chosen_ids": [5, 2], "rejected_ids": [2]},
        {"video_path": paths[1], "prompt_ids": [1, 9, 4], "chosen_ids": [2], "rejected_ids": [7]},
    ]
    batch = collate(rows)
    assert batch["input_ids"].tolist() == [
        [1, 9, 9, 5, 2],
        [1, 9, 9, 4, 2],
        [1, 9, 9, 2, PAD],
        [1, 9, 9, 4, 7],
    ]
    assert batch["completion_mask"].tolist() == [
        [0, 0, 0, 1, 1],
        [0, 0, 0, 0, 1],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 0, 1],
    ]
    assert batch["clips"]["pixel_values_videos"].shape[0] == 2
    assert batch["clip_of_row"].tolist() == [0, 1, 0, 1]


def test_a_clip_is_decoded_once_while_it_fits(paths: list[str]) -> None:
    one = 4 * 3 * 16 * 16
    clips = cache(limit=2 * one)
    red, green, blue = (Visual("video", path) for path in paths[:3])
    first = clips.clip(red)
    assert clips.clip(red) is first
    clips.clip(green)
    clips.clip(red)  # used last, so the other one goes
    clips.clip(blue)
    assert (len(clips), clips.size) == (2, 2 * one)
    assert clips.clip(red) is first


def test_a_broken_clip_names_itself(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    with pytest.raises(MediaError, match=r"broken\.mp4"):
        cache().clip(Visual("video", str(broken)))
