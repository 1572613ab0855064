"""A clip once for several answers: the same numbers as each answer by itself."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.testing import CompileCounterWithBackend
from transformers import AttentionInterface, LlamaConfig
from trl.trainer.utils import add_fused_lm_head

from sharegptvideo.errors import UserError
from sharegptvideo.training.recipes import LengthLimit
from sharegptvideo.training.sharing import attention
from sharegptvideo.training.sharing.attention import (
    ATTENTIONS,
    Attention,
    HeadShape,
    as_attention,
    attention_fault,
    choose_attention,
)
from sharegptvideo.training.sharing.forward import share_clips
from sharegptvideo.training.sharing.layout import Group, SharedLayout, shared_layout
from tests.support.pretended_gpu import CPU, GPU, SaysCuda
from tests.support.shared_decoders import (
    DECODERS,
    FIELDS,
    decoders,
    plain_decoder,
    relative,
    rows_of,
)

# Beginnings and the lengths of what follows each: pairs, one alone, several.
CLIPS = [(50, (7, 9)), (61, (3, 20)), (40, (5,)), (33, (2, 8, 4))]


@pytest.mark.parametrize("question", [0, 6])
@pytest.mark.parametrize(("way", "short"), [("split", 0), ("split", 512), ("dense", 0)])
@pytest.mark.parametrize("name", DECODERS)
def test_the_same_numbers_and_gradients(
    name: str, way: Attention, short: int, question: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To 1e-5 in float32, every field that TRL reads, and the gradient of every weight.

    Groups of up to `short` tokens go through attention side by side, longer ones in turns.
    """
    if way == "split":
        split = as_attention(partial(attention.split, short=short))
        monkeypatch.setitem(AttentionInterface._global_mapping, ATTENTIONS["split"], split)
    plain, sharing = decoders(name, way)
    rows = rows_of(CLIPS, question=question)
    expected = plain(**rows.inputs)
    found = sharing(**rows.inputs, shared_layout=rows.layout)
    assert relative(found.log_probs, expected.log_probs) < 1e-5
    assert relative(found.entropy, expected.entropy) < 1e-5
    assert relative(found.mean_logits, expected.mean_logits) < 1e-4  # they nearly cancel out
    assert torch.equal(found.is_top1, expected.is_top1)
    assert torch.equal(found.label_mask, expected.label_mask)
    assert float(found.loss.detach()) == pytest.approx(float(expected.loss.detach()), rel=1e-5)
    # Weights that differ by row: a mistake in who gets what would not cancel out.
    weights = torch.linspace(-1, 1, found.log_probs.numel()).view_as(found.log_probs)
    (expected.log_probs * weights).sum().backward()
    (found.log_probs * weights).sum().backward()
    for (weight, one), two in zip(plain.named_parameters(), sharing.parameters(), strict=True):
        assert one.grad is not None
        if one.grad.abs().max() > 1e-6:  # a key's bias moves all scores alike
            assert relative(two.grad, one.grad) < 1e-5, weight


@pytest.mark.parametrize("groups", [CLIPS[:1], [(0, (3, 2)), (4, (2, 3, 1))], [(6, ()), (3, (5,))]])
def test_attention_in_parts_has_the_gradients_of_one_call(
    groups: list[tuple[int, tuple[int, ...]]],
) -> None:
    """In float64, grouped heads: to 1e-12 of one masked call, and of differences along the way.

    A group may have no beginning, nothing but one, or a single end.
    """
    laid, at = [], 0
    for begin, ends in groups:
        laid.append(Group(at, begin, ends))
        at = laid[-1].stop
    none = torch.zeros(0, dtype=torch.long)
    layout = SharedLayout((*laid,), 1, at, none, none, none, none)
    torch.manual_seed(0)
    heads = [
        torch.randn(1, count, at, 8, dtype=torch.float64, requires_grad=True) for count in (4, 2, 2)
    ]
    ways = (partial(attention.split, short=0), attention.split)  # the second: side by side

    def attended(way: Any, *three: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = as_attention(way)(torch.nn.Module(), *three, None, 0.0, 0.4, layout)[
            0
        ]
        return found

    weights = torch.randn(1, at, 4, 8, dtype=torch.float64)
    found = []
    for way in ways:
        out = attended(way, *heads)
        found.append([out, *torch.autograd.grad((out * weights).sum(), heads)])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(partial(attended, ways[0]), heads, fast_mode=True)


def test_attention_in_parts_copies_no_keys() -> None:
    """What it keeps for the backward pass: queries, keys, values, output and two sums a query."""
    layout = rows_of([(600, (20, 30, 10))]).layout
    heads = [torch.randn(1, count, len(layout), 16, requires_grad=True) for count in (4, 2, 2)]
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        as_attention(attention.split)(torch.nn.Module(), *heads, None, shared_layout=layout)
    own = {x.untyped_storage().data_ptr() for x in heads}
    new = [x for x in kept if x.untyped_storage().data_ptr() not in own]
    assert sum(x.numel() for x in new) == len(layout) * 4 * (16 + 1)


def test_flex_attention_sees_what_split_sees() -> None:
    """Forward only: FlexAttention has no gradients on a CPU."""
    plain, sharing = decoders("qwen2", "flex")
    rows = rows_of(CLIPS)
    with torch.no_grad():
        expected = plain(**rows.inputs)
        found = sharing(**rows.inputs, shared_layout=rows.layout)
    assert relative(found.log_probs, expected.log_probs) < 1e-5


SHAPE = HeadShape(heads=4, key_heads=2, size=16)


@pytest.fixture
def flex_with_gradients(monkeypatch: pytest.MonkeyPatch) -> Any:
    """FlexAttention's operations without its kernel, which has no gradients on a CPU."""
    torch.compiler.reset()
    monkeypatch.setattr("torch.nn.attention.flex_attention._validate_device", lambda *_: None)
    counter = CompileCounterWithBackend("eager")
    monkeypatch.setattr(attention, "flex", partial(attention.flex, backend=counter))
    yield counter
    torch.compiler.reset()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_way_that_is_right_has_no_fault(flex_with_gradients: Any, dtype: torch.dtype) -> None:
    for way in (partial(attention.split, short=0), attention.split, attention.flex):
        assert attention_fault(way, SHAPE, CPU, dtype) is None
    assert flex_with_gradients.frame_count == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_way_that_is_wrong_is_found_out(dtype: torch.dtype) -> None:
    """In its output, in its gradients alone, or by not running at all."""

    def forgets(heads: Any, layout: SharedLayout) -> torch.Tensor:
        alone = tuple(Group(g.start, 0, (g.prefix, *g.ends)) for g in layout.groups)
        return attention.split(heads, dataclasses.replace(layout, groups=alone))

    def doubles(heads: Any, layout: SharedLayout) -> torch.Tensor:
        twice = 2 * heads.key - heads.key.detach()
        return attention.split(heads._replace(key=twice), layout)

    def fails(*_: Any) -> torch.Tensor:
        raise RuntimeError("Cannot find a compiler\nlong text")

    faults = [attention_fault(way, SHAPE, CPU, dtype) for way in (forgets, doubles, fails)]
    assert str(faults[0]).startswith("gives wrong numbers here (output: ")
    assert str(faults[1]).startswith("gives wrong numbers here (gradient of keys: ")
    assert faults[2] == "does not run here (Cannot find a compiler)"


def test_auto_is_what_works_on_the_device(
    flex_with_gradients: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a way that is named is taken, or refused where it does not work."""
    half = torch.bfloat16
    assert choose_attention("auto", SHAPE, CPU, half) == ("split", None)
    assert choose_attention("dense", SHAPE, GPU, half) == ("dense", None)
    with SaysCuda():
        assert choose_attention("auto", SHAPE, GPU, half) == ("flex", None)
        assert choose_attention("flex", SHAPE, GPU, half) == ("flex", None)
    assert flex_with_gradients.frame_count == 1

    def fails(*_: Any) -> torch.Tensor:
        raise RuntimeError("no Triton")

    monkeypatch.setattr(attention, "flex", fails)
    with SaysCuda():
        line = "attention is split: flex does not run here (no Triton)"
        assert choose_attention("auto", SHAPE, GPU, half) == ("split", line)
        with pytest.raises(UserError, match=r"\(no Triton\); set sharing\.attention=split"):
            choose_attention("flex", SHAPE, GPU, half)


def test_the_heads_of_a_model() -> None:
    config = LlamaConfig(hidden_size=96, num_attention_heads=6, num_key_value_heads=3)
    assert HeadShape.of(config) == (6, 3, 16)
    assert HeadShape.of(plain_decoder("qwen3").config) == (4, 2, 16)


def test_flex_compiles_once_for_all_lengths(flex_with_gradients: Any) -> None:
    """Twice with those of one block of 128; as often again without gradients."""
    run = as_attention(attention.flex)
    lengths = (300, 129, 512, 777, 128, 60, 100, 1000)
    for begin in lengths:
        layout = rows_of([(begin - 10, (4, 6)), *([(40, (9,))] if begin > 600 else [])]).layout
        heads = [torch.randn(1, n, len(layout), 16, requires_grad=True) for n in (4, 2, 2)]
        for enabled in (True, False):
            with torch.set_grad_enabled(enabled):
                run(torch.nn.Module(), *heads, None, shared_layout=layout)
    assert flex_with_gradients.frame_count == 4


@pytest.mark.parametrize("name", DECODERS)
def test_in_bfloat16_it_is_no_further_from_float32_than_plain(name: str) -> None:
    """Both round; sharing not more: within twice the error of the plain computation."""
    plain, sharing = decoders(name, "split")
    rows = rows_of(CLIPS)
    with torch.no_grad():
        exact = plain(**rows.inputs).log_probs
        rounded = plain.bfloat16()(**rows.inputs).log_probs.float()
        found = sharing.bfloat16()(**rows.inputs, shared_layout=rows.layout).log_probs.float()
    error = (found - exact).abs()
    plain_error = (rounded - exact).abs()
    assert error.max() < 0.1
    assert error.mean() < 2 * plain_error.mean()


def test_gradient_checkpointing_changes_nothing() -> None:
    _, sharing = decoders("llama", "split")
    again = copy.deepcopy(sharing)
    share_clips_again(again)
    rows = rows_of(CLIPS)
    sharing.train()(**rows.inputs, shared_layout=rows.layout).loss.backward()
    again.train().activation_checkpointing_enable()
    again(**rows.inputs, shared_layout=rows.layout).loss.backward()
    for one, two in zip(sharing.parameters(), again.parameters(), strict=True):
        assert torch.equal(one.grad, two.grad)


def share_clips_again(model: Any) -> None:
    """A deep copy's `forward` is still bound to the model that it was copied from."""
    del model.__dict__["forward"]
    add_fused_lm_head(model, outputs=FIELDS)
    share_clips(model)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_last_layer_runs_where_a_loss_reads(checkpointing: bool) -> None:
    """Its queries, their outputs and its MLP; keys and values, and all other layers, everywhere."""
    _, sharing = decoders("qwen2", "split")
    rows = rows_of(CLIPS)
    sharing.train()
    if checkpointing:
        sharing.activation_checkpointing_enable()
    seen: dict[str, set[int]] = {}
    for name, module in sharing.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(
                lambda _m, args, _o, name=name: seen.setdefault(name, set()).add(args[0].shape[1])
            )
    sharing(**rows.inputs, shared_layout=rows.layout).loss.backward()
    scored = {len(rows.layout.scored)}
    for name, counts in seen.items():
        last = name.startswith("model.layers.2.") and "k_proj" not in name and "v_proj" not in name
        assert counts == (scored if last else {len(rows.layout)}), name


def test_without_a_layout_the_model_is_as_before() -> None:
    """Padded batches, and generation with a cache, after a batch with a layout."""
    plain, sharing = decoders("qwen3", "split")
    rows = rows_of(CLIPS)
    sharing(**rows.inputs, shared_layout=rows.layout)
    assert torch.equal(sharing(**rows.inputs).log_probs, plain(**rows.inputs).log_probs)
    ids = rows.inputs["input_ids"][:1, :40]
    one = plain.generate(ids, max_new_tokens=8, do_sample=False)
    assert torch.equal(sharing.generate(ids, max_new_tokens=8, do_sample=False), one)


def test_a_run_keeps_the_attention_it_was_begun_with(
    sft_recipe: Any, change: Callable[..., Any]
) -> None:
    """Where the recipe leaves it open; FlexAttention is tried again, the device may be another."""
    from sharegptvideo.training.run_dir import TrainingDir

    run = TrainingDir(sft_recipe)
    assert run.sharing.attention == "auto"
    for kept, taken in (("split", "split"), ("dense", "dense"), ("flex", "auto")):
        run.state["attention"] = kept
        assert run.sharing.attention == taken
    named = TrainingDir(change(sft_recipe, sharing={"attention": "split"}))
    named.state["attention"] = "dense"
    assert named.sharing.attention == "split"


def test_a_model_that_sharing_does_not_know_is_refused() -> None:
    """Dropout of attention would need the same mask for all; better said than wrong."""
    _, sharing = decoders("llama", "split")
    for layer in sharing.model.layers:
        layer.self_attn.attention_dropout = 0.1
    rows = rows_of(CLIPS)
    with pytest.raises(UserError, match=r"sharing\.video=false"):
        sharing.train()(**rows.inputs, shared_layout=rows.layout)


def test_the_layout_of_two_answers() -> None:
    """The prompt once but for its last token, which predicts both answers' first."""
    layout = shared_layout(
        rows=[[1, 9, 9, 4, 5, 2], [1, 9, 9, 4, 7, 2]],
        assistant_masks=[[False] * 4 + [True] * 2] * 2,
        groups=[[0, 1]],
        width=6,
    )
    (group,) = layout.groups
    assert (group.start, group.prefix, group.ends, group.stop) == (0, 3, (3, 3), 9)
    assert layout.source.tolist() == [0, 1, 2, 3, 4, 5, 9, 10, 11]
    assert layout.columns.tolist() == [0, 1, 2, 3, 4, 5, 3, 4, 5]
    # Places 3 and 4 predict columns 4 and 5 of the first row; 6 and 7 those of the second.
    assert layout.scored.tolist() == [3, 4, 6, 7]
    assert layout.scored_at.tolist() == [3, 4, 8, 9]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 5),
            st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=4),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_every_learnt_token_is_scored_once(
    clips: list[tuple[int, list[tuple[int, int]]]],
) -> None:
    """Whatever the rows: equal ones, answers of nothing, rows that are all beginning."""
    tokens: list[list[int]] = []
    assistant_masks: list[list[bool]] = []
    groups: list[list[int]] = []
    for begin, ends in clips:
        groups.append([])
        for question, answer in ends:
            groups[-1].append(len(tokens))
            tokens.append([1] * begin + [2] * question + [3] * answer)
            assistant_masks.append([False] * (begin + question) + [True] * answer)
    width = max(map(len, tokens))
    layout = shared_layout(tokens, assistant_masks, groups, width)
    expected = [
        row * (width - 1) + column - 1
        for row, said in enumerate(assistant_masks)
        for column, learnt in enumerate(said)
        if learnt and column
    ]
    assert sorted(layout.scored_at.tolist()) == expected
    # A scored token stands where its row has it, in the end of that row's own.
    flat = [token for row in tokens for token in row + [0] * (width - len(row))]
    for place, target in zip(layout.scored.tolist(), layout.scored_at.tolist(), strict=True):
        row, column = divmod(target, width - 1)
        assert int(layout.source[place]) == row * width + column
    for group, members in zip(layout.groups, groups, strict=True):
        begin = [flat[i] for i in layout.source[group.start : group.start + group.prefix]]
        at = group.start + group.prefix
        for length, row in zip(group.ends, members, strict=True):
            own = [flat[i] for i in layout.source[at : at + length]]
            assert begin + own == tokens[row]
            at += length
    assert sum(group.prefix + sum(group.ends) for group in layout.groups) == len(layout)


@pytest.fixture
def video_batches(sft_recipe: Any, change: Callable[..., Any]) -> Any:
    """All eight rows of four clips in one batch, with and without sharing, and their trainers."""
    from trl import SFTConfig

    from sharegptvideo.training.collators import ClipCache, SftCollator
    from sharegptvideo.training.examples import sft_dataset
    from sharegptvideo.training.families import open_family
    from sharegptvideo.training.run_dir import TrainingDir
    from sharegptvideo.training.trainers import VideoSFTTrainer, quiet_and_quick, trainer_arguments

    found = []
    with quiet_and_quick():
        for share in (False, True):
            recipe = change(
                sft_recipe, sharing={"video": share}, output=f"{sft_recipe.output}-{share}"
            )
            family = open_family(recipe)
            rows, _ = sft_dataset(recipe.data, family, limit=LengthLimit(128))
            trainer = VideoSFTTrainer(
                model=family.model,
                args=SFTConfig(
                    **trainer_arguments(recipe, TrainingDir(recipe).checkpoints),
                    dataset_kwargs={"skip_prepare_dataset": True},
                ),
                data_collator=SftCollator(ClipCache(family.reader), LengthLimit(128), share=share),
                train_dataset=rows,
                processing_class=family.tokenizer,
            )
            trainer.share(family, recipe.sharing)
            family.model.model.image_tower.requires_grad_(False)
            found.append((trainer, trainer.data_collator(list(rows))))
        yield found


def test_supervised_training_weighs_answers_as_before(video_batches: Any) -> None:
    """Two questions a clip, towers learning: loss and gradients to 1e-5, the clip's tokens once."""
    losses, gradients = [], []
    for trainer, batch in video_batches:
        count = (batch["labels"] != -100).sum()
        loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=count)
        loss.backward()
        losses.append(float(loss.detach()))
        gradients.append(
            {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}
        )
    plain, shared = gradients
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert plain.keys() == shared.keys()
    for name, gradient in plain.items():
        if gradient.abs().max() > 1e-6:
            assert relative(shared[name], gradient) < 1e-5, name
    (_, unshared_batch), (_, batch) = video_batches
    layout = batch["shared_layout"]
    assert "shared_layout" not in unshared_batch
    whole = int(unshared_batch["attention_mask"].sum())
    assert len(layout) <= whole - 4 * 20  # four clips of 20 tokens were there twice
