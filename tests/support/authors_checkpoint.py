"""A tiny checkpoint in the authors' layout: `llava_llama`, towers inside, `tokenizer.model`."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from sharegptvideo._io import write_json

__all__ = [
    "ADDED",
    "SEVEN_B",
    "TOWER",
    "TOWERS",
    "VOCABULARY",
    "AuthorsSize",
    "authors_shapes",
    "authors_weights",
    "train_sentencepiece",
    "write_authors",
    "write_parts",
    "write_rest",
]

VOCABULARY = 400
ADDED = ("<im_patch>", "<im_start>", "<im_end>")
TOWER = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 14,
    "projection_dim": 32,
    "hidden_act": "quick_gelu",
}
TOWERS = {"image": TOWER, "video": TOWER | {"add_time_attn": True, "num_frames": 4}}
TEXTS = (
    "A chat between a curious user and an artificial intelligence assistant.",
    "The assistant gives helpful, detailed, and polite answers to the user's questions.",
    "What happens in the video, and in what order? A red square moves left, then turns blue.",
    "How many objects are there? There are two: a circle and a square. USER: ASSISTANT:",
)


def train_sentencepiece(out: Path, pieces: int = VOCABULARY) -> None:
    """Write a BPE model with bytes as Llama's is: `<unk>`, `<s>`, `</s>`, a space in front.

    What `pieces` has beyond `VOCABULARY` are pieces that no text is made of.
    """
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 5),
        model_writer=model,
        model_type="bpe",
        vocab_size=VOCABULARY,
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=True,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        hard_vocab_limit=True,
        minloglevel=2,
    )
    from sentencepiece import sentencepiece_model_pb2

    whole = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    for number in range(VOCABULARY, pieces):
        whole.pieces.add(piece=f"\ue000{number}", score=-float(number))
    out.write_bytes(whole.SerializeToString())


@dataclass(frozen=True, slots=True)
class AuthorsSize:
    """Sizes of a checkpoint: those of the tests, or with `SEVEN_B` the real ones."""

    width: int = 32
    tower_mlp: int = 64
    tower_layers: int = 3
    image: int = 28
    frames: int = 4
    hidden: int = 48
    mlp: int = 96
    layers: int = 2
    heads: int = 4
    vocabulary: int = VOCABULARY + len(ADDED)

    @property
    def tower(self) -> dict[str, Any]:
        """CLIP's fields."""
        return TOWER | {
            "hidden_size": self.width,
            "intermediate_size": self.tower_mlp,
            "num_hidden_layers": self.tower_layers,
            "num_attention_heads": max(self.width // 64, 4),
            "image_size": self.image,
        }


SEVEN_B = AuthorsSize(1024, 4096, 24, 224, 8, 4096, 11008, 32, 32, 32_003)


def authors_shapes(size: AuthorsSize) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors under the authors' names, `position_ids` among them."""
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, rows: int, columns: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (rows, columns), (rows,)

    def norm(name: str, width: int) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)

    width, mlp, hidden = size.width, size.tower_mlp, size.hidden
    places = (size.image // 14) ** 2 + 1
    for kind in ("image", "video"):
        at = f"model.{kind}_tower.{kind}_tower"
        shapes[f"{at}.embeddings.class_embedding"] = (width,)
        shapes[f"{at}.embeddings.patch_embedding.weight"] = (width, 3, 14, 14)
        shapes[f"{at}.embeddings.position_embedding.weight"] = (places, width)
        shapes[f"{at}.embeddings.position_ids"] = (1, places)
        norm(f"{at}.pre_layrnorm", width)
        norm(f"{at}.post_layernorm", width)
        for layer in range(size.tower_layers):
            here = f"{at}.encoder.layers.{layer}"
            for attention in ["self_attn"] + ["temporal_attn"] * (kind == "video"):
                for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                    linear(f"{here}.{attention}.{part}", width, width)
            norm(f"{here}.layer_norm1", width)
            norm(f"{here}.layer_norm2", width)
            linear(f"{here}.mlp.fc1", mlp, width)
            linear(f"{here}.mlp.fc2", width, mlp)
            if kind == "video":
                shapes[f"{here}.temporal_embedding"] = (1, size.frames, width)
                norm(f"{here}.temporal_layer_norm1", width)
    linear("model.mm_projector.0", hidden, width)
    linear("model.mm_projector.2", hidden, hidden)
    shapes["model.embed_tokens.weight"] = shapes["lm_head.weight"] = (size.vocabulary, hidden)
    shapes["model.norm.weight"] = (hidden,)
    for layer in range(size.layers):
        here = f"model.layers.{layer}"
        for part in "qkvo":
            shapes[f"{here}.self_attn.{part}_proj.weight"] = (hidden, hidden)
        shapes[f"{here}.mlp.gate_proj.weight"] = (size.mlp, hidden)
        shapes[f"{here}.mlp.up_proj.weight"] = (size.mlp, hidden)
        shapes[f"{here}.mlp.down_proj.weight"] = (hidden, size.mlp)
        shapes[f"{here}.input_layernorm.weight"] = (hidden,)
        shapes[f"{here}.post_attention_layernorm.weight"] = (hidden,)
        shapes[f"{here}.self_attn.rotary_emb.inv_freq"] = (hidden // size.heads // 2,)
    return shapes


def authors_weights(seed: int = 0) -> dict[str, torch.Tensor]:
    """Draw all weights of the tests' size under the authors' names."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in authors_shapes(AuthorsSize()).items():
        if name.endswith("position_ids"):
            weights[name] = torch.arange(shape[1])[None]
        else:
            weights[name] = torch.randn(*shape, generator=generator) * 0.3
    return weights


def write_authors(
    out: Path, *, shards: int = 2, binary: bool = False, weights: Any = None
) -> dict[str, torch.Tensor]:
    """Write the checkpoint to `out` in so many shards; returns its weights."""
    weights = authors_weights() if weights is None else weights
    write_rest(out, AuthorsSize())
    _write_shards(out, weights, shards, binary=binary)
    return weights


def write_parts(out: Path, *, binary: bool = True) -> dict[str, torch.Tensor]:
    """Write what `authors_weights` is made of as the four parts; returns it under its names.

    OUT/language is a Llama without the added tokens, OUT/image_tower and OUT/video_tower hold a
    CLIP each, with a text half, and OUT/projector has `mm_projector.bin`.
    """
    weights = authors_weights()
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = weights[name][:VOCABULARY].clone()
    language = out / "language"
    language.mkdir(parents=True)
    about = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    write_json(language / "config.json", _llama(AuthorsSize()) | about | {"vocab_size": VOCABULARY})
    _write_tokenizer(language, VOCABULARY)
    parts = {name: w for name, w in weights.items() if "tower" not in name and "mm_" not in name}
    _write_shards(language, parts, 2, binary=binary)
    for kind in ("image", "video"):
        tower, at = out / f"{kind}_tower", f"model.{kind}_tower.{kind}_tower."
        tower.mkdir()
        vision = TOWERS[kind] | {"model_type": "clip_vision_model", "lora_r": 0}
        text = {"hidden_size": 8, "num_hidden_layers": 1}
        name = f"LanguageBind{kind.title()}"
        whole = {"model_type": name, "vision_config": vision, "text_config": text}
        write_json(tower / "config.json", whole)
        clip = {
            f"vision_model.{name.removeprefix(at)}": weight
            for name, weight in weights.items()
            if name.startswith(at)
        }
        clip |= {
            "logit_scale": torch.tensor(2.6),
            "text_projection.weight": torch.ones(32, 8),
            "visual_projection.weight": torch.ones(32, 32),
            "text_model.embeddings.position_ids": torch.arange(7)[None],
            "text_model.final_layer_norm.weight": torch.ones(8),
        }
        _write_shards(tower, clip, 1, binary=binary)
    (out / "projector").mkdir()
    projector = {name: weight for name, weight in weights.items() if "mm_projector" in name}
    torch.save(projector, out / "projector" / "mm_projector.bin")
    return weights


def _write_shards(
    out: Path, weights: dict[str, torch.Tensor], shards: int, *, binary: bool
) -> None:
    names = sorted(weights)
    index = {}
    kind, suffix = ("pytorch_model", "bin") if binary else ("model", "safetensors")
    for number in range(shards):
        file = f"{kind}-{number + 1:05d}-of-{shards:05d}.{suffix}"
        if shards == 1:
            file = f"{kind}.{suffix}"
        part = {name: weights[name] for name in names[number::shards]}
        if binary:
            torch.save(part, out / file)
        else:
            save_file(part, out / file, metadata={"format": "pt"})
        index |= dict.fromkeys(part, file)
    if shards > 1:
        write_json(out / f"{kind}.{suffix}.index.json", {"metadata": {}, "weight_map": index})


def write_rest(out: Path, size: AuthorsSize) -> None:
    """Write all but the weights: config, tokenizer, and the towers' sizes in towers.json."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(
        out / "config.json",
        _llama(size)
        | {
            "architectures": ["LlavaLlamaForCausalLM"],
            "model_type": "llava_llama",
            "mm_image_tower": "LanguageBind/LanguageBind_Image",
            "mm_video_tower": "LanguageBind/LanguageBind_Video_merge",
            "mm_projector_type": "mlp2x_gelu",
            "mm_hidden_size": size.width,
            "mm_vision_select_layer": -2,
            "mm_vision_select_feature": "patch",
            "vocab_size": size.vocabulary,
        },
    )
    pieces = size.vocabulary - len(ADDED)
    _write_tokenizer(out, pieces)
    write_json(out / "added_tokens.json", {t: pieces + n for n, t in enumerate(ADDED)})
    video = size.tower | {"add_time_attn": True, "num_frames": size.frames}
    write_json(out / "towers.json", {"image": size.tower, "video": video})


def _llama(size: AuthorsSize) -> dict[str, Any]:
    return {
        "hidden_size": size.hidden,
        "intermediate_size": size.mlp,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.heads,
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }


def _write_tokenizer(out: Path, pieces: int) -> None:
    train_sentencepiece(out / "tokenizer.model", pieces)
    write_json(
        out / "special_tokens_map.json",
        {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"},
    )
    write_json(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "LlamaTokenizer",
            "add_bos_token": True,
            "add_eos_token": False,
            "legacy": False,
            "model_max_length": 2048,
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "pad_token": "<unk>",
            "padding_side": "right",
        },
    )
