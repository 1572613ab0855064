"""Checkpoints in the authors' layout become llava_hound checkpoints, weight by weight."""

from __future__ import annotations

import json
import pickle
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from sharegptvideo.errors import UserError
from sharegptvideo.models.convert import convert_checkpoint
from tests.models.test_llava_hound import reference
from tests.support.authors_checkpoint import (
    ADDED,
    TOWER,
    TOWERS,
    VOCABULARY,
    authors_weights,
    write_authors,
)

pytest.importorskip("sentencepiece")
FRAMES = PATCHES = 4


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("authors") / "LLaVA-Hound-DPO"
    write_authors(folder)
    return folder


@pytest.fixture(scope="module")
def converted(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("converted") / "model"
    convert_checkpoint(source, out, towers=source / "towers.json")
    return out


def load(folder: Path) -> Any:
    from transformers import AutoModelForImageTextToText, AutoTokenizer

    kind: Any = AutoModelForImageTextToText
    return kind.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def in_our_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename by hand, in float64: a table of this test's own."""
    renamed = {}
    for name, weight in weights.items():
        new = name
        for old, ours in (
            ("model.image_tower.image_tower.", "model.image_tower."),
            ("model.video_tower.video_tower.", "model.video_tower."),
            ("model.mm_projector.0.", "model.multi_modal_projector.linear_1."),
            ("model.mm_projector.2.", "model.multi_modal_projector.linear_2."),
            ("model.embed_tokens.", "model.language_model.embed_tokens."),
            ("model.layers.", "model.language_model.layers."),
            ("model.norm.", "model.language_model.norm."),
        ):
            if name.startswith(old):
                new = ours + name.removeprefix(old)
        renamed[new] = weight.double()
    return renamed


@pytest.mark.parametrize("binary", [False, True], ids=["safetensors", "bin"])
@pytest.mark.parametrize("shards", [1, 3])
def test_logits_are_those_of_plain_algebra(binary: bool, shards: int, tmp_path: Path) -> None:
    weights = write_authors(tmp_path / "source", shards=shards, binary=binary)
    done = convert_checkpoint(
        tmp_path / "source", tmp_path / "model", towers=tmp_path / "source" / "towers.json"
    )
    assert done.video_positions == FRAMES * PATCHES
    assert sorted(done.dropped) == [
        "model.image_tower.image_tower.embeddings.position_ids",
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "model.layers.1.self_attn.rotary_emb.inv_freq",
        "model.video_tower.video_tower.embeddings.position_ids",
    ]
    assert done.weights == len(weights) - len(done.dropped)
    model, tokenizer = load(tmp_path / "model")
    image, video = tokenizer.convert_tokens_to_ids(["<image>", "<video>"])
    generator = torch.Generator().manual_seed(1)
    clip = torch.randn(FRAMES, 3, 28, 28, generator=generator, dtype=torch.float64)
    picture = torch.randn(1, 3, 28, 28, generator=generator, dtype=torch.float64)
    ids = [1, 5, *[video] * FRAMES * PATCHES, 7, *[image] * PATCHES, 9, 11]
    logits = model.double()(
        input_ids=torch.tensor([ids]), pixel_values_videos=clip[None], pixel_values_images=picture
    ).logits[0]
    named = in_our_names(weights)
    table = named["model.language_model.embed_tokens.weight"]
    named["model.language_model.embed_tokens.weight"] = torch.cat([table, table[:2]])
    expected = reference(ids, named, clip=clip, image=picture, marks=(image, video))
    known = VOCABULARY + len(ADDED)
    assert torch.allclose(logits[:, :known], expected, atol=1e-5)
    # The two added ids are never the likeliest: each has the mean of all logits.
    assert torch.allclose(
        logits[:, known:], expected.mean(-1, keepdim=True).expand(-1, 2), atol=1e-5
    )


def pieces(tokenizer: Any, model: Any, text: str) -> list[int]:
    """The authors' way: each piece of text between marks by itself, one `<s>` in front."""
    ids = [1]
    for piece in re.split(f"({'|'.join(['<video>', *ADDED])})", text):
        if piece in ("<video>", *ADDED):
            ids.append(tokenizer.convert_tokens_to_ids(piece))
        else:
            ids += model.encode(piece)
    return ids


def test_ids_are_those_of_sentencepiece(source: Path, converted: Path) -> None:
    import sentencepiece
    from transformers import AutoTokenizer

    slow = sentencepiece.SentencePieceProcessor(model_file=str(source / "tokenizer.model"))
    tokenizer = AutoTokenizer.from_pretrained(converted)
    draw = random.Random(0)
    letters = "abc  \n\t.,'éß漢字🙂01239ABC<>&"
    words = ["the video", "USER:", "ASSISTANT:", "moves", "  ", "\n", "12 34", "x" * 40]
    for number in range(3000):
        text = "".join(
            draw.choice(words) + " " if draw.random() < 0.3 else draw.choice(letters)
            for _ in range(draw.randrange(1, 40))
        )
        if number % 3 == 0:
            mark = draw.choice(["<video>", *ADDED])
            text = f"{text}{mark}\n{text[::-1]}"
        assert tokenizer(text)["input_ids"] == pieces(tokenizer, slow, text), repr(text)
    assert tokenizer.convert_tokens_to_ids(list(ADDED)) == [
        VOCABULARY,
        VOCABULARY + 1,
        VOCABULARY + 2,
    ]
    assert tokenizer.decode(slow.encode("A red square moves.")) == "A red square moves."


def test_the_prompt_is_that_of_vicuna_v1(source: Path, converted: Path) -> None:
    """Written out: the system sentence, one `<s>`, the clip in the user's turn."""
    import sentencepiece

    from sharegptvideo.models.prompts import conversation, encode

    slow = sentencepiece.SentencePieceProcessor(model_file=str(source / "tokenizer.model"))
    tokenizer = load(converted)[1]
    system = (
        "A chat between a curious user and an artificial intelligence assistant. The assistant "
        "gives helpful, detailed, and polite answers to the user's questions. "
    )
    ids, said = encode(tokenizer, conversation("What moves?", "A square."))
    text = f"{system}USER: <video>\nWhat moves? ASSISTANT: A square."
    assert ids == [*pieces(tokenizer, slow, text), 2]
    assert tokenizer.decode([i for i, one in zip(ids, said, strict=True) if one]) == "A square.</s>"
    prompt, _ = encode(tokenizer, conversation("What moves?"))
    assert prompt == ids[: len(prompt)]
    own, _ = encode(
        tokenizer, [{"role": "system", "content": "Be short."}, *conversation("What moves?")]
    )
    assert own == pieces(tokenizer, slow, "Be short. USER: <video>\nWhat moves? ASSISTANT:")


def refused(source: Path, to: Path, towers: Any = None) -> str:
    """The line of a conversion that fails; nothing is left of it."""
    file = source / "towers.json"
    if towers is not None:
        file.write_text(json.dumps(towers))
    with pytest.raises(UserError) as caught:
        convert_checkpoint(source, to, towers=file)
    assert not to.exists()
    assert not [path for path in to.parent.iterdir() if path.name.startswith(".")]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_weight_without_a_place_is_an_error(tmp_path: Path) -> None:
    weights = authors_weights()
    weights["model.mm_projector.4.weight"] = torch.ones(3)
    weights["model.layers.9.mlp.up_proj.weight"] = torch.ones(3)
    write_authors(tmp_path / "a", weights=weights)
    line = refused(tmp_path / "a", tmp_path / "out")
    assert "2 weights without a place in llava_hound" in line
    assert "model.layers.9.mlp.up_proj.weight, model.mm_projector.4.weight" in line


def test_a_place_without_a_weight_is_an_error(tmp_path: Path) -> None:
    weights = authors_weights()
    del weights["model.layers.1.mlp.up_proj.weight"]
    write_authors(tmp_path / "a", weights=weights)
    line = refused(tmp_path / "a", tmp_path / "out")
    assert "1 weight that llava_hound needs is missing" in line
    assert "model.language_model.layers.1.mlp.up_proj.weight" in line


def test_towers_of_another_size_are_an_error(tmp_path: Path) -> None:
    write_authors(tmp_path / "a")
    wider = {kind: tower | {"intermediate_size": 128} for kind, tower in TOWERS.items()}
    line = refused(tmp_path / "a", tmp_path / "out", wider)
    assert "is 64×32, its config says 128×32" in line or "is 64, its config says 128" in line
    assert "--towers" in line
    line = refused(tmp_path / "a", tmp_path / "out", {"image": TOWER, "video": TOWER})
    assert "its video tower has temporal attention" in line
    line = refused(tmp_path / "a", tmp_path / "out", {"image": TOWER})
    assert 'expected {"image": {...}, "video": {...}}' in line


def test_missing_shards_are_named(tmp_path: Path) -> None:
    write_authors(tmp_path / "a", shards=3)
    (tmp_path / "a" / "model-00002-of-00003.safetensors").unlink()
    line = refused(tmp_path / "a", tmp_path / "out")
    assert "1 shard of 3 is missing (model-00002-of-00003.safetensors)" in line


def test_a_broken_shard_is_named(tmp_path: Path) -> None:
    write_authors(tmp_path / "a", shards=2)
    file = tmp_path / "a" / "model-00002-of-00002.safetensors"
    file.write_bytes(file.read_bytes()[:500])
    assert "model-00002-of-00002.safetensors cannot be read" in refused(
        tmp_path / "a", tmp_path / "out"
    )


class Evil:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('code of a pickle ran')",))


def test_a_pickles_code_is_never_run(tmp_path: Path) -> None:
    write_authors(tmp_path / "a", shards=1, binary=True)
    (tmp_path / "a" / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Evil()}))
    assert "pytorch_model.bin cannot be read" in refused(tmp_path / "a", tmp_path / "out")


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"model_type": "llava_llama"}, "names no mm_video_tower, so it is an image-only LLaVA"),
        ({"model_type": "qwen3_vl"}, "model_type 'qwen3_vl' is not the authors' layout"),
        ({"model_type": "llava_hound"}, "is a llava_hound checkpoint already"),
    ],
)
def test_other_families_are_named(config: Any, line: str, tmp_path: Path) -> None:
    write_authors(tmp_path / "a")
    (tmp_path / "a" / "config.json").write_text(json.dumps(config))
    assert line in refused(tmp_path / "a", tmp_path / "out")


def test_towers_come_from_the_repositories_that_the_checkpoint_names(tmp_path: Path) -> None:
    """Folders stand for repositories; LanguageBind nests the sizes in `vision_config`."""
    write_authors(tmp_path / "a")
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    for kind, tower in TOWERS.items():
        folder = tmp_path / kind
        folder.mkdir()
        (folder / "config.json").write_text(
            json.dumps({"model_type": "LanguageBind", "vision_config": tower | {"lora_r": 0}})
        )
        config[f"mm_{kind}_tower"] = str(folder)
    (tmp_path / "a" / "config.json").write_text(json.dumps(config))
    convert_checkpoint(tmp_path / "a", tmp_path / "out")
    saved = json.loads((tmp_path / "out" / "config.json").read_text())
    assert saved["video_config"]["num_frames"] == 4
    assert saved["video_config"]["add_time_attn"] is True
    assert "lora_r" not in saved["video_config"]


def test_a_folder_that_is_there_is_not_written_over(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        convert_checkpoint(source, tmp_path / "out", towers=source / "towers.json")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_pixels_are_the_authors(converted: Path) -> None:
    """Normalise, resize the short side linearly without antialiasing, crop the centre: by hand."""
    import numpy as np

    from sharegptvideo.models.pixels import CLIP_MEAN, CLIP_STD, VideoPixels

    frames = np.random.default_rng(0).integers(0, 256, (2, 45, 60, 3), dtype=np.uint8)
    pixels = VideoPixels.from_pretrained(str(converted))
    assert pixels.bilinear
    expected = np.empty((2, 3, 28, 28))
    normal = (frames / 255 - np.array(CLIP_MEAN)) / np.array(CLIP_STD)
    height, width = 28, int(28 * 60 / 45)
    for row in range(28):
        for column in range(28):
            y = max((row + 0.5) * 45 / height - 0.5, 0)
            x = max((column + round((width - 28) / 2) + 0.5) * 60 / width - 0.5, 0)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, 44), min(x0 + 1, 59)
            a, b = y - y0, x - x0
            expected[:, :, row, column] = (1 - a) * (
                (1 - b) * normal[:, y0, x0] + b * normal[:, y0, x1]
            ) + a * ((1 - b) * normal[:, y1, x0] + b * normal[:, y1, x1])
    assert np.abs(pixels(frames).numpy() - expected).max() < 1e-4


def test_the_authors_layout_is_not_loaded_but_explained(source: Path) -> None:
    from sharegptvideo.models import open_model

    with pytest.raises(UserError) as caught:
        open_model(f"hf:{source}")
    line = str(caught.value)
    assert f"sharegptvideo model convert {source} --to DIR" in line
    assert "\n" not in line


def test_a_weight_that_loading_would_drop_is_an_error(converted: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    from sharegptvideo.models import load_model

    shutil.copytree(converted, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    weights = load_file(file)
    save_file(weights | {"model.extra.weight": torch.ones(2)}, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"1 of its weights have no place .*\(model\.extra\)"):
        load_model(str(tmp_path / "model"), dtype="float32")
    known = {"model.video_tower.embeddings.position_ids": torch.arange(5)[None]}
    save_file(weights | known, file, metadata={"format": "pt"})
    load_model(str(tmp_path / "model"), dtype="float32")


def test_the_commands(source: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from sharegptvideo.cli import app

    def run(*words: str) -> Any:
        return CliRunner().invoke(app, ["model", *words], env={"COLUMNS": "200"})

    towers, out = str(source / "towers.json"), str(tmp_path / "out")
    done = run("convert", str(source), "--to", out, "--towers", towers)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == out
    assert "a clip takes 16 positions" in done.stdout
    assert "inv_freq (2), position_ids (2)" in done.stderr
    again = run("convert", str(source), "--to", out, "--towers", towers)
    assert again.exit_code == 2
    assert again.stderr == f"error: {out}: is there already; pass another --to, or remove it\n"
    report = json.loads(run("info", out, "--json").stdout)
    assert (report["architecture"], report["frames"]) == ("llava_hound", 4)
    assert (report["clip_positions"], report["image_positions"]) == (16, 4)
    assert report["temporal_attention"] is True
    assert (
        report["parameters"]
        == json.loads(
            run("convert", str(source), "--to", f"{out}2", "--towers", towers, "--json").stdout
        )["parameters"]
    )
    assert "model convert" in run("info", str(source)).stdout
    assert run("info", str(tmp_path / "none")).exit_code == 2
