"""Checkpoints in the authors' layout become llava_hound checkpoints, weight by weight."""

from __future__ import annotations

import json
import pickle
import random
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sharegptvideo.errors import UserError
from sharegptvideo.models import open_model
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
from tests.support.hub_server import HubServer

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


def logits_and_reference(
    model: Any, weights: dict[str, torch.Tensor], marks: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a model's logits about a clip and an image, and those of plain algebra, in float64.

    Args:
        weights: in the authors' names.
        marks: ids of the image's and of the clip's token.
    """
    image, video = marks
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
    expected = reference(ids, named, clip=clip, image=picture, marks=marks)
    return logits, expected


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
    logits, expected = logits_and_reference(model, weights, (image, video))
    known = VOCABULARY + len(ADDED)
    assert torch.allclose(logits[:, :known], expected, atol=1e-5)
    # The two added ids are never the likeliest: each has the mean of all logits.
    assert torch.allclose(
        logits[:, known:], expected.mean(-1, keepdim=True).expand(-1, 2), atol=1e-5
    )


def slow_ids(model: Any, text: str, legacy: bool = False) -> list[int]:
    """Ids by the slow tokenizer's rules, from sentencepiece alone: `<s>` in front.

    The text between special tokens goes to sentencepiece, which puts a space before it; unless
    `legacy`, that space is there for the beginning of the text only.
    """
    special = {"<s>": 1, "</s>": 2, **{mark: VOCABULARY + n for n, mark in enumerate(ADDED)}}
    unknown = len(model.encode("<unk>"))
    ids = [1]
    for number, piece in enumerate(re.split(f"({'|'.join(special)})", text)):
        if piece in special:
            ids.append(special[piece])
        elif legacy or number == 0:
            ids += model.encode(piece)
        else:  # behind "<unk>", whose own pieces are then taken off, no space is put before it
            ids += model.encode(f"<unk>{piece}")[unknown:] if piece else []
    return ids


def pieces(tokenizer: Any, model: Any, text: str, legacy: bool = False) -> list[int]:
    """The authors' way: the text on each side of a clip or image by itself, one `<s>` in front."""
    ids = [1]
    for piece in re.split("(<video>|<image>)", text):
        if piece in ("<video>", "<image>"):
            ids.append(tokenizer.convert_tokens_to_ids(piece))
        else:
            ids += slow_ids(model, piece, legacy)[1:]
    return ids


@pytest.mark.parametrize("legacy", [False, True, None])
def test_ids_are_those_of_the_slow_tokenizer(legacy: bool | None, tmp_path: Path) -> None:
    """Thousands of texts, special tokens in them; `legacy` left out is true, as it was then."""
    import sentencepiece
    from transformers import AutoTokenizer

    source = tmp_path / "source"
    write_authors(source)
    file = source / "tokenizer_config.json"
    settings = json.loads(file.read_text()) | {"legacy": legacy}
    if legacy is None:
        del settings["legacy"]
    file.write_text(json.dumps(settings))
    convert_checkpoint(source, tmp_path / "model", towers=source / "towers.json")
    slow = sentencepiece.SentencePieceProcessor(model_file=str(source / "tokenizer.model"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    draw = random.Random(0)
    letters = "abc  \n\t.,'éß漢字🙂01239ABC<>&"
    words = ["the video", "USER:", "ASSISTANT:", "moves", "  ", "\n", "12 34", "x" * 40]
    marks = ["<video>", "<image>", "</s>", *ADDED]
    for number in range(3000):
        text = "".join(
            draw.choice(words) + " " if draw.random() < 0.3 else draw.choice(letters)
            for _ in range(draw.randrange(1, 40))
        )
        if number % 2:
            text = f"{text}{draw.choice(marks)}\n{text[::-1]}{draw.choice(marks)}{text}"
        expected = pieces(tokenizer, slow, text, legacy is not False)
        assert tokenizer(text)["input_ids"] == expected, repr(text)
    for text in ["", " ", "<im_start>red", "</s></s>", "<video>", "a<video></s>b", "a</s> b"]:
        expected = pieces(tokenizer, slow, text, legacy is not False)
        assert tokenizer(text)["input_ids"] == expected, repr(text)
    assert tokenizer.convert_tokens_to_ids(list(ADDED)) == [
        VOCABULARY,
        VOCABULARY + 1,
        VOCABULARY + 2,
    ]
    assert tokenizer.decode(slow.encode("A red square moves.")) == "A red square moves."


TALKS: list[tuple[list[tuple[str, str]], str]] = [
    ([("What moves?", "A square.")], "W hat ▁mo ves ? {a} ▁A ▁square . </s>"),
    ([("Is it 7?", "")], "I s ▁ i t ▁ <0x37> ? {a} ▁ </s>"),
    # Spaces and lines stay as they are written, on both sides of the clip and of the answer.
    ([("  What?  ", " two")], "▁ ▁W hat ? ▁ ▁ {a} ▁ ▁t wo </s>"),
    ([("\nWhat?", "two\n")], "<0x0A> W hat ? {a} ▁t wo <0x0A> </s>"),
    # What follows the end of an answer has no space before it.
    (
        [("What?", "red."), ("the?", "two")],
        "W hat ? {a} ▁ red . </s> US ER : ▁the ? {a} ▁t wo </s>",
    ),
]


@pytest.mark.parametrize(("turns", "tokens"), TALKS, ids=lambda case: str(case)[:20])
def test_a_conversation_has_the_authors_tokens(
    turns: list[tuple[str, str]], tokens: str, converted: Path
) -> None:
    """Written by hand: the texts before and after the clip are encoded by themselves."""
    from sharegptvideo.models.prompts import conversation, encode, template_with_system

    tokenizer = load(converted)[1]
    tokenizer.chat_template = template_with_system("the red.")
    ids, _ = encode(tokenizer, [one for turn in turns for one in conversation(*turn)])
    begin = "<s> ▁the ▁ red . ▁US ER : ▁ <video> ▁ <0x0A> "
    assert tokenizer.convert_ids_to_tokens(ids) == (
        (begin + tokens).replace("{a}", "▁A SS IST ANT :").split()
    )


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


@pytest.mark.parametrize(
    ("field", "value", "cause"),
    [("hidden_size", "big", "'hidden_size' expected int, got str"), ("hidden_act", "gleu", "gleu")],
)
def test_a_towers_config_that_makes_no_model(
    field: str, value: str, cause: str, tmp_path: Path
) -> None:
    write_authors(tmp_path / "a")
    wrong = {kind: tower | {field: value} for kind, tower in TOWERS.items()}
    line = refused(tmp_path / "a", tmp_path / "out", wrong)
    assert "its config and those of its towers make no model" in line
    assert cause in line


def test_an_index_without_a_map_is_named(tmp_path: Path) -> None:
    write_authors(tmp_path / "a", shards=3)
    (tmp_path / "a" / "model.safetensors.index.json").write_text("[]")
    assert "index.json has no weight_map" in refused(tmp_path / "a", tmp_path / "out")


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
        (
            {
                "model_type": "llava_llama",
                "mm_video_tower": "v",
                "mm_vision_select_feature": "cls_patch",
            },
            "mm_vision_select_feature is 'cls_patch'",
        ),
        ({"model_type": "llava_llama"}, "names no mm_video_tower, so it is an image-only LLaVA"),
        ({"model_type": "qwen3_vl"}, "model_type 'qwen3_vl' is not the authors' layout"),
        ({"model_type": "llava_hound"}, "is a llava_hound checkpoint already"),
    ],
)
def test_other_families_are_named(config: Any, line: str, tmp_path: Path) -> None:
    write_authors(tmp_path / "a")
    (tmp_path / "a" / "config.json").write_text(json.dumps(config))
    assert line in refused(tmp_path / "a", tmp_path / "out")


def old_config(tower: dict[str, Any]) -> bytes:
    """As LanguageBind's repositories have it: the sizes nested, and all that was dumped then."""
    dumped = {
        "_name_or_path": "",
        "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
        "label2id": {"LABEL_0": 0, "LABEL_1": 1},
        "lora_r": 2,
        "max_length": 20,
        "model_type": "clip_vision_model",
        "torch_dtype": None,
        "transformers_version": "4.30.2",
        "video_decode_backend": "decord",
    }
    config = {"model_type": "LanguageBind", "projection_dim": 768, "vision_config": dumped | tower}
    return json.dumps(config).encode()


def test_checkpoint_and_towers_come_from_the_hub(
    source: Path, converted: Path, hub_server: HubServer, tmp_path: Path
) -> None:
    """By their ids, from a server on loopback: the same model as from folders."""
    kept = {path.name: path.read_bytes() for path in source.iterdir() if path.name != "towers.json"}
    name = "ShareGPTVideo/LLaVA-Hound-DPO"
    hub_server.add_repo(name, kept, repo_type="model")
    with pytest.raises(UserError, match=f"sharegptvideo model convert {name} --to DIR"):
        open_model(f"hf:{name}")
    with pytest.raises(UserError, match=r"the sizes of its image tower .* pass them with --towers"):
        convert_checkpoint(name, tmp_path / "out")
    assert not any(path.endswith(".safetensors") for _, path in hub_server.requests)
    for kind, repo in (("image", "LanguageBind_Image"), ("video", "LanguageBind_Video_merge")):
        files = {"config.json": old_config(TOWERS[kind]), "pytorch_model.bin": b"not asked for"}
        hub_server.add_repo(f"LanguageBind/{repo}", files, repo_type="model")
    convert_checkpoint(name, tmp_path / "out")
    assert not any(path.endswith("pytorch_model.bin") for _, path in hub_server.requests)
    for file in ("model.safetensors", "tokenizer.json", "processor_config.json"):
        assert (tmp_path / "out" / file).read_bytes() == (converted / file).read_bytes(), file
    again, before = (
        json.loads((folder / "config.json").read_text()) for folder in (tmp_path / "out", converted)
    )
    assert again == before


def test_a_conversion_that_is_killed_leaves_nothing_that_counts(
    source: Path, converted: Path, tmp_path: Path, synced: list[Path]
) -> None:
    """Killed while it writes: no folder `--to`; the same command again makes it, whole."""
    code = (
        "import os, signal\nfrom pathlib import Path\n"
        "from sharegptvideo.models.convert import convert_checkpoint\n"
        "die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"convert_checkpoint({str(source)!r}, Path('model'), towers=Path({str(source)!r})"
        " / 'towers.json', progress=die)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    assert done.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == [".model.unfinished"]
    out = tmp_path / "model"
    convert_checkpoint(source, out, towers=source / "towers.json")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert synced[-1] == tmp_path  # the new folder's name is on the disk
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in converted.iterdir()
    }


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
    assert run("info", str(source)).stdout.splitlines() == [
        "architecture  llava_llama, the authors' layout",
        "taken by      model convert, and all commands after that",
    ]
    assert run("info", str(tmp_path / "none")).exit_code == 2
