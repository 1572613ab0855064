"""Loading refuses what transformers lets pass: weights that are missing, or without a place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sharegptvideo.errors import UserError
from sharegptvideo.models import build_tiny, load_model, load_tokenizer, open_model

FILE = "model.safetensors"


def _tiny(architecture: Any, out: Path) -> None:
    build_tiny(["What is it? It is red."] * 3, out, seed=0, size="tiny", architecture=architecture)


def _qwen(out: Path) -> None:
    """A model of the kind that comes with a processor, weights and config alone."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    kind: Any = Qwen2VLConfig
    config = kind(
        text_config={
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "vocab_size": 64,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3]},
        },
        vision_config={"depth": 1, "embed_dim": 32, "num_heads": 2, "hidden_size": 32},
    )
    model: Any = Qwen2VLForConditionalGeneration
    model(config).save_pretrained(out)


@pytest.fixture(scope="module", params=["video_llava", "llava_hound", "qwen2_vl"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("checkpoint") / request.param
    if request.param == "qwen2_vl":
        _qwen(out)
    else:
        _tiny(request.param, out)
    return out


@pytest.fixture
def changed(checkpoint: Path, tmp_path: Path) -> Any:
    """`changed({name: weight})`: a copy of the checkpoint with weights more."""

    def change(more: dict[str, torch.Tensor]) -> str:
        for file in checkpoint.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        weights = load_file(checkpoint / FILE) | more
        save_file(weights, tmp_path / FILE, metadata={"format": "pt"})
        return str(tmp_path)

    return change


def test_weights_without_a_place_are_an_error(checkpoint: Path, changed: Any) -> None:
    """It names the first of them and how many there are."""
    more = {f"lm_head.zone.{n}.weight": torch.ones(2) for n in (3, 1, 2)}
    path = changed(more)
    with pytest.raises(UserError) as caught:
        load_model(path, dtype="float32")
    assert str(caught.value) == (
        f"model {path}: 3 weights without a place in {checkpoint.name}, the first of them "
        "lm_head.zone.1.weight; a whole checkpoint is needed, with the config that it was saved "
        "with"
    )


def test_temporal_weights_are_not_dropped(changed: Any, checkpoint: Path) -> None:
    """transformers' conversion of Video-LLaVA dropped them; here layer 7 is in no tower."""
    name = "model.video_tower.encoder.layers.7.temporal_embedding"
    with pytest.raises(
        UserError, match=f"1 weight without a place in {checkpoint.name}, .*{name[6:]}"
    ):
        load_model(changed({name: torch.ones(1, 4, 32)}), dtype="float32")


def test_known_leftovers_are_none(changed: Any, checkpoint: Path) -> None:
    leftovers = {"model.language_model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2)}
    if checkpoint.name != "qwen2_vl":  # whose tower has no table of places
        leftovers["model.video_tower.embeddings.position_ids"] = torch.arange(5)[None]
    before = load_model(str(checkpoint), dtype="float32").state_dict()
    after = load_model(changed(leftovers), dtype="float32").state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())


@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16"])
def test_weights_go_to_the_device_from_their_files(checkpoint: Path, dtype: str) -> None:
    path = str(checkpoint)
    before = load_model(path, dtype=dtype).state_dict()
    after = load_model(path, dtype=dtype, device="cpu").state_dict()
    assert before.keys() == after.keys()
    for name, weight in before.items():
        assert weight.dtype == after[name].dtype
        assert torch.equal(weight, after[name]), name
    assert all(p.is_meta for p in load_model(path, dtype=dtype, device="meta").parameters())


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (
            {"model_type": "llava_llama", "mm_video_tower": "LanguageBind/LanguageBind_Video"},
            "is in the authors' layout; convert it first: sharegptvideo model convert {} --to DIR",
        ),
        (
            {"model_type": "llava_llama", "mm_vision_tower": "openai/clip-vit-large-patch14"},
            "names no mm_video_tower, so it is an image-only LLaVA; a model of clips is needed, "
            "such as ShareGPTVideo/LLaVA-Hound-DPO",
        ),
    ],
)
def test_the_authors_layout_is_explained(config: Any, line: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError) as caught:
        open_model(f"hf:{tmp_path}")
    assert str(caught.value) == f"model {tmp_path}: {line.format(tmp_path)}"


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A whole tiny model, to be spoilt."""
    _tiny("video_llava", tmp_path / "model")
    (tmp_path / "model" / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    return tmp_path / "model"


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_that_comes_with_a_model_is_not_run(whole: Path, file: str) -> None:
    content = json.loads((whole / file).read_text())
    other = {
        "config.json": {"model_type": "mine", "auto_map": {"AutoConfig": "code.C"}},
        "tokenizer_config.json": {
            "tokenizer_class": "Mine",
            "auto_map": {"AutoTokenizer": ["code.C", "code.C"]},
        },
    }
    (whole / file).write_text(json.dumps(content | other[file]))
    with pytest.raises(UserError, match="needs code that comes with it, which is never run here"):
        load_model(str(whole), dtype="auto") if file == "config.json" else load_tokenizer(
            str(whole)
        )
    assert not (whole.parent / "ran").exists()


class _Code:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return Path.touch, (self.place,)


def test_of_a_pickle_only_weights_are_loaded(whole: Path) -> None:
    weights: dict[str, Any] = load_file(whole / FILE)
    (whole / FILE).unlink()
    torch.save(weights, whole / "pytorch_model.bin")
    load_model(str(whole), dtype="auto")
    ran = whole.parent / "ran"
    torch.save({**weights, "x": _Code(ran)}, whole / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"cannot be read \(a pickle that is broken or holds more"):
        load_model(str(whole), dtype="auto")
    assert not ran.exists()


@pytest.mark.parametrize(
    "name", ["../{away}/model.safetensors", "{parent}/{away}/model.safetensors", 5]
)
def test_an_index_lists_files_beside_it(changed: Any, tmp_path: Path, name: Any) -> None:
    """Weights elsewhere on the disk are no part of a checkpoint that came from somewhere."""
    folder = Path(changed({}))
    away = tmp_path.with_name(f"{tmp_path.name}-away")
    away.mkdir()
    (folder / FILE).rename(away / FILE)
    name = name.format(away=away.name, parent=away.parent) if isinstance(name, str) else name
    listed = {"metadata": {}, "weight_map": dict.fromkeys(load_file(away / FILE), name)}
    (folder / f"{FILE}.index.json").write_text(json.dumps(listed))
    with pytest.raises(UserError, match=r"index\.json lists .*, which is not the name of a file"):
        load_model(str(folder), dtype="float32")
