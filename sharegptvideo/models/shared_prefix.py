"""Answers about one clip attend to one copy of the clip's keys and values.

A prompt is mostly its clip. Copied for every row that is decoded, the clip's cache fills memory
and is read anew for every row at every token. Here the clips stay where they were read, once
each, and a cache holds only what comes after them: question and answer. The queries of all rows
about a clip go against its keys together, as one matrix product; what they find there and what
each finds in its own row are joined by their log-sum-exps, which is exact:

    softmax over both = w * (softmax over the clip) + (1 - w) * (softmax over the row),
    w = sigmoid(logsumexp over the clip - logsumexp over the row).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby, pairwise
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, Cache
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

__all__ = ["NAME", "SharedPrefixCache", "attending_to_prefixes", "in_one_dtype"]

NAME = "sharegptvideo_shared_prefix"
"""Of the attention function, in transformers' registry."""

_AHEAD = 64  # tokens for which room is made at once where nothing is said


class _Layout:
    """Which clip each row is about, by runs of clips that have equally many rows."""

    def __init__(self, clips: Sequence[int]) -> None:
        self._set(clips)

    def _set(self, clips: Sequence[int]) -> None:
        self.clips = list(clips)
        counts = [(clip, len(list(rows))) for clip, rows in groupby(self.clips)]
        if any(here >= there for (here, _), (there, _) in pairwise(counts)):
            raise ValueError(f"rows must be in the order of their clips, not {self.clips}")
        self.runs: list[tuple[slice, slice]] = []  # (clips, rows)
        for clip, count in counts:
            row = self.runs[-1][1].stop if self.runs else 0
            if self.runs:
                clips_before, rows_before = self.runs[-1]
                before = clips_before.stop - clips_before.start
                even = rows_before.stop - rows_before.start == before * count
                if even and clips_before.stop == clip:
                    self.runs[-1] = (
                        slice(clips_before.start, clip + 1),
                        slice(rows_before.start, row + count),
                    )
                    continue
            self.runs.append((slice(clip, clip + 1), slice(row, row + count)))

    def select(self, rows: Sequence[int]) -> None:
        self._set([self.clips[row] for row in rows])

    def repeat(self, times: int) -> None:
        self._set([clip for clip in self.clips for _ in range(times)])


class SharedPrefixCache(Cache):
    """A cache whose rows come after prefixes that another cache holds, one copy of each.

    It counts its prefix into its length, so that transformers' `generate` goes on after it. The
    model has to run within `attending_to_prefixes`.

    Args:
        prefixes: a filled cache, a row for each prefix, all of one length; it is not written into.
        which: the prefix that each row comes after, ascending.
        ahead: for how many tokens of a row room is made at once.

    Raises:
        ValueError: `which` is not ascending, or a layer of `prefixes` does not hold all it has
            seen (a sliding window).
    """

    def __init__(self, prefixes: Any, which: Sequence[int], ahead: int = _AHEAD) -> None:
        self._layout = _Layout(which)
        super().__init__(
            layers=[_AfterPrefix(layer, self._layout, ahead) for layer in prefixes.layers]
        )

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows; their order must stay."""
        self._layout.select(indices.tolist())
        super().batch_select_indices(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row `repeats` times, side by side."""
        self._layout.repeat(repeats)
        super().batch_repeat_interleave(repeats)


class _AfterPrefix(DynamicLayer):  # type: ignore[no-untyped-call]  # its base has an untyped hook
    """One layer: keys and values after the prefixes, in tensors with room for more tokens."""

    def __init__(self, prefix: Any, layout: _Layout, ahead: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # untyped in transformers
        if type(prefix) is not DynamicLayer:
            raise ValueError(f"a prefix in a {type(prefix).__name__} cannot be shared")
        assert prefix.keys is not None, "the prefixes have been read"
        assert prefix.values is not None
        self._prefix = (prefix.keys, prefix.values)
        self._layout = layout
        self._ahead = ahead
        self._room: tuple[torch.Tensor, torch.Tensor] | None = None
        self._length = 0
        self._unread = False
        self.is_initialized = True

    def get_seq_length(self) -> int:
        """Count the tokens of a row, its prefix's included."""
        return int(self._prefix[0].shape[-2]) + self._length

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append to the rows' own keys and values, and return them.

        The keys know this layer, by which the attention function gets the prefix.

        Raises:
            RuntimeError: what was given last time did not come to that function.
        """
        if self._unread:
            raise RuntimeError("the model's attention ignored the shared prefix")
        before, after = self._length, self._length + key_states.shape[-2]
        if self._room is None or after > self._room[0].shape[-2]:
            self._make_room(key_states, value_states, after + self._ahead)
        assert self._room is not None
        for room, new in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, before:after] = new
        self._length = after
        self._unread = True
        keys, values = (room[:, :, :after] for room in self._room)
        keys.after_prefix = self  # type: ignore[attr-defined]  # tensors take attributes
        return keys, values

    def _make_room(self, keys: torch.Tensor, values: torch.Tensor, length: int) -> None:
        room = []
        for number, new in enumerate((keys, values)):
            made = new.new_zeros(*new.shape[:2], length, new.shape[3])
            if self._room is not None:
                made[:, :, : self._length] = self._room[number][:, :, : self._length]
            room.append(made)
        self._room = (room[0], room[1])

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows."""
        if self._room is not None:
            keys, values = self._room
            self._room = (keys[indices], values[indices])

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Each row `repeats` times."""
        if self._room is not None:
            keys, values = self._room
            self._room = (
                keys.repeat_interleave(repeats, dim=0),
                values.repeat_interleave(repeats, dim=0),
            )

    def attend(
        self,
        query: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        mask: torch.Tensor | None,
        scale: float,
        *,
        by_products: bool = False,
    ) -> torch.Tensor:
        """Attend from each row's queries to its prefix and to the row: rows×tokens×heads×size.

        Args:
            query: rows×heads×tokens×size.
            keys: rows×key heads×own tokens×size, and `values` likewise; several query heads
                may share one of these.
            mask: over the last tokens, own ones at least; True or 0 is what is seen. None: causal.
            scale: of the products.
            by_products: compute it as on devices whose kernels do not return the sums.
        """
        self._unread = False
        query, keys, values = in_one_dtype(query, keys, values)
        # Autocast can leave a filled cache in float32; cast once, later calls find it as it is.
        self._prefix = (self._prefix[0].to(keys.dtype), self._prefix[1].to(keys.dtype))
        rows, heads, tokens, size = query.shape
        kinds = keys.shape[1]
        share = heads // kinds  # query heads of one key head, which go as more queries
        folded = query.reshape(rows, kinds, share * tokens, size)
        attend = _attend_by_products if by_products else _attend
        near, near_sum = attend(folded, keys, values, _own_mask(mask, keys, tokens, share), scale)
        far = near.new_empty(near.shape)
        far_sum = near_sum.new_empty(near_sum.shape)
        for clips, own in self._layout.runs:
            count = clips.stop - clips.start
            each = (own.stop - own.start) // count
            shape = (count, each, kinds, share * tokens)
            together = (
                folded[own].view(*shape, size).transpose(1, 2).reshape(count, kinds, -1, size)
            )
            part, part_sum = attend(
                together, self._prefix[0][clips], self._prefix[1][clips], None, scale
            )
            back = (count, kinds, each, share * tokens)
            far[own] = part.reshape(*back, size).transpose(1, 2).reshape(far[own].shape)
            far_sum[own] = part_sum.reshape(back).transpose(1, 2).reshape(far_sum[own].shape)
        weight = torch.sigmoid(far_sum - near_sum).unsqueeze(-1).to(near.dtype)
        joined = torch.lerp(near, far, weight)
        return joined.reshape(rows, heads, tokens, size).transpose(1, 2).contiguous()


def _own_mask(
    mask: torch.Tensor | None, keys: torch.Tensor, tokens: int, share: int
) -> torch.Tensor | None:
    """Make what is added to products with a row's own keys: rows×1×(share·tokens)×own tokens.

    The least number instead of -∞: padding may see nothing of its row, and must not become NaN.
    """
    own = keys.shape[-2]
    least = torch.finfo(keys.dtype).min
    if mask is None:
        if tokens == 1:
            return None
        full = keys.new_full((tokens, own), least).triu(own - tokens + 1)
        return full.repeat(share, 1)[None, None]
    mask = mask[..., -own:]
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=keys.dtype).masked_fill(~mask, least)
    return mask if share == 1 else mask.repeat(1, 1, share, 1)


def in_one_dtype(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cast queries and keys to the dtype of the values, or all three to autocast's where it is on.

    Rotary positions leave queries and keys of a float32 model in float32 under autocast, while
    values come out of their linear layer in bfloat16. Autocast evens that out only in the
    functions that it knows: not in a call with a `causal_lower_right` mask, nor in one of a kernel
    by its own name. As in autocast, float64 stays.
    """
    place, dtype = value.device.type, value.dtype
    if (
        dtype != torch.float64
        and torch.amp.is_autocast_available(place)
        and torch.is_autocast_enabled(place)
    ):
        dtype = torch.get_autocast_dtype(place)
    return query.to(dtype), key.to(dtype), value.to(dtype)


def _attend(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return attention and the log-sum-exp of its scaled products (float32 or wider)."""
    if query.device.type == "cpu":
        # What scaled_dot_product_attention runs here; only this entry gives the sums too.
        out, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, keys, values, attn_mask=mask, scale=scale
        )
        return out, sums
    return _attend_by_products(query, keys, values, mask, scale)


def _attend_by_products(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Do the same by plain operations, for devices whose kernels do not return the sums."""
    products = torch.matmul(query * scale, keys.transpose(-1, -2)).float()
    if mask is not None:
        products += mask
    sums = products.logsumexp(dim=-1)
    weights = products.sub_(sums.unsqueeze(-1)).exp_().to(values.dtype)
    return torch.matmul(weights, values), sums


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Attend to prefix and row, or as `sdpa` does where the keys have no prefix."""
    layer = getattr(key, "after_prefix", None)
    if layer is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **more
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return layer.attend(query, key, value, attention_mask, scale), None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


@contextmanager
def attending_to_prefixes(config: Any) -> Iterator[None]:
    """Let the language model with this config attend to the prefix of a `SharedPrefixCache`.

    Other caches give what `sdpa` gives. Not for several threads at once on one model.
    """
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before
