"""Attention to one copy of a prefix is attention to copies of it, whatever is done to the rows."""

from __future__ import annotations

import warnings
from collections import Counter
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
from tests.support.pretended_gpu import SaysCuda, efficient_kernel, flash_kernel

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


FLASH, EFFICIENT = (
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
)


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The kernels of a GPU; returns how often each is called."""
    calls: Counter[str] = Counter()

    def counted(name: str, kernel: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls[name] += 1
            return kernel(*args, **kwargs)

        return call

    for name, kernel in ((FLASH, flash_kernel), (EFFICIENT, efficient_kernel)):
        monkeypatch.setattr(torch.ops.aten, name, counted(name, kernel), raising=False)
    monkeypatch.setattr(shared_prefix, "CHOSEN", {})
    return calls


def one_call(dtype: torch.dtype, share: int = 1, own: int = 3, size: int = SIZE) -> torch.Tensor:
    """A step of five rows after three prefixes, the first row's first token hidden."""
    prefixes = DynamicCache()
    shape = (3, HEADS // share, 7, size)
    prefixes.update(noise(*shape, seed=1, dtype=dtype), noise(*shape, seed=2, dtype=dtype), 0)
    cache = SharedPrefixCache(prefixes, [0, 0, 1, 2, 2])
    query = noise(5, HEADS, 1, size, seed=3, dtype=dtype)
    keys, values = (noise(5, HEADS // share, own, size, seed=s, dtype=dtype) for s in (4, 5))
    mask = torch.ones(5, 1, 1, own, dtype=torch.bool)
    mask[0, ..., 0] = False
    return attend(cache, query, keys, values, mask, 0.3)


@pytest.mark.parametrize("share", [1, 2])
@pytest.mark.parametrize("own", [3, 8, 41])  # a mask's rows have to begin at multiples of 8
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_gpus_kernels_give_the_same(
    kernels: Counter[str], dtype: torch.dtype, own: int, share: int
) -> None:
    """Flash where nothing is masked, in half precision alone; the other kernel for the rest."""
    expected = one_call(dtype, share, own)
    assert not kernels
    with SaysCuda(), warnings.catch_warnings():
        warnings.simplefilter("error")
        found = one_call(dtype, share, own)
    assert torch.allclose(found, expected, atol=2e-2 if dtype == torch.bfloat16 else 1e-5)
    assert set(kernels) == ({FLASH, EFFICIENT} if dtype == torch.bfloat16 else {EFFICIENT})
    before = kernels.total()
    with SaysCuda():
        one_call(dtype, share, own)
    # Three runs of prefixes and the rows; what was checked once is not checked again.
    assert before == 4 + 2
    assert kernels.total() - before == 4


@pytest.mark.parametrize(
    ("changed", "cause"),
    [
        (lambda out: (out[0], out[1] + 0.5, *out[2:]), "its results are wrong"),
        (lambda out: (out[0] * torch.nan, *out[1:]), "its results are wrong"),
        (RuntimeError("no kernel image is available. Build one."), "no kernel image is available"),
    ],
)
def test_a_kernel_that_is_wrong_is_not_used_and_one_line_says_so(
    kernels: Counter[str], monkeypatch: pytest.MonkeyPatch, changed: Any, cause: str
) -> None:
    def wrong(*args: Any, **kwargs: Any) -> Any:
        if isinstance(changed, RuntimeError):
            raise changed
        return changed(efficient_kernel(*args, **kwargs))

    monkeypatch.setattr(torch.ops.aten, EFFICIENT, wrong)
    expected = one_call(torch.float32)
    with SaysCuda(), pytest.warns(UserWarning, match="by plain products") as said:
        found = one_call(torch.float32)
    assert {str(one.message).partition("(")[2] for one in said} == {
        f"memory-efficient attention: {cause})"
    }
    assert torch.allclose(found, expected, atol=1e-5)
    with SaysCuda(), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(one_call(torch.float32), found)
    assert not kernels


def test_sizes_that_no_kernel_takes_go_by_products(kernels: Counter[str]) -> None:
    """Heads of 12 numbers, and float64: no kernel is asked, and nothing has to be said."""
    for dtype, size in ((torch.float32, 12), (torch.float64, SIZE)):
        expected = one_call(dtype, size=size)
        with SaysCuda(), warnings.catch_warnings():
            warnings.simplefilter("error")
            assert torch.allclose(one_call(dtype, size=size), expected, atol=1e-5)
    assert not kernels
