"""The parts that the paper starts from become one checkpoint, weight by weight."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from sharegptvideo._io import cache_folder
from sharegptvideo.errors import UserError
from sharegptvideo.models.convert import (
    PAPER_PARTS,
    ModelParts,
    assemble_checkpoint,
    assembled,
    assembled_folder,
)
from tests.models.test_convert import FRAMES, PATCHES, Evil, load, logits_and_reference, pieces
from tests.support.authors_checkpoint import TOWER, VOCABULARY, write_parts
from tests.support.hub_server import HubServer

pytest.importorskip("sentencepiece")


def of(folder: Path) -> ModelParts:
    return ModelParts(**{name: str(folder / name) for name in ModelParts.model_fields})


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    write_parts(folder)
    return folder


@pytest.fixture
def copied(source: Path, tmp_path: Path) -> Path:
    """The parts, to be broken."""
    return Path(shutil.copytree(source, tmp_path / "parts"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAREGPTVIDEO_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("binary", [False, True], ids=["safetensors", "bin"])
def test_logits_are_those_of_plain_algebra(binary: bool, tmp_path: Path) -> None:
    """A clip and an image between words; the two ids that are added have the mean of all logits."""
    weights = write_parts(tmp_path / "parts", binary=binary)
    done = assemble_checkpoint(of(tmp_path / "parts"), tmp_path / "model")
    kept = {name for name in weights if not name.endswith(("inv_freq", "position_ids"))}
    assert done.weights == len(kept)
    dropped = {name.partition(".")[0] for name in done.dropped}
    assert dropped - {"model", "vision_model"} == {
        "text_model", "text_projection", "visual_projection", "logit_scale",
    }  # fmt: skip
    model, tokenizer = load(tmp_path / "model")
    image, video = tokenizer.convert_tokens_to_ids(["<image>", "<video>"])
    assert (image, video, len(tokenizer)) == (VOCABULARY, VOCABULARY + 1, VOCABULARY + 2)
    logits, expected = logits_and_reference(model, weights, (image, video))
    assert torch.allclose(logits[:, :VOCABULARY], expected, atol=1e-5)
    mean = expected.mean(-1, keepdim=True).expand(-1, 2)
    assert torch.allclose(logits[:, VOCABULARY:], mean, atol=1e-5)


def test_prompt_and_pixels_are_the_authors(source: Path, tmp_path: Path) -> None:
    import sentencepiece

    from sharegptvideo.models.pixels import VideoPixels
    from sharegptvideo.models.prompts import VICUNA_SYSTEM, VICUNA_V1, conversation, encode

    assemble_checkpoint(of(source), tmp_path / "model")
    _, tokenizer = load(tmp_path / "model")
    assert tokenizer.chat_template == VICUNA_V1
    slow = sentencepiece.SentencePieceProcessor(
        model_file=str(source / "language" / "tokenizer.model")
    )
    ids, _ = encode(tokenizer, conversation("What moves?"))
    text = f"{VICUNA_SYSTEM} USER: <video>\nWhat moves? ASSISTANT:"
    assert ids == pieces(tokenizer, slow, text)
    assert VideoPixels.from_pretrained(str(tmp_path / "model")).bilinear


def test_without_weights_for_a_plan(source: Path, tmp_path: Path) -> None:
    from sharegptvideo.models import load_model

    (light := tmp_path / "light").mkdir()
    shutil.copytree(source / "language", light / "language", ignore=shutil.ignore_patterns("*.bin"))
    for name in ("image_tower", "video_tower"):
        (light / name).mkdir()
        shutil.copyfile(source / name / "config.json", light / name / "config.json")
    done = assemble_checkpoint(of(light), tmp_path / "model", weights=False)
    assert (done.weights, done.video_positions) == (0, FRAMES * PATCHES)
    assert not list((tmp_path / "model").glob("*.safetensors"))
    whole = assemble_checkpoint(of(source), tmp_path / "whole")
    shape = load_model(str(tmp_path / "model"), dtype="float32", weights=False)
    assert shape.num_parameters() == whole.parameters


def test_parts_from_the_hub_are_fetched_once(source: Path, hub_server: HubServer) -> None:
    """By the ids of the paper; assembled, they are asked for no more, without a network either."""
    commits = {}
    for name, repo in PAPER_PARTS.model_dump().items():
        commits[name] = hub_server.add_repo(repo, source / name, repo_type="model")
    folder = assembled(PAPER_PARTS)
    assert folder == assembled_folder(PAPER_PARTS)
    assert folder.parent == cache_folder() / "assembled"
    assert json.loads((folder / "parts.json").read_text())["commits"] == commits
    asked = len(hub_server.requests)
    assert assembled(PAPER_PARTS) == folder
    assert len(hub_server.requests) == asked
    load(folder)


def test_a_dry_run_fetches_no_weights(source: Path, hub_server: HubServer, tmp_path: Path) -> None:
    from sharegptvideo.training import load_recipe
    from sharegptvideo.training.plan import dry_run

    for name, repo in PAPER_PARTS.model_dump().items():
        hub_server.add_repo(repo, source / name, repo_type="model")
    found = dry_run(load_recipe("llava_hound/pretrain", ["frames=4", f"output={tmp_path / 'o'}"]))
    assert found.shape is not None
    assert (found.shape.kind, found.shape.parameters) == ("llava_hound", 191_632)
    assert any(f"assembled in {assembled_folder(PAPER_PARTS)}" in t for t in found.missing)
    assert not assembled_folder(PAPER_PARTS).exists()
    assert not any("model" in line for line in found.problems)
    assert hub_server.requests
    assert not [path for _, path in hub_server.requests if path.endswith((".bin", ".safetensors"))]


def test_a_part_that_changed_is_assembled_again(copied: Path) -> None:
    parts = of(copied)
    folder = assembled(parts)
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert assembled(parts) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    file = copied / "projector" / "mm_projector.bin"
    weights = torch.load(file, weights_only=True)
    torch.save({name: weight + 1 for name, weight in weights.items()}, file)
    os.utime(file, ns=(1, 1))
    assert assembled(parts) == folder
    model, _ = load(folder)
    bias = model.model.multi_modal_projector.linear_2.bias
    assert torch.equal(bias.detach(), weights["model.mm_projector.2.bias"] + 1)
    # A file in place of the folder, and another folder of the same content, are other parts.
    other = parts.model_copy(update={"projector": str(file)})
    assert assembled(other) != folder


def refused(parts: ModelParts, to: Path) -> str:
    with pytest.raises(UserError) as caught:
        assemble_checkpoint(parts, to)
    assert not to.exists()
    assert not [path for path in to.parent.iterdir() if path.name.startswith(".")]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def change_weights(file: Path, **values: Any) -> None:
    weights = torch.load(file, weights_only=True) | values
    torch.save({name: weight for name, weight in weights.items() if weight is not None}, file)


def test_parts_of_another_kind_are_named(copied: Path, tmp_path: Path) -> None:
    parts, to = of(copied), tmp_path / "out"
    missing = parts.model_copy(update={"projector": str(copied / "language")})
    assert "language: no mm_projector.bin in it" in refused(missing, to)
    swapped = parts.model_copy(update={"video_tower": parts.image_tower})
    change(copied / "image_tower" / "config.json", vision_config=TOWER | {"add_time_attn": True})
    assert "its video tower has no temporal attention" in refused(swapped, to)
    plain = parts.model_copy(update={"image_tower": parts.language})
    line = refused(plain, to)
    assert "has no vision_config, so it is no tower of LanguageBind" in line
    assert "LanguageBind/LanguageBind_Image" in line
    change(copied / "language" / "config.json", model_type="llava_llama")
    assert "model_type 'llava_llama' is no Llama by itself" in refused(parts, to)
    nowhere = parts.model_copy(update={"language": str(copied / "none")})
    assert "no checkpoint there" in refused(nowhere, to)


def test_weights_without_a_place_and_places_without_one(copied: Path, tmp_path: Path) -> None:
    parts, to = of(copied), tmp_path / "out"
    projector = copied / "projector" / "mm_projector.bin"
    change_weights(projector, **{"model.mm_projector.4.weight": torch.ones(3)})
    assert "1 weight without a place in llava_hound: model.mm_projector.4" in refused(parts, to)
    change_weights(
        projector, **{"model.mm_projector.4.weight": None, "model.mm_projector.2.bias": None}
    )
    line = refused(parts, to)
    assert "1 weight that llava_hound needs is missing" in line
    assert "multi_modal_projector.linear_2.bias" in line
    tower = copied / "video_tower" / "pytorch_model.bin"
    change_weights(tower, **{"vision_model.encoder.base_model.lora_A.weight": torch.ones(2)})
    line = refused(parts, to)
    assert "it holds adapters, LanguageBind/LanguageBind_Video_merge has them merged" in line


def test_sizes_that_do_not_fit_and_code_in_a_pickle(copied: Path, tmp_path: Path) -> None:
    parts, to = of(copied), tmp_path / "out"
    projector = copied / "projector" / "mm_projector.bin"
    kept = projector.read_bytes()
    change_weights(projector, **{"model.mm_projector.0.weight": torch.ones(48, 40)})
    assert "model.mm_projector.0.weight is 48×40, its config says 48×32" in refused(parts, to)
    projector.write_bytes(pickle.dumps({"model.mm_projector.0.weight": Evil()}))
    assert "mm_projector.bin cannot be read" in refused(parts, to)
    projector.write_bytes(kept)
    (copied / "language" / "tokenizer.model").unlink()
    assert "no tokenizer.model in it" in refused(parts, to)


def test_the_command(source: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from sharegptvideo.cli import app

    def run(*words: str) -> Any:
        return CliRunner().invoke(app, ["model", "convert", *words], env={"COLUMNS": "200"})

    parts = [
        word
        for name, part in of(source).model_dump().items()
        for word in (f"--{name.replace('_', '-')}", part)
    ]
    out = str(tmp_path / "out")
    done = run("--assemble", *parts, "--to", out)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == out
    assert (
        "left out: inv_freq (2), logit_scale (2), position_ids (4), text_model (2)" in done.stderr
    )
    for words, cause in (
        (["--to", "x"], "give a checkpoint, or --assemble"),
        ([*parts, "--to", "x"], "--language is a part: add --assemble"),
        (["a", "--assemble", "--to", "x"], "--assemble takes parts"),
    ):
        failed = run(*words)
        assert failed.exit_code == 2
        assert cause in failed.stderr
