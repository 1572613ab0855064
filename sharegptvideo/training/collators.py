"""Rows to batches: clips decoded once and kept, prompts expanded, answers marked.

A batch has each clip once, however many rows are about it, and the layout by which the model
reads a clip's tokens once for all of them (`sharing`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sharegptvideo.training.families.base import Clip, ClipReader
from sharegptvideo.training.recipes import LengthLimit
from sharegptvideo.training.sharing.layout import shared_layout

__all__ = ["Batch", "ClipCache", "PreferenceCollator", "SftCollator"]

Batch = dict[str, Any]
_IGNORED = -100
_REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")


class ClipCache:
    """Clips as a reader gives them, decoded once while they fit in `limit` bytes.

    The least recently used clip goes first, so an epoch over more clips than fit decodes again
    what it must, and memory stays bounded.
    """

    def __init__(self, reader: ClipReader, limit: int = 1 << 30) -> None:
        self.reader = reader
        self.limit = limit
        self.size = 0
        self._clips: OrderedDict[str, Clip] = OrderedDict()

    def __len__(self) -> int:
        return len(self._clips)

    def clip(self, path: str) -> Clip:
        """Return the clip as `reader` gives it.

        Raises:
            MediaError: the file cannot be read.
        """
        if path in self._clips:
            self._clips.move_to_end(path)
            return self._clips[path]
        clip = self.reader.read(path)
        self._clips[path] = clip
        self.size += _bytes(clip)
        while self.size > self.limit and len(self._clips) > 1:
            self.size -= _bytes(self._clips.popitem(last=False)[1])
        return clip


def _bytes(clip: Clip) -> int:
    return sum(tensor.nbytes for tensor in clip.values())


@dataclass(frozen=True, slots=True)
class _Rows:
    """Token rows, which of them the assistant says, and the clip of each."""

    ids: list[list[int]]
    assistant_masks: list[list[bool]]
    paths: list[str]


class _Collator:
    """What both collators do.

    Args:
        clips: where clips come from.
        limit: how long a row may be; longer ones lose their end.
        share: lay rows about one clip out as one sequence.
    """

    def __init__(self, clips: ClipCache, limit: LengthLimit, *, share: bool = True) -> None:
        self.clips = clips
        self.limit = limit
        self.share = share

    def _batch(self, rows: _Rows) -> Batch:
        order = list(dict.fromkeys(rows.paths))
        number = {path: at for at, path in enumerate(order)}
        clips = [self.clips.clip(path) for path in order]
        groups: list[list[int]] = [[] for _ in order]
        ids, assistant_masks = [], []
        for row, path in enumerate(rows.paths):
            groups[number[path]].append(row)
            tokens, said = self.clips.reader.expand(
                rows.ids[row], rows.assistant_masks[row], clips[number[path]]
            )
            most = self.limit.positions(len(tokens) - len(rows.ids[row]) + 1)
            ids.append(tokens[:most])
            assistant_masks.append(said[:most])
        batch = _pad(ids, assistant_masks, self.clips.reader.pad_id)
        batch["clips"] = self.clips.reader.batch(clips)
        batch["clip_of_row"] = torch.tensor([number[path] for path in rows.paths])
        if self.share:
            batch["shared_layout"] = shared_layout(
                ids, assistant_masks, groups, width=batch["input_ids"].shape[1]
            )
        return batch


class SftCollator(_Collator):
    """Rows `{video_path, ids, assistant_mask}`, or packs `{rows}` of such, to a right-padded batch.

    Gives input_ids, attention_mask and labels (rows×length; labels are -100 wherever the
    assistant does not speak), clips (each once, in the order in which they first come),
    clip_of_row and shared_layout.
    """

    def __call__(self, rows: Sequence[dict[str, Any]]) -> Batch:
        """Make a batch of rows or packs."""
        single = [one for row in rows for one in row.get("rows", [row])]
        batch = self._batch(
            _Rows(
                [row["ids"] for row in single],
                [row["assistant_mask"] for row in single],
                [row["video_path"] for row in single],
            )
        )
        said = batch.pop("completion_mask")
        batch["labels"] = batch["input_ids"].masked_fill(said == 0, _IGNORED)
        return batch


class PreferenceCollator(_Collator):
    """Rows `{video_path, prompt_ids, chosen_ids, rejected_ids}` to the batch of TRL's DPOTrainer.

    The first half of the rows are the chosen answers, the second half the rejected ones:
    input_ids, attention_mask and completion_mask are 2·rows×length; clips has each clip once, and
    clip_of_row says whose a row is. Rows that have their reference log-probabilities
    (ref_chosen_logps, ref_rejected_logps) bring them along.
    """

    def __call__(self, rows: Sequence[dict[str, Any]]) -> Batch:
        """Make a batch of pairs."""
        ids, assistant_masks, paths = [], [], []
        for answer in ("chosen_ids", "rejected_ids"):
            for row in rows:
                ids.append(row["prompt_ids"] + row[answer])
                assistant_masks.append([False] * len(row["prompt_ids"]) + [True] * len(row[answer]))
                paths.append(row["video_path"])
        batch = self._batch(_Rows(ids, assistant_masks, paths))
        for name in _REFERENCE:
            if name in rows[0]:
                batch[name] = torch.tensor([row[name] for row in rows])
        return batch


def _pad(ids: list[list[int]], assistant_masks: list[list[bool]], pad_id: int) -> Batch:
    """Right-padded input_ids, attention_mask and completion_mask, rows×longest."""
    longest = max(map(len, ids))
    gaps = [longest - len(row) for row in ids]
    pairs = zip(ids, gaps, strict=True)
    return {
        "input_ids": torch.tensor([row + [pad_id] * gap for row, gap in pairs]),
        "attention_mask": torch.tensor([[1] * (longest - gap) + [0] * gap for gap in gaps]),
        "completion_mask": torch.tensor(
            [
                [int(x) for x in row] + [0] * gap
                for row, gap in zip(assistant_masks, gaps, strict=True)
            ]
        ),
    }
