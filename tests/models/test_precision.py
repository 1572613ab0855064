"""Attention in half precision: every way, what autocast leaves in float32, and a GPU's own calls.

What a GPU would run runs here too: the attention functions are made to believe that they are on
one, and what only a GPU has is put in their reach by the same name and with the same demands.
"""

from __future__ import annotations

import contextlib
import copy
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM
from trl.trainer.utils import add_fused_lm_head

from sharegptvideo.models import shared_prefix
from sharegptvideo.models.shared_prefix import (
    SharedPrefixCache,
    attending_to_prefixes,
    in_one_dtype,
)
from sharegptvideo.training.sharing import attention
from sharegptvideo.training.sharing.attention import ATTENTIONS, Attention, as_attention
from sharegptvideo.training.sharing.forward import share_clips
from tests.support.pretended_gpu import (
    GPU,
    SaysCuda,
    efficient_backward,
    efficient_kernel,
    flash_backward,
    flash_kernel,
)
from tests.support.shared_decoders import FIELDS, Rows, plain_decoder, rows_of

CLIPS = [(50, (7, 9)), (40, (5,)), (33, (2, 8, 4))]
DEVICES = ["cpu", "cuda", "cuda with flash"]
# Each way, `split` in turns and side by side. Only in turns does it ask for a kernel by name.
WAYS = [
    *(("split", 0, device) for device in DEVICES),
    *(
        (way, short, device)
        for way, short in (("split", 512), ("dense", 0), ("flex", 0))
        for device in DEVICES[:2]
    ),
]
HALF = torch.bfloat16


def pretend(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the attention functions believe to be on this device, with the flash kernel or not."""
    if device == "cpu":
        return
    flash = "flash" in device
    monkeypatch.setattr(
        torch.backends.cuda,
        "can_use_flash_attention",
        lambda given: flash and given.query.dtype == HALF,
    )
    for name, kernel in {
        "flash_attention": flash_kernel,
        "flash_attention_backward": flash_backward,
        "efficient_attention": efficient_kernel,
        "efficient_attention_backward": efficient_backward,
    }.items():
        monkeypatch.setattr(torch.ops.aten, f"_scaled_dot_product_{name}", kernel, raising=False)
    monkeypatch.setattr(shared_prefix, "CHOSEN", {})  # anew: with the kernels that are here now
    mapping = AttentionInterface._global_mapping
    # For a GPU that is none there is nothing to compile; the call is the same.
    eager = as_attention(partial(attention.flex, backend="eager"))
    monkeypatch.setitem(mapping, ATTENTIONS["flex"], eager)
    for name in (*ATTENTIONS.values(), shared_prefix.NAME):
        monkeypatch.setitem(mapping, name, on_cuda(mapping[name]))


@pytest.fixture(params=WAYS, ids=lambda way: "-".join(map(str, way)))
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Attention:
    name, short, device = request.param
    split = as_attention(partial(attention.split, short=short))
    monkeypatch.setitem(AttentionInterface._global_mapping, ATTENTIONS["split"], split)
    if name == "flex":
        torch.compiler.reset()  # else what is compiled counts, and ends, for all tests together
        # Its kernels have no gradients on a CPU; the `eager` backend has.
        monkeypatch.setattr("torch.nn.attention.flex_attention._validate_device", lambda *_: None)
    pretend(device, monkeypatch)
    return name  # type: ignore[no-any-return]


def on_cuda(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        with SaysCuda():
            return function(*args, **kwargs)

    return run


@contextlib.contextmanager
def autocast(enabled: bool) -> Iterator[None]:
    """Autocast to bfloat16 on the CPU and, by what can be asked of torch, on CUDA."""
    torch.set_autocast_enabled("cuda", enabled)
    torch.set_autocast_dtype("cuda", HALF)
    try:
        with torch.autocast("cpu", HALF, enabled=enabled):
            yield
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.set_autocast_dtype("cuda", torch.float16)


def lora(model: Any) -> None:
    """A base in bfloat16 with adapters in float32, none of them zero."""
    model.to(HALF)
    config = LoraConfig(r=4, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
    inject_adapter_in_model(config, model)
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        weight.requires_grad_("lora_" in name)
        if "lora_" in name:
            weight.data = torch.randn(weight.shape) / 20


def norms_in_float32(model: Any) -> None:
    """All in bfloat16 but the norms of queries and keys, which thus come out in float32."""
    model.to(HALF)
    for layer in model.model.layers:
        layer.self_attn.q_norm.float()
        layer.self_attn.k_norm.float()


KINDS: dict[str, tuple[str, Any, bool]] = {
    "full weights": ("llama", lambda model: model, True),
    "lora": ("qwen2", lora, True),
    "mixed": ("qwen3", norms_in_float32, False),
}
"""The decoder, what is done to its weights, and whether autocast is on."""


def passed(model: Any, rows: Rows, cast: bool, way: Attention | None = None) -> list[torch.Tensor]:
    """Log-probabilities of the rows, and the gradient of a weighted sum of them."""
    add_fused_lm_head(model, outputs=FIELDS)
    if way is not None:
        share_clips(model, way)
    shared = {} if way is None else {"shared_layout": rows.layout}
    with autocast(cast):
        found = model(**rows.inputs, **shared).log_probs
    weights = torch.linspace(-1, 1, found.numel()).view_as(found)
    (found.float() * weights).sum().backward()
    gradients = [p.grad.float().flatten() for p in model.parameters() if p.grad is not None]
    return [found.detach().float(), torch.cat(gradients)]


@pytest.mark.parametrize("kind", KINDS)
def test_forward_and_backward_are_no_further_from_float32_than_plain(
    way: Attention, kind: str
) -> None:
    """Both round; sharing not more: within twice the error of the plain computation."""
    name, prepare, cast = KINDS[kind]
    sharing = plain_decoder(name)
    prepare(sharing)
    exact, plain = copy.deepcopy(sharing).float(), copy.deepcopy(sharing)
    if kind == "mixed":  # transformers' own attention refuses it
        plain.to(HALF)
    rows = rows_of(CLIPS)
    right = passed(exact, rows, cast=False)
    errors = [a - b for a, b in zip(passed(plain, rows, cast), right, strict=True)]
    found = passed(sharing, rows, cast, way)
    for one, other, error in zip(found, right, errors, strict=True):
        assert 0 < (one - other).norm() < 2 * error.norm()


@pytest.mark.parametrize("cast", [False, True])
@pytest.mark.parametrize("dtypes", ["fff", "ffh", "hhf"])
def test_every_call_gets_one_dtype(way: Attention, dtypes: str, cast: bool) -> None:
    """Whatever the dtypes of queries, keys and values: the result has the one that all are in.

    That is autocast's, else that of the values. Gradients come back in each one's own.
    """
    kinds = [{"f": torch.float32, "h": HALF}[letter] for letter in dtypes]
    layout = rows_of(CLIPS).layout
    torch.manual_seed(0)
    shapes = [(1, heads, len(layout), 16) for heads in (4, 2, 2)]
    heads = [torch.randn(s, dtype=k).requires_grad_() for s, k in zip(shapes, kinds, strict=True)]
    run = AttentionInterface()[ATTENTIONS[way]]
    with autocast(cast):
        found, _ = run(torch.nn.Module(), *heads, None, shared_layout=layout)
    assert found.dtype == (HALF if cast else kinds[2])
    found.float().square().sum().backward()
    whole = [x.detach().float().requires_grad_() for x in heads]
    right, _ = AttentionInterface()[ATTENTIONS["dense"]](
        torch.nn.Module(), *whole, None, shared_layout=layout
    )
    right.square().sum().backward()
    assert torch.allclose(found.float(), right, atol=0.03)
    for one, other, kind in zip(heads, whole, kinds, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert one.grad.dtype == kind
        assert (one.grad.float() - other.grad).norm() < 0.02 * other.grad.norm()


@pytest.mark.parametrize(("kernel", "dtype"), [("flash", HALF), ("efficient", torch.float32)])
def test_the_kernels_of_a_gpu_take_what_they_are_given(
    kernel: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By torch's own description of them on tensors without numbers; forward and backward."""
    monkeypatch.setattr(
        torch.backends.cuda, "can_use_flash_attention", lambda _given: kernel == "flash"
    )
    layout = rows_of(CLIPS).layout
    with OpsSeen() as seen:
        heads = [
            torch.empty(1, len(layout), count, 64, dtype=dtype, device="meta")
            .transpose(1, 2)
            .requires_grad_()
            for count in (4, 2, 2)
        ]
        run = as_attention(partial(attention.split, short=0))
        found, _ = run(torch.nn.Module(), *heads, None, shared_layout=layout)
        found.sum().backward()
        assert found.shape == (1, len(layout), 4, 64)
        assert all(x.grad is not None and x.grad.shape == x.shape for x in heads)
    # Three beginnings with their first ends; three later ends, and two beginnings for those.
    forward = f"aten._scaled_dot_product_{kernel}_attention.default"
    backward = f"aten._scaled_dot_product_{kernel}_attention_backward.default"
    assert (seen.counts[forward], seen.counts[backward]) == (8, 8)


class OpsSeen(TorchDispatchMode):
    """Counts the operations that run."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


def test_float64_stays_under_autocast() -> None:
    three = [torch.zeros(1, dtype=torch.float64)] * 3
    with autocast(True):
        assert {x.dtype for x in in_one_dtype(*three)} == {torch.float64}
        assert {x.dtype for x in in_one_dtype(*(x.float() for x in three))} == {HALF}


def answering_model() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).eval()


def answered(model: Any, ids: torch.Tensor, new: torch.Tensor, which: list[int]) -> torch.Tensor:
    """Logits of two tokens and then one more a row, each row behind its own clip of `ids`."""
    cache = SharedPrefixCache(model(ids, use_cache=True).past_key_values, which)
    with attending_to_prefixes(model.config):
        model(new[:, :2], past_key_values=cache, use_cache=True)
        return model(new[:, 2:], past_key_values=cache, use_cache=True).logits  # type: ignore[no-any-return]


@pytest.mark.parametrize("device", DEVICES[:2])
@pytest.mark.parametrize("kind", ["autocast", "half", "mixed"])
def test_answers_behind_a_shared_prefix(
    kind: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A float32 model in training, one in bfloat16, and a clip read in another dtype than its rows.

    Within twice the error of the plain computation, by a CPU's call and by those of other devices.
    """
    pretend(device, monkeypatch)
    model = answering_model()
    ids, new, which = torch.randint(0, 50, (3, 9)), torch.randint(0, 50, (4, 3)), [0, 0, 1, 2]
    whole = torch.cat([ids[which], new], dim=1)
    with torch.inference_mode():
        exact = model(whole).logits[:, -1:]
        if kind == "mixed":
            cache = SharedPrefixCache(model(ids, use_cache=True).past_key_values, which)
            model.to(HALF)
            with attending_to_prefixes(model.config):
                found = model(new, past_key_values=cache, use_cache=True).logits[:, -1:]
            plain = model(whole).logits[:, -1:]
        else:
            model.to(HALF if kind == "half" else torch.float32)
            with autocast(kind == "autocast"):
                plain = model(whole).logits[:, -1:]
                found = answered(model, ids, new, which)
    assert found.dtype == HALF
    assert 0 < (found.float() - exact).norm() < 2 * (plain.float() - exact).norm()


def test_the_branches_by_device_go_the_way_of_a_gpu() -> None:
    """Else the other tests here would say nothing of it."""
    with SaysCuda():
        assert torch.zeros(1).device.type == "cuda"
        assert torch.zeros(1, device=torch.zeros(1).device).to(GPU).sum() == 0
