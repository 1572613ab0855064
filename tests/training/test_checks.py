"""What would stop a training later is one line before its first step."""

from __future__ import annotations

import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from sharegptvideo._text import byte_size
from sharegptvideo.errors import UserError
from sharegptvideo.training import DpoRecipe, SftRecipe, run_dpo, run_sft
from sharegptvideo.training.checks import full_disk_in_training, machine_problems
from sharegptvideo.training.families import open_family

Change = Callable[..., Any]


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_a_row_without_a_clip_is_never_another_rows(
    sft_recipe: SftRecipe, change: Change, tmp_path: Path, release: Path
) -> None:
    """Two of eight rows lose their clip: refused by name, or left out by choice and listed."""
    media = tmp_path / "media"
    shutil.copytree(release / "videos", media)
    (media / "clip_green.mp4").unlink()
    recipe = change(sft_recipe, data={"media": str(media)})
    with pytest.raises(UserError) as caught:
        run_sft(recipe)
    text = one_line(caught)
    assert "2 rows have no clip" in text
    assert "clip_green_0 (clip_green)" in text
    assert "data.missing_media=skip" in text
    reported: list[str] = []
    recipe = change(recipe, data={"missing_media": "skip"}, optimisation={"max_steps": 1})
    result = run_sft(recipe, report=reported.append)
    assert result.rows == 6
    assert any(
        "2 rows without a clip or readable image left out: clip_green_0" in line
        for line in reported
    )


def test_cut_answers_are_told_before_training(sft_recipe: SftRecipe, change: Change) -> None:
    """Video 20, prompt 13 or more: at 36 positions answers lose their end, and the count is
    reported before the first step, not after the last."""
    reported: list[str] = []
    seen: list[tuple[int, int]] = []

    def progress(done: int, _total: int, what: str) -> None:
        if what.startswith("training"):
            seen.append((done, len(reported)))

    recipe = change(sft_recipe, optimisation={"max_length": 36, "max_steps": 1})
    result = run_sft(recipe, report=reported.append, progress=progress)
    assert reported[:1] == ["8 of 8 rows cut to max_length"] == result.notes
    # No terminal here: the step is a line, with its loss.
    assert [line.startswith("step 1 of 1: loss ") for line in reported[1:]] == [True]
    assert seen[0] == (1, 1)


def test_a_pair_with_equal_sides(
    dpo_recipe: DpoRecipe, change: Change, tmp_path: Path, release: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(release / "video_instruction", source / "video_instruction")
    file = source / "video_instruction" / "train" / "dpo" / "sft_dpo_17k.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[1]["rejected"] = f" {rows[1]['chosen']}\n"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = change(dpo_recipe, data={"data_dir": str(source)}, optimisation={"max_steps": 1})
    with pytest.raises(UserError, match="1 pairs whose chosen and rejected answers are equal"):
        run_dpo(recipe)
    reported: list[str] = []
    recipe = change(recipe, dpo={"equal_pairs": "skip"})
    assert run_dpo(recipe, report=reported.append).rows == 3
    assert reported[0] == f"1 pairs of equal answers left out: {rows[1]['id']}"


@pytest.mark.parametrize("kind", ["text", "adapters", "half", "shapes", "empty"])
def test_a_checkpoint_that_will_not_do(
    kind: str, sft_recipe: SftRecipe, tiny: Path, change: Change, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    expected = MAKE[kind](folder)
    with pytest.raises(UserError) as caught:
        open_family(change(sft_recipe, model=str(folder)))
    text = one_line(caught)
    assert str(folder) in text
    assert expected in text


def _text(folder: Path) -> str:
    config = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return "architecture 'llama'"


def _adapters(folder: Path) -> str:
    (folder / "config.json").unlink()
    (folder / "model.safetensors").unlink()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    return "adapters"


def _half(folder: Path) -> str:
    """The language model alone, under the config of the whole."""
    weights = load_file(folder / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if "tower" not in name}
    assert 0 < len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return "of its weights are not in its files (model.image_tower, model.video_tower)"


def _shapes(folder: Path) -> str:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["intermediate_size"] *= 2
    (folder / "config.json").write_text(json.dumps(config))
    return "are of other shapes than its config says"


def _empty(folder: Path) -> str:
    (folder / "model.safetensors").unlink()
    return "the weights cannot be read"


MAKE = {"text": _text, "adapters": _adapters, "half": _half, "shapes": _shapes, "empty": _empty}


def test_an_output_that_cannot_be_written(
    sft_recipe: SftRecipe, change: Change, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.touch()
    for output in (file, file / "below"):
        with pytest.raises(UserError) as caught:
            run_sft(change(sft_recipe, output=str(output)))
        assert f"output {output}: {file} is a file" in one_line(caught)
    if os.geteuid() == 0:
        closed = Path("/proc/sys")  # which not even the superuser may make files in
    else:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o500)
    with pytest.raises(UserError, match=r"cannot be written to \(.*\); fix its rights"):
        run_sft(change(sft_recipe, output=str(closed / "run")))


def test_no_room_for_the_checkpoints(
    sft_recipe: SftRecipe, change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One byte less than a checkpoint and the model need is refused before a step is made."""
    usage = shutil.disk_usage(".")
    family = open_family(sft_recipe)
    family.freeze(sft_recipe.freeze)
    every = sum(w.numel() for w in family.model.parameters())
    learn = sum(w.numel() for w in family.model.parameters() if w.requires_grad)
    need = 4 * every + 8 * learn + 4 * every  # six steps, saved once, and the model
    free = usage._replace(free=need // 2)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: free)
    with pytest.raises(UserError) as caught:
        run_sft(sft_recipe)
    assert f"take {byte_size(need)} at their largest" in one_line(caught)
    assert caught.value.exit_code == 1
    log = Path(sft_recipe.output) / "log.jsonl"
    assert not log.exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    assert run_sft(change(sft_recipe, optimisation={"max_steps": 6})).steps == 6


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """`small_files(bytes)`: the system refuses to write files larger than that, as a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_up_while_it_trains(
    sft_recipe: SftRecipe, change: Change, small_files: Callable[[int], None], tmp_path: Path
) -> None:
    """The weights do not fit: one line; with room again the same command ends as any other."""
    recipe = change(sft_recipe, save_every=2)
    size = (Path(recipe.model) / "model.safetensors").stat().st_size
    small_files(size // 2)
    with pytest.raises(UserError) as caught:
        run_sft(recipe)
    small_files(resource.RLIM_INFINITY)
    assert "the disk is full; free some space and run the same command again" in one_line(caught)
    assert caught.value.exit_code == 1
    assert run_sft(recipe).steps == 6
    whole = run_sft(change(recipe, output=str(tmp_path / "whole")))
    ours, theirs = (
        load_file(Path(folder) / "model.safetensors") for folder in (recipe.output, whole.output)
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_other_errors_pass_a_full_disk_by() -> None:
    with pytest.raises(ValueError, match="no disk"), full_disk_in_training(Path("out")):
        raise ValueError("no disk in this")
    with pytest.raises(UserError, match="reported already"), full_disk_in_training(Path("out")):
        raise UserError("reported already") from OSError(28, "No space left on device")
    with (
        pytest.raises(UserError, match="output out: the disk is full"),
        full_disk_in_training(Path("out")),
    ):
        raise RuntimeError("I/O error: No space left on device (os error 28)")


def test_gpus_that_are_not_there(dpo_recipe: DpoRecipe, change: Change) -> None:
    """On a machine without any: what needs one is refused, and all of it is reported at once."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    recipe = change(
        dpo_recipe, optimisation={"optimizer": "adamw_8bit"}, sharing={"attention": "flex"}
    )
    with pytest.raises(UserError) as caught:
        run_dpo(recipe)
    text = one_line(caught)
    assert "adamw_8bit needs a GPU" in text
    assert "set sharing.attention=split" in text
    assert not Path(recipe.output).exists()


def test_fewer_gpus_than_processes_and_none_with_bf16(
    sft_recipe: SftRecipe, change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda _emulated: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla V100")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    problems = machine_problems(change(sft_recipe, optimisation={"bf16": True}))
    assert problems == [
        "8 processes were launched here for 2 GPUs; launch as many as there are GPUs "
        "(--num_processes 2)",
        "Tesla V100 has no bf16; set optimisation.bf16=false",
    ]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert machine_problems(sft_recipe) == []


def test_a_model_that_another_recipe_makes(
    sft_recipe: SftRecipe, change: Change, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for model, name in (
        ("runs/llava_hound/pretrain", "llava_hound/pretrain"),
        ("runs/llava_hound/sft_two_step/answers", "llava_hound/sft_two_step"),
    ):
        with pytest.raises(UserError) as caught:
            run_sft(change(sft_recipe, model=model))
        assert f"not there yet; `sharegptvideo train run {name}` makes it" in one_line(caught)


def test_a_model_larger_than_the_machine(
    sft_recipe: SftRecipe, tiny: Path, change: Change, tmp_path: Path
) -> None:
    """A config of 2.5 T parameters, no weights: known from the config, before any are read."""
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= {"intermediate_size": 2**33, "num_hidden_layers": 2}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError) as caught:
        run_sft(change(sft_recipe, model=str(folder)))
    text = one_line(caught)
    assert "weights, gradients and optimiser take 39.6 TB" in text  # 16 bytes × 2 × 3 × 48 × 2³³
    assert "train adapters (lora)" in text
