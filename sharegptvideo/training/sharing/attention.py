"""Attention over a shared layout, registered with transformers so that any decoder can run it.

Three ways to the same result; each is plain scaled dot-product attention where no layout is given.

- `split`: the beginning attends to itself, and each row's end to beginning and itself, as calls
  of their own. No call needs a mask that a flash kernel does not know, and nothing that is hidden
  is computed. (Short groups go through one masked call side by side.)
- `flex`: one call of FlexAttention with a block mask; for GPUs with a compiler.
- `dense`: one call a group with a mask of all its tokens by all its tokens; what the others are
  measured against.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import torch
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from sharegptvideo.errors import UserError
from sharegptvideo.models.shared_prefix import in_one_dtype
from sharegptvideo.training.sharing.layout import Group, SharedLayout

__all__ = ["ATTENTIONS", "Attention", "as_attention", "flex", "split", "use_attention"]

_SHORT = 512  # tokens of a group: the longest that go through one call side by side

Attention = Literal["split", "flex", "dense"]


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
    outputs = []
    for group in layout.groups:
        begin = slice(group.start, group.start + group.prefix)
        k, v = key[:, :, begin], value[:, :, begin]
        if group.prefix:
            outputs.append(_attend(query[:, :, begin], k, v, scaling))
        at = begin.stop
        for length in group.ends:
            own = slice(at, at + length)
            keys = torch.cat([k, key[:, :, own]], dim=2)
            values = torch.cat([v, value[:, :, own]], dim=2)
            outputs.append(_attend(query[:, :, own], keys, values, scaling))
            at += length
    return torch.cat(outputs, dim=2)


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None
) -> torch.Tensor:
    """Causal attention, aligned at the lower right where there are more keys than queries.

    The mask is never made where a GPU's flash kernel can do without it; a CPU makes it anew for
    each call, which takes no time that can be measured beside the call.
    """
    bias: Any = causal_lower_right(query.shape[2], key.shape[2])
    grouped = key.shape[1] != query.shape[1]
    return scaled_dot_product_attention(query, key, value, bias, scale=scaling, enable_gqa=grouped)


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


def flex(heads: _Heads, layout: SharedLayout, *, backend: str | None = None) -> torch.Tensor:
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
def _compiled(function: Callable[..., Any], backend: str) -> Any:
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


def use_attention(model: Any, way: Attention) -> None:
    """Let the language model of `model` attend in this way; its towers keep theirs."""
    name = ATTENTIONS[way]
    sub_configs = getattr(model.config, "sub_configs", {})
    model.set_attn_implementation({"text_config": name} if "text_config" in sub_configs else name)
