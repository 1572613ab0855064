"""Rows to batches: clips and images decoded once and kept, prompts expanded, answers marked.

A batch has each clip and image once, however many rows are about it, and the layout by which the
model reads its tokens once for all of them (`sharing`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sharegptvideo.training.families.base import Clip, ClipReader, VisualKind
from sharegptvideo.training.mix import Visual, visual_of
from sharegptvideo.training.recipes import LengthLimit
from sharegptvideo.training.sharing.layout import shared_layout

__all__ = ["Batch", "ClipCache", "PreferenceCollator", "SftCollator"]

Batch = dict[str, Any]
_IGNORED = -100
_REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")


class ClipCache:
    """Clips and images as a reader gives them, decoded once while they fit in `limit` bytes.

    The least recently used clip goes first, so an epoch over more clips than fit decodes again
    what it must, and memory stays bounded.
    """

    def __init__(self, reader: ClipReader, limit: int = 1 << 30) -> None:
        self.reader = reader
        self.limit = limit
        self.size = 0
        self._clips: OrderedDict[Visual, Clip] = OrderedDict()

    def __len__(self) -> int:
        return len(self._clips)

    def clip(self, visual: Visual) -> Clip:
        """Return the clip or image as `reader` gives it.

        Raises:
            MediaError: the file cannot be read.
        """
        if visual in self._clips:
            self._clips.move_to_end(visual)
            return self._clips[visual]
        clip = self.reader.read_visual(visual)
        self._clips[visual] = clip
        self.size += _bytes(clip)
        while self.size > self.limit and len(self._clips) > 1:
            self.size -= _bytes(self._clips.popitem(last=False)[1])
        return clip


def _bytes(clip: Clip) -> int:
    return sum(tensor.nbytes for tensor in clip.values())


@dataclass(frozen=True, slots=True)
class _Rows:
    """Token rows, which of them the assistant says, and the clip or image of each."""

    ids: list[list[int]]
    assistant_masks: list[list[bool]]
    visuals: list[Visual | None]


_NUMBERS: dict[VisualKind, str] = {"video": "clip_of_row", "image": "image_of_row"}


class _Collator:
    """What both collators do.

    Args:
        clips: where clips and images come from.
        limit: how long a row may be; longer ones lose their end.
        share: lay rows about one clip or image out as one sequence.
        always: what every batch is to have for the vision part of the model, a blank one if need
            be: processes that learn together wait for each other in every part of the model.
    """

    def __init__(
        self,
        clips: ClipCache,
        limit: LengthLimit,
        *,
        share: bool = True,
        always: Collection[VisualKind] = (),
    ) -> None:
        self.clips = clips
        self.limit = limit
        self.share = share
        self.always = frozenset(always)

    def _batch(self, rows: _Rows) -> Batch:
        groups: dict[Visual | int, list[int]] = {}  # rows of text alone are groups of their own
        for row, visual in enumerate(rows.visuals):
            groups.setdefault(row if visual is None else visual, []).append(row)
        clips = {one: self.clips.clip(one) for one in groups if isinstance(one, Visual)}
        ids, assistant_masks = [], []
        for visual, tokens, said in zip(rows.visuals, rows.ids, rows.assistant_masks, strict=True):
            most = self.limit.positions(1)
            if visual is not None:
                short = len(tokens)
                tokens, said = self.clips.reader.expand(tokens, said, clips[visual])
                most = self.limit.positions(len(tokens) - short + 1)
            ids.append(tokens[:most])
            assistant_masks.append(said[:most])
        batch = _pad(ids, assistant_masks, self.clips.reader.pad_id)
        batch |= self._visuals(rows.visuals, clips)
        if self.share:
            batch["shared_layout"] = shared_layout(
                ids, assistant_masks, list(groups.values()), width=batch["input_ids"].shape[1]
            )
        return batch

    def _visuals(self, visuals: list[Visual | None], clips: dict[Visual, Clip]) -> Batch:
        """Clips and images, each kind in the order of first rows, and the numbers of the rows'."""
        reader = self.clips.reader
        pixels: dict[str, torch.Tensor] = {}
        batch: Batch = {}
        for kind, numbers in _NUMBERS.items():
            own = [one for one in clips if one.kind == kind]
            if not own and kind not in self.always:
                continue
            parts = [clips[one] for one in own] or [reader.blank(kind)]
            pixels |= reader.batch(parts) if kind == "video" else reader.batch_images(parts)
            if own:  # of a blank, no row has the number
                number: dict[Visual | None, int] = {one: at for at, one in enumerate(own)}
                batch[numbers] = torch.tensor([number.get(one, -1) for one in visuals])
        return {**batch, "clips": pixels} if pixels else batch


class SftCollator(_Collator):
    """Rows `{video_path, image_path, ids, assistant_mask}`, or packs `{rows}`, to a padded batch.

    One of the two paths may be null or absent; both are for text alone. Gives input_ids,
    attention_mask and labels (rows×length, padded on the right; labels are -100 wherever the
    assistant does not speak), shared_layout, and what the vision part takes under `clips`: each
    clip and image once, in the order in which they first come. clip_of_row and image_of_row are
    their numbers (-1: none), absent where no row has one.
    """

    def __call__(self, rows: Sequence[dict[str, Any]]) -> Batch:
        """Make a batch of rows or packs."""
        single = [one for row in rows for one in row.get("rows", [row])]
        batch = self._batch(
            _Rows(
                [row["ids"] for row in single],
                [row["assistant_mask"] for row in single],
                [visual_of(row) for row in single],
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
        ids, assistant_masks, visuals = [], [], []
        for answer in ("chosen_ids", "rejected_ids"):
            for row in rows:
                ids.append(row["prompt_ids"] + row[answer])
                assistant_masks.append([False] * len(row["prompt_ids"]) + [True] * len(row[answer]))
                visuals.append(visual_of(row))
        batch = self._batch(_Rows(ids, assistant_masks, visuals))
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
