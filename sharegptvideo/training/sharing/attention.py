"""Attention over a shared layout, registered with transformers so that any decoder can run it.

Three ways to the same result; each is plain scaled dot-product attention where no layout is given.

- `split`: the beginning with the first row's end, then each later end on the beginning and on
  itself, as calls of their own, joined by log-sum-exp. No call needs a mask that a flash kernel
  does not know, no keys are copied, and nothing that is hidden is computed. (Short groups go
  through one masked call side by side.)
- `flex`: one call of FlexAttention with a block mask; for GPUs with a compiler. What is compiled
  serves all lengths: anew once for those of a single block, and once without gradients.
- `dense`: one call a group with a mask of all its tokens by all its tokens; what the others are
  measured against.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from itertools import accumulate, pairwise, starmap
from typing import Any, Literal, NamedTuple

import torch
from torch.backends import cuda
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from sharegptvideo.errors import UserError
from sharegptvideo.models.shared_prefix import in_one_dtype
from sharegptvideo.training.precision import first_fault, output_and_gradients
from sharegptvideo.training.sharing.layout import Group, SharedLayout

__all__ = [
    "ATTENTIONS",
    "Attention",
    "AttentionChoice",
    "HeadShape",
    "as_attention",
    "attention_fault",
    "choose_attention",
    "flex",
    "split",
    "use_attention",
]

_SHORT = 512  # tokens of a group: the longest that go through one call side by side

Attention = Literal["split", "flex", "dense"]
AttentionChoice = Literal["auto", "split", "flex", "dense"]
"""As recipes say it: `auto` is `flex` on a GPU where it is right there, else `split`."""


class _Heads(NamedTuple):
    """Of the flat sequence, 1×heads×T×size; keys and values may have fewer heads."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    scaling: float | None


_One = Callable[[_Heads, SharedLayout], torch.Tensor]


def split(heads: _Heads, layout: SharedLayout, *, short: int = _SHORT) -> torch.Tensor:
    """Attend to beginnings and ends in turns; to groups of up to `short` tokens side by side."""
    if max(group.stop - group.start for group in layout.groups) <= short:
        return _side_by_side(heads, layout)
    query, key, value, scaling = heads
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    attended: torch.Tensor = _Split.apply(query, key, value, scale, layout.groups)  # type: ignore[no-untyped-call]  # of torch
    return attended


class _Parts(NamedTuple):
    """Where a group's parts are: its beginning, that with the first end, the later ends."""

    begin: slice
    first: slice
    later: slice
    ends: tuple[slice, ...]


def _parts(group: Group) -> _Parts:
    begin = slice(group.start, group.start + group.prefix)
    ends = [end for end in group.ends if end] or [0]
    first, *later = starmap(slice, pairwise(accumulate(ends, initial=begin.stop)))
    return _Parts(begin, slice(begin.start, first.stop), slice(first.stop, group.stop), (*later,))


class _Split(torch.autograd.Function):
    """Attention in parts, each on keys where they lie: nothing is copied into one place.

    Beginning and first end are one causal sequence. A later end attends to the beginning and to
    itself, and the two are joined by the log-sum-exp of their products. A kernel's backward pass
    recomputes its weights from that sum: given the joined output and sum, it returns the gradients
    of its own part, which add up (Liu et al. 2023, Ring Attention, does so across devices).
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        groups: tuple[Group, ...],
    ) -> torch.Tensor:
        """Attend; the output's memory is 1×T×heads×size, as the layer's next step reads it."""
        _, heads, tokens, _ = query.shape
        kernel = _kernel(query, key, value)
        out = query.new_empty(1, tokens, heads, value.shape[-1]).transpose(1, 2)
        kept = []
        for group in groups:
            begin, first, later, ends = _parts(group)
            heads_of = partial(_heads_at, query, key, value)
            out[:, :, first], sums = _attend(kernel, *heads_of(first, first), scale, causal=True)
            kept.append(sums)
            if not ends:
                continue
            if group.prefix:
                common, before = _attend(kernel, *heads_of(later, begin), scale, causal=False)
            joined = []
            for end in ends:
                attended, sums = _attend(kernel, *heads_of(end, end), scale, causal=True)
                if group.prefix:
                    there = slice(end.start - later.start, end.stop - later.start)
                    share = torch.sigmoid(sums - before[..., there]).unsqueeze(-1)
                    attended = common[:, :, there].to(share).lerp(attended.to(share), share)
                    sums = torch.logaddexp(before[..., there], sums)
                out[:, :, end] = attended
                joined.append(sums)
            kept.append(torch.cat(joined, dim=-1))
        ctx.save_for_backward(query, key, value, out, *kept)
        ctx.kernel, ctx.scale, ctx.groups = kernel, scale, groups
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of queries, keys and values."""
        query, key, value, out, *kept = ctx.saved_tensors
        grads = [torch.empty_like(x) for x in (query, key, value)]
        kept = iter(kept)

        def back(to: slice, on: slice, sums: torch.Tensor, *, causal: bool) -> list[torch.Tensor]:
            """Give gradients to the queries at `to` and to the keys and values at `on`."""
            heads = _heads_at(query, key, value, to, on)
            given = (grad[:, :, to], *heads, out[:, :, to], sums, ctx.scale)
            return _attend_back(ctx.kernel, *given, causal=causal)

        for group in ctx.groups:
            begin, first, later, ends = _parts(group)
            for whole, part in zip(grads, back(first, first, next(kept), causal=True), strict=True):
                whole[:, :, first] = part
            if not ends:
                continue
            joined = next(kept)
            for end in ends:
                there = slice(end.start - later.start, end.stop - later.start)
                parts = back(end, end, joined[..., there].contiguous(), causal=True)
                for whole, part in zip(grads, parts, strict=True):
                    whole[:, :, end] = part
            if group.prefix:
                parts = back(later, begin, joined, causal=False)
                for whole, part, at in zip(grads, parts, (later, begin, begin), strict=True):
                    whole[:, :, at] += part
        return *grads, None, None


def _heads_at(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, to: slice, on: slice
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return query[:, :, to], key[:, :, on], value[:, :, on]


_Kernel = Literal["cpu", "flash", "efficient"]
_ATEN: Any = torch.ops.aten


def _kernel(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> _Kernel:
    """Return what takes these; a GPU's flash kernel takes no float32, nor heads of any size."""
    if query.device.type == "cpu":
        return "cpu"
    grouped = key.shape[1] != query.shape[1]
    asked = cuda.SDPAParams(query, key, value, None, 0.0, True, grouped)
    return "flash" if cuda.can_use_flash_attention(asked) else "efficient"


def _attend(
    kernel: _Kernel,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float,
    *,
    causal: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return attention and the log-sum-exp of its scaled products, 1×heads×T (float32 or wider).

    The kernels are those that `scaled_dot_product_attention` takes; only these entries give sums.
    """
    how = {"is_causal": causal, "scale": scale}
    if kernel == "cpu":
        results = _ATEN._scaled_dot_product_flash_attention_for_cpu(query, key, value, **how)
    elif kernel == "flash":
        results = _ATEN._scaled_dot_product_flash_attention(query, key, value, **how)
    else:
        times = query.shape[1] // key.shape[1]
        heads = (query, repeat_kv(key, times), repeat_kv(value, times))
        results = _ATEN._scaled_dot_product_efficient_attention(*heads, None, True, **how)
    attended, sums = results[:2]
    return attended, sums[..., : query.shape[2]]  # `efficient` fills up to a multiple of 32


def _attend_back(
    kernel: _Kernel,
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    out: torch.Tensor,
    sums: torch.Tensor,
    scale: float,
    *,
    causal: bool,
) -> list[torch.Tensor]:
    """Return the gradients of what `_attend` takes; `out` and `sums` may be joined ones."""
    heads = (query, key, value)
    if kernel == "cpu":
        return list(
            _ATEN._scaled_dot_product_flash_attention_for_cpu_backward(
                grad, *heads, out, sums, 0.0, causal, scale=scale
            )
        )
    seed = torch.empty(2, dtype=torch.int64, device=query.device)  # read where there is dropout
    if kernel == "flash":
        lengths = (query.shape[2], key.shape[2])
        return list(
            _ATEN._scaled_dot_product_flash_attention_backward(
                grad, *heads, out, sums, None, None, *lengths, 0.0, causal, seed, seed, scale=scale
            )
        )
    times = query.shape[1] // key.shape[1]
    heads = (query, repeat_kv(key, times), repeat_kv(value, times))
    filled = pad(sums, (0, -sums.shape[-1] % 32), value=torch.inf)
    wanted = [True, True, True, False]
    to_query, *others = _ATEN._scaled_dot_product_efficient_attention_backward(
        grad, *heads, None, out, filled, seed[0], seed[1], 0.0, wanted, causal, scale=scale
    )
    return [to_query, *(x.unflatten(1, (-1, times)).sum(2) for x in others[:2])]


def _side_by_side(heads: _Heads, layout: SharedLayout) -> torch.Tensor:
    """One masked call for all groups, padded to the longest: many short ones are slow in turns."""
    query, key, value, scaling = heads
    places, back, mask = _padded(layout.groups, query.device)
    times = query.shape[1] // key.shape[1]
    q, k, v = (_pick(x[0], places).transpose(0, 1) for x in (query, key, value))
    k, v = repeat_kv(k, times), repeat_kv(v, times)
    padded = scaled_dot_product_attention(q, k, v, mask, scale=scaling)
    return _pick(padded.transpose(0, 1).reshape(query.shape[1], -1, value.shape[-1]), back)[None]


def _pick(values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """`values[:, places]`, whose gradient is added up in parallel, as that of indexing is not."""
    picked = values.index_select(1, places.flatten())
    return picked.view(values.shape[0], *places.shape, values.shape[-1])


@lru_cache(maxsize=2)  # one layout lasts for all layers of a step
def _padded(
    groups: tuple[Group, ...], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Lay the groups of a flat sequence out side by side, padded to the longest.

    Returns:
        where the groups' tokens are in the flat sequence (groups×longest), where the flat ones are
        in that, and which tokens attend to which (groups×1×longest×longest).
    """
    longest = max(group.stop - group.start for group in groups)
    places = torch.zeros(len(groups), longest, dtype=torch.long)
    mask = torch.eye(longest, dtype=torch.bool).repeat(len(groups), 1, 1, 1)
    back = []
    for number, group in enumerate(groups):
        length = group.stop - group.start
        places[number, :length] = torch.arange(group.start, group.stop)
        mask[number, 0, :length, :length] = _visible(group.prefix, group.ends, torch.device("cpu"))
        back.append(torch.arange(length) + number * longest)
    return places.to(device), torch.cat(back).to(device), mask.to(device)


def _dense(heads: _Heads, layout: SharedLayout) -> torch.Tensor:
    query, key, value, scaling = heads
    times = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, times), repeat_kv(value, times)
    outputs = []
    for group in layout.groups:
        own = slice(group.start, group.stop)
        mask = _visible(group.prefix, group.ends, query.device)
        outputs.append(
            scaled_dot_product_attention(
                query[:, :, own], key[:, :, own], value[:, :, own], mask, scale=scaling
            )
        )
    return torch.cat(outputs, dim=2)


@lru_cache(maxsize=8)  # a mask of a long clip is 5 MB
def _visible(prefix: int, ends: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Who sees whom within a group."""
    parts = torch.tensor([0] * prefix + [n for n, end in enumerate(ends, 1) for _ in range(end)])
    places = torch.arange(len(parts))
    earlier = places[:, None] >= places
    return (earlier & ((parts == 0) | (parts[:, None] == parts))).to(device)


_Backend = str | Callable[..., Any]


def flex(heads: _Heads, layout: SharedLayout, *, backend: _Backend | None = None) -> torch.Tensor:
    """Attend in one call of FlexAttention, compiled by `backend` (None: as the device asks)."""
    from torch.nn.attention.flex_attention import flex_attention

    query, key, value, scaling = heads
    run = _compiled(flex_attention, backend or _BACKENDS.get(query.device.type, "eager"))
    grouped = key.shape[1] != query.shape[1]
    mask = _block_mask(layout.groups, query.device)
    output: torch.Tensor = run(
        query, key, value, block_mask=mask, scale=scaling, enable_gqa=grouped
    )
    return output


_BACKENDS = {"cuda": "inductor"}
"""What compiles FlexAttention; elsewhere the same call runs through `eager`, without a kernel."""


@lru_cache(maxsize=2)
def _compiled(function: Callable[..., Any], backend: _Backend) -> Any:
    return torch.compile(function, dynamic=True, backend=backend)


@lru_cache(maxsize=2)  # one layout lasts for all layers of a step
def _block_mask(groups: tuple[Group, ...], device: torch.device) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    # A group's beginning has the number 0, its ends the numbers after it, each its own.
    owner, part = [], []
    for number, group in enumerate(groups):
        part += [0] * group.prefix
        part += [n for n, end in enumerate(group.ends, 1) for _ in range(end)]
        owner += [number] * (group.prefix + sum(group.ends))
    owners = torch.tensor(owner, device=device)
    parts = torch.tensor(part, device=device)

    def sees(_batch: Any, _head: Any, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        same = owners[q] == owners[k]
        return same & (q >= k) & ((parts[k] == 0) | (parts[k] == parts[q]))

    length = len(owner)
    return create_block_mask(sees, None, None, length, length, device=str(device))


def as_attention(run: _One) -> Callable[..., tuple[torch.Tensor, None]]:
    """Return `run` as a function of the registry of attentions; without a layout, plain SDPA."""

    def attention(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        shared_layout: SharedLayout | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, None]:
        query, key, value = in_one_dtype(query, key, value)
        if shared_layout is None:
            plain: Any = sdpa_attention_forward
            output: tuple[torch.Tensor, None] = plain(
                module, query, key, value, attention_mask, dropout, scaling, **kwargs
            )
            return output
        if dropout or kwargs.get("sliding_window") or kwargs.get("softcap"):
            raise UserError(
                "sharing.video: attention over a shared clip has no dropout, sliding window or "
                "soft cap, which this model has; set sharing.video=false"
            )
        attended = run(_Heads(query, key, value, scaling), shared_layout)
        return attended.transpose(1, 2).contiguous(), None

    return attention


ATTENTIONS: dict[Attention, str] = {
    "split": "shared_clip_split",
    "flex": "shared_clip_flex",
    "dense": "shared_clip_dense",
}
"""The name of each way in transformers' AttentionInterface."""

_RUNS: dict[Attention, _One] = {"split": split, "flex": flex, "dense": _dense}
for _way, _name in ATTENTIONS.items():
    AttentionInterface.register(_name, as_attention(_RUNS[_way]))
    AttentionMaskInterface.register(_name, sdpa_mask)


class HeadShape(NamedTuple):
    """A language model's heads of queries, those of keys and values, and their size."""

    heads: int
    key_heads: int
    size: int

    @classmethod
    def of(cls, config: Any) -> HeadShape:
        """Return those of a model with this configuration of transformers."""
        text = config.get_text_config()
        heads = text.num_attention_heads
        size = getattr(text, "head_dim", None) or text.hidden_size // heads
        return cls(heads, getattr(text, "num_key_value_heads", None) or heads, size)


def choose_attention(
    wanted: AttentionChoice, shape: HeadShape, device: torch.device, dtype: torch.dtype
) -> tuple[Attention, str | None]:
    """Return how a training attends on a device, and a line that says why where `auto` gave way.

    FlexAttention is computed once beside `dense` on small tensors, with gradients, before it is
    relied on. `auto` goes by `split` where it fails.

    Args:
        dtype: of queries, keys and values, autocast's where it is on.

    Raises:
        UserError: `flex` was asked for by name and fails on this GPU.
    """
    gpu = device.type == "cuda"
    if wanted == "auto":
        if not gpu:
            return "split", None
        fault = attention_fault(flex, shape, device, dtype)
        return ("flex", None) if fault is None else ("split", f"attention is split: flex {fault}")
    if wanted == "flex" and gpu and (fault := attention_fault(flex, shape, device, dtype)):
        raise UserError(f"sharing.attention flex {fault}; set sharing.attention=split")
    return wanted, None


_CHECKED = (Group(0, 150, (40, 9)), Group(199, 0, (30, 70)), Group(299, 90, (21,)))


def attention_fault(
    run: _One, shape: HeadShape, device: torch.device, dtype: torch.dtype
) -> str | None:
    """Return what is wrong with a way of attending on a device; None where it is right.

    Right is what `first_fault` allows beside `dense`: output and gradients of numbers drawn at
    random.
    """
    none = torch.zeros(0, dtype=torch.long)
    tokens = _CHECKED[-1].stop
    layout = SharedLayout(_CHECKED, 1, tokens, none, none, none, none)
    draw = torch.Generator().manual_seed(0)
    drawn = [
        torch.randn(1, tokens, count, shape.size, generator=draw).to(dtype)
        for count in (shape.heads, shape.key_heads, shape.key_heads, shape.heads)
    ]

    def computed(way: _One, kind: torch.dtype) -> dict[str, torch.Tensor]:
        *heads, weights = (x.to(device=device, dtype=kind).transpose(1, 2) for x in drawn)
        query, key, value = (x.requires_grad_() for x in heads)
        named = {"queries": query, "keys": key, "values": value}
        return output_and_gradients(way(_Heads(query, key, value, None), layout), named, weights)

    return first_fault(partial(computed, run), partial(computed, _dense), dtype)


def use_attention(model: Any, way: Attention) -> None:
    """Let the language model of `model` attend in this way; its towers keep theirs."""
    name = ATTENTIONS[way]
    sub_configs = getattr(model.config, "sub_configs", {})
    model.set_attn_implementation({"text_config": name} if "text_config" in sub_configs else name)
