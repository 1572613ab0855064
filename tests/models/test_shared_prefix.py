"""Attention to one copy of a prefix is attention to copies of it, whatever is done to the rows."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM
from transformers.cache_utils import DynamicSlidingWindowLayer

from sharegptvideo.models import shared_prefix
from sharegptvideo.models.shared_prefix import SharedPrefixCache, attending_to_prefixes

LAYERS, HEADS, SIZE = 2, 4, 8


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def filled(clips: int, tokens: int, heads: int, dtype: torch.dtype = torch.float32) -> DynamicCache:
    cache = DynamicCache()
    for layer in range(LAYERS):
        keys, values = (
            noise(clips, heads, tokens, SIZE, seed=2 * layer + part, dtype=dtype)
            for part in range(2)
        )
        cache.update(keys, values, layer)
    return cache


def attend(cache: SharedPrefixCache, *args: Any, **options: bool) -> torch.Tensor:
    return cache.layers[0].attend(*args, **options)  # type: ignore[no-any-return]  # layers are untyped


@given(
    counts=st.lists(st.integers(0, 3), min_size=1, max_size=4).filter(any),
    share=st.sampled_from([1, 2, 4]),
    tokens=st.sampled_from([1, 3]),
    earlier=st.integers(0, 2),
    masked=st.sampled_from(["none", "bool", "whole", "added"]),
    by_products=st.booleans(),
)
@settings(max_examples=120, deadline=None)
def test_same_as_attention_to_copies(
    counts: list[int], share: int, tokens: int, earlier: int, masked: str, by_products: bool
) -> None:
    """Uneven clips, one without rows, grouped queries, padding; float64, to 12 digits."""
    which = [clip for clip, count in enumerate(counts) for _ in range(count)]
    rows, kinds, before, own = len(which), HEADS // share, 7, earlier + tokens
    prefixes = filled(len(counts), before, kinds, torch.float64)
    cache = SharedPrefixCache(prefixes, which, ahead=1)
    keys, values = (noise(rows, kinds, own, SIZE, seed=s, dtype=torch.float64) for s in (7, 8))
    query = noise(rows, HEADS, tokens, SIZE, seed=9, dtype=torch.float64)
    seen = torch.ones(own, own, dtype=torch.bool).tril()[-tokens:].expand(rows, 1, -1, -1).clone()
    if masked != "none" and own > tokens:
        seen[0, :, :, 0] = False  # the first row begins with padding
    whole = torch.cat([seen.new_ones(rows, 1, tokens, before), seen], dim=-1)
    expected = torch.nn.functional.scaled_dot_product_attention(
        query,
        *(
            torch.cat([old[which], new], dim=-2).repeat_interleave(share, dim=1)
            for old, new in (
                (prefixes.layers[0].keys, keys),
                (prefixes.layers[0].values, values),
            )
        ),
        attn_mask=whole,
        scale=0.3,
    ).transpose(1, 2)
    mask = {
        "none": None,
        "bool": seen,
        "whole": whole,
        "added": torch.zeros(seen.shape, dtype=torch.float64).masked_fill(
            ~seen, torch.finfo(torch.float64).min
        ),
    }[masked]
    found = attend(cache, query, keys, values, mask, 0.3, by_products=by_products)
    # The plain way takes its sums in float32, as kernels do.
    assert torch.allclose(found, expected, rtol=0, atol=1e-6 if by_products else 1e-12)


def test_padding_that_sees_nothing_of_its_row_is_a_number() -> None:
    cache = SharedPrefixCache(filled(1, 5, HEADS), [0, 0])
    keys, values, query = (noise(2, HEADS, 3, SIZE, seed=s) for s in range(3))
    seen = torch.ones(3, 3, dtype=torch.bool).tril().expand(2, 1, 3, 3).clone()
    seen[0, :, :, :2] = False  # two tokens of padding, which see neither each other nor themselves
    found = attend(cache, query, keys, values, seen, 1.0)
    assert found.isfinite().all()


@pytest.mark.parametrize("share", [1, 2])
@pytest.mark.parametrize("steps", [4, 20])  # three tokens have room; more make new room
def test_a_language_model_goes_on_as_behind_copies(share: int, steps: int) -> None:
    """Five rows behind three clips; one row ends, all are doubled, then most end."""
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=HEADS * SIZE,
        intermediate_size=40,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS // share,
        initializer_range=0.3,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    ids = torch.randint(0, 50, (3, 9))
    with torch.inference_mode():
        prefixes = model(ids, use_cache=True).past_key_values
        held = [layer.keys.clone() for layer in prefixes.layers]
        which = [0, 0, 1, 2, 2]
        cache = SharedPrefixCache(prefixes, which, ahead=3)
        texts = ids[which]
        new = torch.randint(0, 50, (5, 2))
        for step in range(steps):
            texts = torch.cat([texts, new], dim=1)
            with attending_to_prefixes(model.config):
                found = model(new, past_key_values=cache, use_cache=True).logits[:, -1]
            assert torch.allclose(found, model(texts).logits[:, -1], atol=1e-4)
            assert cache.get_seq_length() == texts.shape[1]
            if step == 0:
                cache.batch_select_indices(torch.tensor([0, 1, 3, 4]))
                texts = texts[[0, 1, 3, 4]]
            if step == 1:
                cache.batch_repeat_interleave(2)
                texts = texts.repeat_interleave(2, dim=0)
            if step == 2:
                cache.batch_select_indices(torch.tensor([1, 5, 6]))
                texts = texts[[1, 5, 6]]
            new = torch.randint(0, 50, (len(texts), 1))
    assert all(
        torch.equal(a, layer.keys) for a, layer in zip(held, prefixes.layers, strict=True)
    ), "the clips' cache is not written into"


def test_other_caches_give_what_sdpa_gives_and_the_setting_comes_back() -> None:
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = LlamaForCausalLM(config).eval()
    ids = torch.randint(0, 50, (2, 9))
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    with torch.inference_mode():
        plain = model(ids, attention_mask=mask).logits
        with attending_to_prefixes(model.config):
            assert torch.equal(model(ids, attention_mask=mask).logits, plain)
        with pytest.raises(KeyError), attending_to_prefixes(model.config):
            raise KeyError
        assert model.config._attn_implementation == "sdpa"
        cache = SharedPrefixCache(model(ids, use_cache=True).past_key_values, [0, 1])
        model(ids[:, :1], past_key_values=cache, use_cache=True)  # not `attending_to_prefixes`
        with pytest.raises(RuntimeError, match="ignored the shared prefix"):
            model(ids[:, :1], past_key_values=cache, use_cache=True)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12).map(sorted))
def test_runs_cover_every_row_once_with_its_clip(which: list[int]) -> None:
    layout = shared_prefix._Layout(which)
    covered = [
        clip
        for clips, rows in layout.runs
        for clip in range(clips.start, clips.stop)
        for _ in range((rows.stop - rows.start) // (clips.stop - clips.start))
    ]
    assert covered == which
    assert [rows.start for _, rows in layout.runs][1:] == [r.stop for _, r in layout.runs][:-1]
    assert len(layout.runs) <= len(list(groupby(which)))


def test_what_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ValueError, match="in the order of their clips"):
        SharedPrefixCache(filled(2, 3, HEADS), [1, 0])
    with pytest.raises(ValueError, match="in the order of their clips"):
        SharedPrefixCache(filled(2, 3, HEADS), [0, 1, 0])
    window: Any = filled(1, 3, HEADS)
    window.layers[1] = DynamicSlidingWindowLayer(sliding_window=4)
    with pytest.raises(ValueError, match="DynamicSlidingWindowLayer cannot be shared"):
        SharedPrefixCache(window, [0])
