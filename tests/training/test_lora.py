"""Adapters: what learns, what is saved, the merged model, resuming, the reference model."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sharegptvideo._io import read_json, write_json
from sharegptvideo.errors import UserError
from sharegptvideo.media import sample_frames
from sharegptvideo.models import Request, SamplingParams, build_tiny, load_model, open_model
from sharegptvideo.models.info import model_info
from sharegptvideo.training import (
    DpoRecipe,
    Recipe,
    SftRecipe,
    load_recipe,
    merge_adapters,
    run_recipe,
)
from sharegptvideo.training.families import open_family
from sharegptvideo.training.lora import ADAPTER_WEIGHTS, adapters
from sharegptvideo.training.recipes import Lora
from sharegptvideo.training.trainers import VideoDPOTrainer, quiet_and_quick
from tests.support.training_fixtures import TEXTS

SMALL = Lora(rank=4, alpha=16)
FROZEN = {"vision_tower": True, "projector": True}


@pytest.fixture(params=["sft", "dpo"])
def recipe(request: pytest.FixtureRequest, change: Callable[..., Any]) -> Recipe:
    found = request.getfixturevalue(f"{request.param}_recipe")
    found = found.model_copy(update={"lora": SMALL})
    optimisation = {"learning_rate": 5e-3, "max_steps": 3}
    return change(found, freeze=FROZEN, optimisation=optimisation)  # type: ignore[no-any-return]


def weights(folder: str | Path, name: str = "model.safetensors") -> bytes:
    return (Path(folder) / name).read_bytes()


def test_adapters_alone_and_merged_are_the_same_model(
    recipe: Recipe, change: Callable[..., Any], tmp_path: Path, synced: list[Path]
) -> None:
    """W + (alpha / rank) B A, written out by hand, is what both ways leave; all else stays.

    The merged folder is a whole model, of the base's names and shapes.
    """
    from safetensors.torch import load_file

    merged = run_recipe(recipe)
    apart = run_recipe(change(recipe, lora={"merge": False}, output=str(tmp_path / "adapters")))
    assert [entry["loss"] for entry in apart.log] == [entry["loss"] for entry in merged.log]
    assert not (apart.output / "model.safetensors").exists()
    config = read_json(apart.output / "adapter_config.json")
    assert config["base_model_name_or_path"] == str(Path(recipe.model).resolve())

    pairs = load_file(apart.output / "adapter_model.safetensors")
    base = load_model(recipe.model, dtype="float32").state_dict()
    found = load_model(str(merged.output), dtype="float32").state_dict()
    assert base.keys() == found.keys()
    for name, value in base.items():
        adapted = name.startswith("model.language_model.layers.") and "_proj." in name
        assert torch.equal(value, found[name]) != adapted, name
    assert not list(merged.output.glob("adapter*"))
    names = {name.removesuffix(".lora_A.weight") for name in pairs if "lora_A" in name}
    assert len(names) * 2 == len(pairs) > 0
    for name in names:
        a, b = pairs[f"{name}.lora_A.weight"], pairs[f"{name}.lora_B.weight"]
        assert a.shape[0] == 4
        plain = f"{name.removeprefix('base_model.model.')}.weight"
        torch.testing.assert_close(found[plain], base[plain] + 4.0 * (b @ a))

    whole = merge_adapters(apart.output, tmp_path / "whole")
    assert {apart.output, merged.output, tmp_path} <= set(synced)
    assert weights(whole) == weights(merged.output)
    clip = sample_frames(next(Path(str(recipe.data.media)).rglob("*.mp4")), 4).frames
    asked = [Request(text, clip) for text in ("What colour is the picture?", "Describe the video.")]
    one, other = (
        list(open_model(f"hf:{path}").generate(asked, SamplingParams(max_new_tokens=8)))
        for path in (whole, merged.output)
    )
    assert one == other
    with pytest.raises(UserError, match="exists"):
        merge_adapters(apart.output, tmp_path / "whole")
    with pytest.raises(UserError, match="no adapter_config"):
        merge_adapters(merged.output, tmp_path / "never")


def test_a_folder_of_adapters_says_what_it_is(
    sft_recipe: SftRecipe, change: Callable[..., Any], tmp_path: Path
) -> None:
    recipe = change(sft_recipe, freeze=FROZEN, optimisation={"max_steps": 1})
    recipe = recipe.model_copy(update={"lora": SMALL.model_copy(update={"merge": False})})
    run_recipe(recipe)
    line = rf"adapters of {recipe.model}, not a model; make one with .*merge_adapters"
    for use in (
        lambda: open_model(f"hf:{recipe.output}"),
        lambda: run_recipe(change(recipe, model=recipe.output, output=str(tmp_path / "next"))),
    ):
        with pytest.raises(UserError, match=line):
            use()


def test_resuming_goes_on_to_the_bit_from_adapters_alone(
    dpo_recipe: DpoRecipe, change: Callable[..., Any]
) -> None:
    recipe = change(dpo_recipe, save_every=2, optimisation={"max_steps": 5, "learning_rate": 5e-3})
    recipe = recipe.model_copy(update={"lora": SMALL})
    whole = run_recipe(change(recipe, output=f"{recipe.output}-whole"))

    def progress(done: int, _total: int, what: str) -> None:
        if done == 3 and what.startswith("training"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, progress=progress)
    checkpoint = Path(recipe.output) / "checkpoints" / "checkpoint-2"
    assert (checkpoint / "adapter_model.safetensors").is_file()
    assert not (checkpoint / "model.safetensors").exists()
    result = run_recipe(recipe)
    assert result.resumed_from == 2
    assert [entry["loss"] for entry in result.log] == [entry["loss"] for entry in whole.log]
    assert weights(result.output) == weights(whole.output)


@pytest.fixture
def trainers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The trainers of DPO that come to be."""
    made: list[Any] = []
    old = VideoDPOTrainer.share

    def share(self: Any, *args: Any) -> Any:
        made.append(self)
        return old(self, *args)

    monkeypatch.setattr(VideoDPOTrainer, "share", share)
    return made


def test_the_reference_is_the_policy_without_adapters(
    dpo_recipe: DpoRecipe, change: Callable[..., Any], trainers: list[Any]
) -> None:
    """No second model; the first loss is log 2; both ways give the same losses."""
    optimisation = {"learning_rate": 5e-3, "max_steps": 4}
    recipe = change(dpo_recipe, dpo={"reference": "model"}, optimisation=optimisation)
    recipe = recipe.model_copy(update={"lora": SMALL})
    log = run_recipe(recipe).log
    assert log[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert log[-1]["rewards/margins"] > 0.01
    other = change(recipe, dpo={"reference": "precomputed"}, output=f"{recipe.output}-2")
    losses = [entry["loss"] for entry in run_recipe(other).log]
    assert losses == pytest.approx([entry["loss"] for entry in log], rel=1e-5)
    assert [trainer.ref_model for trainer in trainers] == [None, None]


def test_what_saves_memory_or_time_trains_the_same(
    recipe: Recipe, change: Callable[..., Any]
) -> None:
    """Plain rows with gradient checkpointing, and neither."""
    otherwise = {"optimisation": {"gradient_checkpointing": True}, "sharing": {"video": False}}
    recipe = change(recipe, optimisation={"per_device_batch_size": 8})  # all rows, in any order
    usual = run_recipe(recipe)
    other = run_recipe(change(recipe, **otherwise, output=f"{recipe.output}-2"))
    pairs = zip(other.log, usual.log, strict=True)
    assert all(a["loss"] == pytest.approx(b["loss"], rel=1e-5) for a, b in pairs)
    assert usual.log[0]["loss"] != pytest.approx(usual.log[-1]["loss"], rel=1e-4)


def test_a_bf16_base_is_held_and_left_as_it_is(
    sft_recipe: SftRecipe, change: Callable[..., Any], tmp_path: Path
) -> None:
    """In memory the base is bf16 and the adapters float32; what is saved has the base's type."""
    base = load_model(sft_recipe.model, dtype="bfloat16")
    base.save_pretrained(tmp_path / "base")
    for file in Path(sft_recipe.model).iterdir():
        if not (tmp_path / "base" / file.name).exists():
            (tmp_path / "base" / file.name).write_bytes(file.read_bytes())
    recipe = change(
        sft_recipe,
        model=str(tmp_path / "base"),
        freeze=FROZEN,
        optimisation={"bf16": True, "max_steps": 2},
    ).model_copy(update={"lora": SMALL})
    with quiet_and_quick():
        family = open_family(recipe)
        from peft import get_peft_model

        held = get_peft_model(family.model, adapters(recipe.lora, family.model))
    kinds = {weight.requires_grad: weight.dtype for weight in held.parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}
    run_recipe(recipe)
    after = load_model(recipe.output, dtype="auto")
    assert {value.dtype for value in after.state_dict().values()} == {torch.bfloat16}


def test_what_will_not_do(dpo_recipe: DpoRecipe) -> None:
    family = open_family(dpo_recipe)
    wrong = dpo_recipe.model_copy(update={"lora": Lora(targets=("q_proj", "up_pro"))})
    with pytest.raises(UserError, match=r"unknown .*linear layer 'up_pro'; did you mean up_proj"):
        adapters(wrong.lora, family.model)
    # k_proj is in the tower too, fc1 is nowhere else: the tower's layers are no targets.
    with pytest.raises(UserError, match="'fc1'"):
        adapters(Lora(targets=("fc1",)), family.model)
    towers = ["freeze.vision_tower=true", "freeze.projector=true"]
    for name, overrides, cause in (
        ("demo/sft", ["lora.rank=4"], "set freeze.vision_tower=true and freeze.projector=true"),
        ("demo/dpo", ["lora.dropout=0.1", *towers], "dpo switches dropout off"),
        ("demo/sft", ["lora.rnak=4", *towers], "unknown key lora.rnak"),
    ):
        with pytest.raises(UserError, match=cause):
            load_recipe(name, overrides)
    for frozen in ("true", "false"):  # either way the adapters alone learn
        assert load_recipe(
            "demo/sft", ["lora.rank=4", *towers, f"freeze.language_model={frozen}"]
        ).lora


def test_adapters_name_their_base_for_readers_elsewhere(
    sft_recipe: SftRecipe,
    change: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(sft_recipe.model, tmp_path / "base")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    recipe = change(sft_recipe, freeze=FROZEN, optimisation={"max_steps": 1}, output="adapters")
    lora = SMALL.model_copy(update={"merge": False})
    run_recipe(recipe.model_copy(update={"lora": lora, "model": "base"}))
    monkeypatch.chdir(tmp_path / "elsewhere")
    whole = weights(merge_adapters("../adapters", "../whole"))
    (tmp_path / "base").rename(tmp_path / "moved")
    with pytest.raises(UserError) as caught:
        merge_adapters("../adapters", "../again")
    for part in ("adapter_config.json", str(tmp_path / "base"), "base=PATH"):
        assert part in str(caught.value)
    assert weights(merge_adapters("../adapters", "../again", base="../moved")) == whole


@pytest.fixture
def trained(sft_recipe: SftRecipe, change: Callable[..., Any]) -> Path:
    """Adapters alone, of one step."""
    lora = SMALL.model_copy(update={"merge": False})
    recipe = change(sft_recipe, freeze=FROZEN, optimisation={"max_steps": 1})
    run_recipe(recipe.model_copy(update={"lora": lora}))
    return Path(recipe.output)


def test_adapters_are_put_in_one_for_one(trained: Path, tmp_path: Path) -> None:
    """peft leaves out what has no place, and leaves as drawn what a file lacks."""
    whole = load_file(trained / ADAPTER_WEIGHTS)
    first = min(whole)
    renamed = {name.replace("language_model", "text_model"): one for name, one in whole.items()}
    narrow = {name: one[:, :1].clone() for name, one in whole.items()}
    for number, (weights_there, line) in enumerate(
        (
            ({name: one for name, one in whole.items() if name != first}, "1 of .* not in the fi"),
            (renamed, "have no place in the model"),
            (narrow, "of other shapes than the model's"),
        )
    ):
        folder = shutil.copytree(trained, tmp_path / f"broken{number}")
        save_file(weights_there, folder / ADAPTER_WEIGHTS)
        with pytest.raises(UserError, match=f"adapters {folder}: .*{line}"):
            merge_adapters(folder, tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.glob("*whole*")) == []  # nothing half-written


def test_adapters_in_a_pickle(trained: Path, tmp_path: Path) -> None:
    expected = weights(merge_adapters(trained, tmp_path / "right"))
    torch.save(load_file(trained / ADAPTER_WEIGHTS), trained / "adapter_model.bin")
    (trained / ADAPTER_WEIGHTS).unlink()
    assert weights(merge_adapters(trained, tmp_path / "same")) == expected
    torch.save({"a": Path("code")}, trained / "adapter_model.bin")
    for _ in range(2):
        with pytest.raises(UserError, match="weights cannot be read"):
            merge_adapters(trained, tmp_path / "whole")
        (trained / "adapter_model.bin").write_bytes(b"PK")
    (trained / "adapter_model.bin").unlink()
    with pytest.raises(UserError, match=r"weights cannot be read .No such file"):
        merge_adapters(trained, tmp_path / "whole")


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"base_model_name_or_path": None}, "names no base; give it with"),
        ({"base_model_name_or_path": "models/gone"}, "names the base 'models/gone': .*base=PATH"),
        ({"peft_type": "PROMPT_TUNING"}, "of kind PROMPT_TUNING; only LORA"),
        ({"target_modules": ["nowhere"]}, "cannot be put into"),
        ({"r": 9}, "of other shapes than the model's"),
    ],
)
def test_settings_of_adapters_that_will_not_do(
    settings: dict[str, Any], line: str, trained: Path, tmp_path: Path
) -> None:
    config = trained / "adapter_config.json"
    write_json(config, read_json(config) | settings)
    with pytest.raises(UserError, match=line):
        merge_adapters(trained, tmp_path / "whole")
    config.write_text("[]")
    for use in (
        lambda: merge_adapters(trained, tmp_path / "whole"),
        lambda: model_info(str(trained)),
    ):
        with pytest.raises(UserError, match="a list, not an object"):
            use()


def test_a_base_of_another_architecture_is_refused(trained: Path, tmp_path: Path) -> None:
    """The names and shapes of the two language models are the same."""
    hound = build_tiny(TEXTS, tmp_path / "hound", seed=3, size="tiny", architecture="llava_hound")
    with pytest.raises(UserError, match=r"are for a VideoLlavaFor.* is a LlavaHoundFor"):
        merge_adapters(trained, tmp_path / "whole", base=hound)
