"""Rows to batches: clips decoded once and kept, prompts expanded, answers marked."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sharegptvideo.media import sample_frames
from sharegptvideo.modeling.pixels import VideoPixels
from sharegptvideo.modeling.prompts import expand_video

__all__ = ["Batch", "ClipCache", "PreferenceCollator", "Prompting", "SftCollator"]

Batch = dict[str, torch.Tensor]
_IGNORED = -100


class ClipCache:
    """Clips as resized uint8 frames, decoded once while they fit in `limit` bytes.

    The least recently used clip goes first, so an epoch over more clips than fit decodes again
    what it must, and memory stays bounded.
    """

    def __init__(self, pixels: VideoPixels, frames: int, limit: int = 1 << 30) -> None:
        self.pixels = pixels
        self.frames = frames
        self.limit = limit
        self.size = 0
        self._clips: OrderedDict[str, torch.Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._clips)

    def clip(self, path: str) -> torch.Tensor:
        """The clip's frames, uint8 frames×3×height×width as the model takes them.

        Raises:
            MediaError: the file cannot be read.
        """
        if path in self._clips:
            self._clips.move_to_end(path)
            return self._clips[path]
        clip = self.pixels.resize_and_crop(sample_frames(path, self.frames).frames)
        self._clips[path] = clip
        self.size += clip.nbytes
        while self.size > self.limit and len(self._clips) > 1:
            self.size -= self._clips.popitem(last=False)[1].nbytes
        return clip

    def batch(self, paths: Sequence[str]) -> torch.Tensor:
        """Normalised float32 clips×frames×3×height×width."""
        return self.pixels.normalise(torch.stack([self.clip(path) for path in paths]))


@dataclass(frozen=True, slots=True)
class Prompting:
    """The token ids a collator needs, and how many positions a clip takes."""

    pad_id: int
    video_id: int
    video_tokens: int
    max_length: int


class SftCollator:
    """Rows `{video_path, ids, spoken}` to a right-padded batch with labels on the answer only.

    Gives input_ids, attention_mask and labels (rows×length; labels are -100 wherever the
    assistant does not speak) and pixel_values_videos (rows×frames×3×height×width). A sequence
    longer than `max_length` loses its end.
    """

    def __init__(self, clips: ClipCache, prompting: Prompting) -> None:
        self.clips = clips
        self.prompting = prompting

    def __call__(self, rows: Sequence[dict[str, Any]]) -> Batch:
        p = self.prompting
        ids, spoken = [], []
        for row in rows:
            tokens, said = expand_video(row["ids"], row["spoken"], p.video_id, p.video_tokens)
            ids.append(tokens[: p.max_length])
            spoken.append(said[: p.max_length])
        batch = _pad(ids, spoken, p.pad_id)
        said_mask = batch.pop("completion_mask")
        batch["labels"] = batch["input_ids"].masked_fill(said_mask == 0, _IGNORED)
        batch["pixel_values_videos"] = self.clips.batch([row["video_path"] for row in rows])
        return batch


class PreferenceCollator:
    """Rows `{video_path, prompt_ids, chosen_ids, rejected_ids}` to the batch of TRL's DPOTrainer.

    The first half of the rows are the chosen answers, the second half the rejected ones:
    input_ids, attention_mask and completion_mask are 2·rows×length. pixel_values_videos has each
    clip once (rows×frames×3×height×width): both answers share it.
    """

    def __init__(self, clips: ClipCache, prompting: Prompting) -> None:
        self.clips = clips
        self.prompting = prompting

    def __call__(self, rows: Sequence[dict[str, Any]]) -> Batch:
        p = self.prompting
        ids, spoken = [], []
        for answer in ("chosen_ids", "rejected_ids"):
            for row in rows:
                prompt = row["prompt_ids"]
                said = [False] * len(prompt) + [True] * len(row[answer])
                tokens, said = expand_video(prompt + row[answer], said, p.video_id, p.video_tokens)
                ids.append(tokens[: p.max_length])
                spoken.append(said[: p.max_length])
        batch = _pad(ids, spoken, p.pad_id)
        batch["pixel_values_videos"] = self.clips.batch([row["video_path"] for row in rows])
        return batch


def _pad(ids: list[list[int]], spoken: list[list[bool]], pad_id: int) -> Batch:
    """Right-padded input_ids, attention_mask and completion_mask, rows×longest."""
    longest = max(map(len, ids))
    gaps = [longest - len(row) for row in ids]
    pairs = zip(ids, gaps, strict=True)
    return {
        "input_ids": torch.tensor([row + [pad_id] * gap for row, gap in pairs]),
        "attention_mask": torch.tensor([[1] * (longest - gap) + [0] * gap for gap in gaps]),
        "completion_mask": torch.tensor(
            [[int(x) for x in row] + [0] * gap for row, gap in zip(spoken, gaps, strict=True)]
        ),
    }
