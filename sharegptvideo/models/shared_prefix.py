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

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby, pairwise
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, Cache
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

__all__ = [
    "NAME",
    "SharedPrefixCache",
    "SlotCache",
    "attending_to_prefixes",
    "in_one_dtype",
    "least",
]

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


def _read(layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a filled layer's keys and values; one that has dropped some is refused."""
    if type(layer) is not DynamicLayer:
        raise ValueError(f"a prefix in a {type(layer).__name__} cannot be shared")
    assert layer.keys is not None, "the prefixes have been read"
    assert layer.values is not None
    return layer.keys, layer.values


class _Attending(DynamicLayer):  # type: ignore[no-untyped-call]  # its base has an untyped hook
    """One layer of a cache whose rows come after prefixes: how they attend to both."""

    _prefix: tuple[torch.Tensor, torch.Tensor]
    _prefix_mask: torch.Tensor | None = (
        None  # added to products: where prefixes are unlike in length
    )
    _layout: _Layout
    _unread = False

    def _handed(
        self, keys: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Let the keys know this layer, by which the attention function gets the prefix."""
        if self._unread:
            raise RuntimeError("the model's attention ignored the shared prefix")
        self._unread = True
        keys.after_prefix = self  # type: ignore[attr-defined]  # tensors take attributes
        return keys, values

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
        parts = []
        for clips, own in self._layout.runs:
            count = clips.stop - clips.start
            each = (own.stop - own.start) // count
            shape = (count, each, kinds, share * tokens)
            together = (
                folded[own].view(*shape, size).transpose(1, 2).reshape(count, kinds, -1, size)
            )
            part, part_sum = attend(
                together,
                self._prefix[0][clips],
                self._prefix[1][clips],
                None if self._prefix_mask is None else self._prefix_mask[clips],
                scale,
            )
            back = (count, kinds, each, share * tokens)
            parts.append(
                (
                    part.reshape(*back, size).transpose(1, 2).reshape(-1, *near.shape[1:]),
                    part_sum.reshape(back).transpose(1, 2).reshape(-1, *near_sum.shape[1:]),
                )
            )
        far, far_sum = (
            torch.cat(each) if len(parts) > 1 else each[0] for each in zip(*parts, strict=True)
        )
        weight = torch.sigmoid(far_sum - near_sum).unsqueeze(-1).to(near.dtype)
        joined = torch.lerp(near, far, weight)
        return joined.reshape(rows, heads, tokens, size).transpose(1, 2).contiguous()


class _AfterPrefix(_Attending):
    """One layer: keys and values after the prefixes, in tensors with room for more tokens."""

    def __init__(self, prefix: Any, layout: _Layout, ahead: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # untyped in transformers
        self._prefix = _read(prefix)
        self._layout = layout
        self._ahead = ahead
        self._room: tuple[torch.Tensor, torch.Tensor] | None = None
        self._length = 0
        self.is_initialized = True

    def get_seq_length(self) -> int:
        """Count the tokens of a row, its prefix's included."""
        return int(self._prefix[0].shape[-2]) + self._length

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append to the rows' own keys and values, and return them.

        Raises:
            RuntimeError: what was given last time did not come to that function.
        """
        before, after = self._length, self._length + key_states.shape[-2]
        if self._room is None or after > self._room[0].shape[-2]:
            self._make_room(key_states, value_states, after + self._ahead)
        assert self._room is not None
        for room, new in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, before:after] = new
        self._length = after
        keys, values = (room[:, :, :after] for room in self._room)
        return self._handed(keys, values)

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


class _SlotLayer(_Attending):
    """One layer of a `SlotCache`: prefixes slots×heads×tokens×size; own ones by flat places."""

    def __init__(self, like: Any, slots: int, rows: int, prefix: int, own: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # untyped in transformers
        read = _read(like)
        # Zeros: what a mask hides is multiplied by 0, and must be a number.
        self._prefix = tuple(  # type: ignore[assignment]  # a pair
            each.new_zeros(slots, each.shape[1], prefix, each.shape[3]) for each in read
        )
        self.own = [
            each.new_zeros(slots * rows * own, each.shape[1], each.shape[3]) for each in read
        ]
        self._length = own
        self.copies = 0
        self.is_initialized = True

    def get_seq_length(self) -> int:
        """Count the tokens that a row has room for, its prefix's included."""
        return int(self._prefix[0].shape[-2]) + self._length

    @property
    def nbytes(self) -> int:
        return sum(each.nbytes for each in (*self._prefix, *self.own))

    def interrupted(self) -> None:
        self._unread = False

    def hold(self, slot: int, read: Any) -> None:
        """Copy a prefix into a slot."""
        for mine, new in zip(self._prefix, _read(read), strict=True):
            mine[slot, :, : new.shape[-2]].copy_(new[0])

    def follow(
        self, layout: _Layout, mask: torch.Tensor | None, places: torch.Tensor, copies: int
    ) -> None:
        self._layout, self._prefix_mask, self._places = layout, mask, places
        self.copies = copies

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write keys and values to the places set; return all of the rows, or while reading these.

        Raises:
            RuntimeError: what was given last time did not come to the attention function.
        """
        for own, new in zip(self.own, (key_states, value_states), strict=True):
            flat = new.transpose(1, 2)
            if self.copies > 1:
                flat = flat.repeat_interleave(self.copies, dim=0)
            own.index_copy_(0, self._places, flat.reshape(-1, *own.shape[1:]).to(own.dtype))
        if self.copies:
            return self._handed(key_states, value_states)
        keys, values = (
            own.view(-1, self._length, *own.shape[1:]).transpose(1, 2) for own in self.own
        )
        return self._handed(keys, values)


class SlotCache(Cache):
    """A cache of fixed shapes at fixed addresses: slots for prefixes, rows after each of them.

    Rows are numbered slot by slot. Before each call of the model, within `attending_to_prefixes`,
    `reading` or `decoding` says which rows it is about; the mask that the model is given is for
    the tokens after the prefix.

    Args:
        like: a filled cache, whose heads, sizes and dtypes these take.
        slots: how many prefixes are held.
        rows: how many rows come after each.
        prefix: tokens of the longest prefix.
        own: tokens that a row may have after it.
        uneven: whether prefixes may be shorter.

    Raises:
        ValueError: a layer of `like` does not hold all it has seen (a sliding window).
    """

    def __init__(
        self, like: Any, *, slots: int, rows: int, prefix: int, own: int, uneven: bool
    ) -> None:
        self._all = _Layout([slot for slot in range(slots) for _ in range(rows)])
        keys = like.layers[0].keys
        self._mask = keys.new_zeros(slots, 1, 1, prefix) if uneven else None
        self._each = [_SlotLayer(layer, slots, rows, prefix, own) for layer in like.layers]
        super().__init__(layers=[*self._each])

    def hold(self, slot: int, read: Any) -> None:
        """Copy the one prefix of a filled cache into a slot."""
        for layer, filled in zip(self._each, read.layers, strict=True):
            layer.hold(slot, filled)
        if self._mask is not None:
            length = read.layers[0].keys.shape[-2]
            self._mask[slot, ..., :length] = 0
            self._mask[slot, ..., length:] = least(self._mask.dtype)

    def reading(self, slots: Sequence[int], places: torch.Tensor, copies: int) -> None:
        """Let the next call read the beginnings of rows, which attend to the prefix and themselves.

        Args:
            slots: of each of the call's rows, ascending.
            places: where the tokens go, rows·copies×tokens: row number · `own` + number of token.
            copies: to how many rows of the cache each of the call's rows goes.
        """
        self._follow(_Layout(slots), places.flatten(), copies)

    def decoding(self, places: torch.Tensor) -> None:
        """Let the next call go on with a token of every row, which goes to its place."""
        self._follow(self._all, places, 0)

    @property
    def dtype(self) -> torch.dtype:
        """Of keys and values, and so of what is added to their products."""
        return self._each[0].own[0].dtype

    @property
    def nbytes(self) -> int:
        """How much memory all slots and rows take."""
        return sum(layer.nbytes for layer in self._each)

    def interrupted(self) -> None:
        """Forget a call of the model that did not come to its end."""
        for layer in self._each:
            layer.interrupted()

    def _follow(self, layout: _Layout, places: torch.Tensor, copies: int) -> None:
        for layer in self._each:
            layer.follow(layout, self._mask, places, copies)


def least(dtype: torch.dtype) -> float:
    """Return what is added to products that do not count: half of the least number there is.

    Not -∞: padding may see nothing of its row, and must not become NaN. Half, since kernels
    multiply by log2(e) what they have added.
    """
    return torch.finfo(dtype).min / 2


def _own_mask(
    mask: torch.Tensor | None, keys: torch.Tensor, tokens: int, share: int
) -> torch.Tensor | None:
    """Make what is added to products with a row's own keys: rows×1×(share·tokens)×own tokens."""
    own = keys.shape[-2]
    if mask is None:
        if tokens == 1:
            return None
        full = keys.new_full((tokens, own), least(keys.dtype)).triu(own - tokens + 1)
        return full.repeat(share, 1)[None, None]
    mask = mask[..., -own:]
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=keys.dtype).masked_fill(~mask, least(keys.dtype))
    if share == 1:
        return mask
    return mask.expand(-1, -1, share, -1) if tokens == 1 else mask.repeat(1, 1, share, 1)


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


_Kernel = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None, float],
    tuple[torch.Tensor, torch.Tensor],
]


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
    # Kernels are made for few and for many queries apart.
    kind = (query.device, query.dtype, query.shape[-1], query.shape[-2] > _FEW, mask is None)
    kernel = CHOSEN.get(kind)
    if kernel is None:
        kernel = CHOSEN[kind] = _checked(query, keys, values, mask, scale)
    return kernel(query, keys, values, mask, scale)


_FEW = 64  # queries
CHOSEN: dict[tuple[Any, ...], _Kernel] = {}
"""What attends to prefixes on devices with kernels, checked on its first use, by kind of input."""


def _checked(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
) -> _Kernel:
    """Return the first kernel that gives what plain products give for some of this input."""
    causes = []
    few = slice(2 * _FEW)
    some = query[:1, :, few], keys[:1], values[:1]
    part = mask if mask is None else mask[:1, :, few]
    for name, kernel in _kernels(query, mask):
        try:
            given = kernel(*some, part, scale)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            causes.append(f"{name}: {str(error).strip().splitlines()[0].partition('. ')[0]}")
            continue
        q, k, v = (each.float() for each in some)
        exact = _attend_by_products(q, k, v, part, scale)
        slack = max(1e-4, 8 * torch.finfo(query.dtype).eps)
        if all(
            torch.allclose(one.float() / top, other.float() / top, rtol=0, atol=slack)
            for one, other in zip(given, exact, strict=True)
            for top in [other.float().abs().max().clamp(min=1e-6)]
        ):
            return kernel
        causes.append(f"{name}: its results are wrong")
    if causes:
        dtype = str(query.dtype).removeprefix("torch.")
        warnings.warn(
            f"attention to a clip by plain products, which are slower, on {query.device} in"
            f" {dtype} ({'; '.join(causes)})",
            stacklevel=2,
        )
    return _attend_by_products


def _kernels(query: torch.Tensor, mask: torch.Tensor | None) -> list[tuple[str, _Kernel]]:
    """Return the kernels that may take this input, the fastest first."""
    half = query.dtype in (torch.float16, torch.bfloat16)
    if query.shape[-1] % 8 or not (half or query.dtype == torch.float32):
        return []
    known: list[tuple[str, _Kernel]] = [("memory-efficient attention", _by_efficient)]
    if half and mask is None and query.shape[-1] <= 256:
        known.insert(0, ("flash attention", _by_flash))
    return known


def _by_flash(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    assert mask is None, "the kernel takes none"
    out, sums, *_ = torch.ops.aten._scaled_dot_product_flash_attention(
        query, keys, values, scale=scale
    )
    return out, sums[..., : query.shape[-2]]


def _by_efficient(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    if mask is not None:
        mask = _aligned(mask.to(query.dtype)).expand(*query.shape[:-1], keys.shape[-2])
    out, sums, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
        query, keys, values, mask, True, scale=scale
    )
    return out, sums[..., : query.shape[-2]]  # the kernel pads them to a multiple of 32


def _aligned(mask: torch.Tensor) -> torch.Tensor:
    """Copy a mask whose rows do not begin and end at multiples of 8 numbers: the kernel's wish."""
    length = mask.shape[-1]
    steps = [step for step, n in zip(mask.stride()[:-1], mask.shape[:-1], strict=True) if n > 1]
    if not any(number % 8 for number in (length, mask.storage_offset(), *steps)):
        return mask
    room = mask.new_empty(*mask.shape[:-1], -(-length // 8) * 8)[..., :length]
    return room.copy_(mask)


def _attend_by_products(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Do the same by plain operations, where no kernel returns the sums."""
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
