"""Norms, rotary positions and gates by compiled functions: the same numbers as the model's own."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from transformers import PhiConfig, PhiForCausalLM

from sharegptvideo.errors import UserError
from sharegptvideo.training import Recipe, load_recipe, run_recipe
from sharegptvideo.training.fused import fuse_layers
from sharegptvideo.training.recipes import Lora, recipe_hash
from tests.support.pretended_gpu import CPU, GPU, SaysCuda
from tests.support.shared_decoders import decoders, plain_decoder, relative, rows_of

PARTS = ("norm", "rotary", "swiglu")
BACKEND = "sharegptvideo.training.fused.BACKEND"


@pytest.fixture
def compiles(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """`compiles(backend)` is what compiles from now on, and counts.

    `aot_eager` does so as for a GPU, up to the operations that become kernels: they run one by one.
    """
    torch.compiler.reset()

    def by(backend: Any) -> Any:
        counter = CompileCounterWithBackend("eager")
        counter.backend = backend
        monkeypatch.setattr(BACKEND, counter)
        return counter

    yield by
    torch.compiler.reset()


def batches(count: int) -> Iterator[Any]:
    """Rows of all lengths, of one clip and of several."""
    for number in range(count):
        clips = [(40 + 7 * number, (5, 3 + number)), (33, (2, 8, 4)), (21, (9,))]
        yield rows_of(clips[: 1 + number % 3], seed=number)


def gradients(model: Any, output: Any) -> list[torch.Tensor]:
    """Of a sum of log-probabilities by weights that differ, for every weight."""
    weights = torch.linspace(-1, 1, output.log_probs.numel()).view_as(output.log_probs)
    return list(torch.autograd.grad((output.log_probs * weights).sum(), [*model.parameters()]))


def test_the_same_numbers_and_gradients(compiles: Callable[..., Any]) -> None:
    """To 1e-5 in float32, with a shared layout and row by row; also without gradients."""
    compiles("aot_eager")
    plain, fused = decoders("qwen3", "split")
    assert fuse_layers([fused], True, CPU, autocast=False) == (PARTS, None)
    *_, rows = batches(2)
    expected = plain(**rows.inputs)
    right = gradients(plain, expected)
    for layout in ({"shared_layout": rows.layout}, {}):
        found = fused(**rows.inputs, **layout)
        assert relative(found.log_probs, expected.log_probs) < 1e-5
        for one, two in zip(right, gradients(fused, found), strict=True):
            if one.abs().max() > 1e-6:  # a key's bias moves all scores alike
                assert relative(two, one) < 1e-5
        with torch.no_grad():
            again = fused(**rows.inputs, **layout)
        assert relative(again.log_probs, expected.log_probs) < 1e-5


def test_compiled_once_for_all_lengths(compiles: Callable[..., Any]) -> None:
    """A norm of each of two sizes, rotary positions and a gate; once more for inputs as views."""
    counter = compiles("eager")
    _, fused = decoders("qwen3", "split")
    fuse_layers([fused], True, CPU, autocast=False)
    counts = []
    for rows in batches(10):
        fused(**rows.inputs, shared_layout=rows.layout).loss.backward()
        counts.append(counter.frame_count)
    assert len(set(counts)) == 1
    assert 4 <= counts[0] <= 5


def test_in_bfloat16_it_is_no_further_from_float32_than_plain(compiles: Callable[..., Any]) -> None:
    """Under autocast, gradients too: within twice the error of the plain computation."""
    compiles("aot_eager")
    plain, fused = decoders("qwen3", "split")
    fuse_layers([fused], True, CPU, autocast=True)
    (rows,) = batches(1)
    exact = gradients(plain, plain(**rows.inputs))
    errors = []
    for model in (plain, fused):
        with torch.autocast("cpu", torch.bfloat16):
            output = model(**rows.inputs)
        found = gradients(model, output)
        errors.append([float((a - b).norm()) for a, b in zip(found, exact, strict=True)])
    for one, other in zip(*errors, strict=True):
        assert other <= 2 * one + 1e-6


def test_adapters_are_in_what_is_compiled_around(compiles: Callable[..., Any]) -> None:
    """In every linear layer, those of the MLP among them."""
    from peft import LoraConfig, get_peft_model

    compiles("aot_eager")
    rows = rows_of([(30, (4, 6))])
    found = []
    for fused in (False, True):
        config = LoraConfig(target_modules="all-linear", init_lora_weights=False)
        torch.manual_seed(1)
        _, sharing = decoders("qwen2", "split")
        model = get_peft_model(sharing, config)
        parts, _ = fuse_layers([model.get_base_model()], fused, CPU, autocast=False)
        assert parts == (PARTS if fused else ())
        learnt = [weight for weight in model.parameters() if weight.requires_grad]
        loss = model(**rows.inputs, shared_layout=rows.layout).loss
        found.append([loss.detach(), *torch.autograd.grad(loss, learnt)])
    for one, other in zip(*found, strict=True):
        assert relative(other, one) < 1e-5


def test_answers_between_steps_are_those_of_the_model(compiles: Callable[..., Any]) -> None:
    """To the bit, and nothing is compiled for them."""
    counter = compiles("eager")
    plain, fused = decoders("qwen3", "split")
    fuse_layers([fused], True, CPU, autocast=False)
    before = counter.frame_count
    ids = rows_of([(30, (4,))]).inputs["input_ids"]
    with torch.inference_mode():
        expected, found = plain(input_ids=ids), fused(input_ids=ids)
        assert torch.equal(found.logits, expected.logits)
    assert counter.frame_count == before
    other = plain_decoder("qwen3")  # nor is another model of that architecture touched
    other(input_ids=ids, labels=ids).loss.backward()
    assert counter.frame_count == before


def doubles(graph: Any, _inputs: Any) -> Any:
    return lambda *args: tuple(2 * one for one in graph(*args))


def doubles_gradients(graph: Any, _inputs: Any) -> Any:
    return lambda *args: tuple(2 * one - one.detach() for one in graph(*args))


def fails(*_: Any) -> Any:
    raise RuntimeError("no Triton\nand long text")


@pytest.mark.parametrize(
    ("backend", "fault"),
    [
        (doubles, "norm, rotary, swiglu: gives wrong numbers here (output: 1.0e+00 off, 1.0e-05"),
        (doubles_gradients, "norm: gives wrong numbers here (gradient of states: 1.0e+00 off"),
        (fails, "norm, rotary, swiglu: does not run here (RuntimeError: no Triton)"),
    ],
)
def test_what_is_wrong_is_left_as_it_is(
    backend: Any, fault: str, compiles: Callable[..., Any]
) -> None:
    """`auto` on a GPU says so in a line; `true` is refused. The model computes as before."""
    compiles(backend)
    plain, fused = decoders("llama", "split")
    with SaysCuda():
        parts, reason = fuse_layers([fused], "auto", GPU, autocast=False)
    assert parts == ()
    assert str(reason).startswith(f"not fused: {fault}")
    assert "\n" not in str(reason)
    with pytest.raises(UserError) as refused:
        fuse_layers([fused], True, CPU, autocast=False)
    assert str(refused.value).startswith(f"optimisation.fused: {fault}")
    assert str(refused.value).endswith("; set optimisation.fused=auto")
    ids = rows_of([(30, (4,))]).inputs["input_ids"]
    assert torch.equal(fused(input_ids=ids).logits, plain(input_ids=ids).logits)


def test_auto_is_on_a_gpu_alone(compiles: Callable[..., Any]) -> None:
    """Elsewhere nothing is compiled or put in place of a layer's own."""
    counter = compiles("eager")
    model = plain_decoder("llama")
    assert fuse_layers([model], "auto", CPU, autocast=False) == ((), None)
    assert fuse_layers([model], False, GPU, autocast=False) == ((), None)
    assert counter.frame_count == 0
    assert not any("forward" in vars(module) for module in model.modules())
    with SaysCuda():
        assert fuse_layers([model], "auto", GPU, autocast=False) == (PARTS, None)
    assert counter.frame_count == 3


def test_layers_of_other_kinds_are_named(compiles: Callable[..., Any]) -> None:
    """The line that a norm of another kind is answered by; likewise an MLP."""
    compiles("eager")
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2}
    model = PhiForCausalLM(PhiConfig(vocab_size=20, num_hidden_layers=1, **sizes))
    with pytest.raises(UserError, match=r"^optimisation\.fused: norm, .*none that is known here"):
        fuse_layers([model], True, CPU, autocast=False)


def compiler() -> str | None:
    return shutil.which(os.environ.get("CXX", "g++"))


@pytest.mark.slow
@pytest.mark.skipif(not compiler(), reason="no C++ compiler here")
def test_with_kernels_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """The compiler that a GPU has, here for the CPU's kernels."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.compiler.reset()
    plain, fused = decoders("llama", "split")
    assert fuse_layers([fused], True, CPU, autocast=False) == (PARTS, None)
    (rows,) = batches(1)
    expected, found = plain(**rows.inputs), fused(**rows.inputs, shared_layout=rows.layout)
    assert relative(found.log_probs, expected.log_probs) < 1e-5
    for one, other in zip(gradients(plain, expected), gradients(fused, found), strict=True):
        assert relative(other, one) < 1e-5


@pytest.mark.parametrize(
    ("stage", "checkpointing", "lora"), [("dpo", True, False), ("sft", 1, True)]
)
def test_a_training_by_compiled_functions(
    stage: str,
    checkpointing: bool | int,
    lora: bool,
    request: pytest.FixtureRequest,
    change: Callable[..., Any],
    compiles: Callable[..., Any],
) -> None:
    """Losses as without, to 1e-5, with layers that are computed again; the run says which."""
    counter = compiles("aot_eager")
    recipe: Recipe = request.getfixturevalue(f"{stage}_recipe")
    if stage == "dpo":
        recipe = change(recipe, dpo={"reference": "model"})
    if lora:
        recipe = change(recipe, lora=Lora(rank=4, alpha=8.0))
    losses = []
    for fused in (False, True):
        settings = {"max_steps": 3, "gradient_checkpointing": checkpointing, "fused": fused}
        output = f"{recipe.output}-{fused}"
        result = run_recipe(change(recipe, output=output, optimisation=settings))
        record = json.loads((result.output / "run.json").read_text())
        assert record["fused"] == ([*PARTS] if fused is True else [])
        assert bool(counter.frame_count) is (fused is True)
        rows = (result.output / "log.jsonl").read_text().splitlines()
        losses.append([row["loss"] for row in map(json.loads, rows) if "loss" in row])
    assert len(losses[0]) == 3
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert counter.frame_count <= 12  # with and without gradients


def test_the_key_of_a_recipe(sft_recipe: Recipe, change: Callable[..., Any]) -> None:
    """It is no part of a training's identity; what it cannot be is said in one line."""
    ways = [change(sft_recipe, optimisation={"fused": way}) for way in ("auto", True, False)]
    assert len({recipe_hash(recipe) for recipe in ways}) == 1
    with pytest.raises(UserError, match=r"optimisation\.fused: .* not 'always'$"):
        load_recipe("demo/sft", ["optimisation.fused=always"])
    assert load_recipe("demo/sft", ["optimisation.fused=true"]).optimisation.fused is True
