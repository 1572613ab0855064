"""What a model weighs and computes, from its shapes alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from sharegptvideo.training.families import Family
from sharegptvideo.training.recipe import Recipe

__all__ = ["ModelShape", "shape_of"]

_TOWERS = ("video_tower", "vision_tower", "visual")
_PROJECTORS = ("multi_modal_projector",)


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of a model in training.

    Attributes:
        parameters: all; trainable: those that learn, `adapters` of them LoRA's beside the model.
        bytes_a_weight: of the model's own weights as they are loaded.
        layers, hidden, heads: of the language model; heads: query heads × their size.
        keys: key and value heads × their size; mlp: the width between an MLP's layers.
        text: weights of the language model's layers that every token is multiplied with.
        head: of the output layer; vocabulary: its rows.
        tower, projector: weights of what clips go through.
        tower_layers, tower_width: of the vision tower.
        tower_positions: its positions for one of the language model's; tower_span: how many
            positions of it see each other (a frame's).
        language_learns, tower_learns: whether gradients of their own weights are computed.
    """

    kind: str
    parameters: int
    trainable: int
    adapters: int
    bytes_a_weight: int
    layers: int
    hidden: int
    heads: int
    keys: int
    mlp: int
    text: int
    head: int
    vocabulary: int
    tower: int
    projector: int
    tower_layers: int
    tower_width: int
    tower_positions: float
    tower_span: float
    language_learns: bool
    tower_learns: bool


def shape_of(recipe: Recipe, family: Family) -> ModelShape:
    """Sizes of a family's model, which may be on the meta device; freezes as the recipe says."""
    model: Any = family.model
    family.freeze(recipe.freeze)
    inner, config = model.model, model.config
    text: Any = config.get_text_config()
    language = inner.language_model
    heads = text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // heads
    towers = [part for name, part in inner.named_children() if name in _TOWERS]
    projectors = [part for name, part in inner.named_children() if name in _PROJECTORS]
    adapters = _adapters(recipe, language)
    own = sum(w.numel() for w in model.parameters() if w.requires_grad)
    parameters = sum(w.numel() for w in model.parameters())
    layers, width, positions, span = _tower(config, recipe.frames)
    return ModelShape(
        kind=str(config.model_type),
        parameters=parameters + adapters,
        trainable=adapters or own,
        adapters=adapters,
        bytes_a_weight=family.weights_dtype(recipe).itemsize,
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        heads=heads * size,
        keys=(getattr(text, "num_key_value_heads", None) or heads) * size,
        mlp=text.intermediate_size,
        text=_linear(language),
        head=_linear(model.get_output_embeddings()),
        vocabulary=text.vocab_size,
        tower=sum(w.numel() for part in towers for w in part.parameters()),
        projector=sum(w.numel() for part in projectors for w in part.parameters()),
        tower_layers=layers,
        tower_width=width,
        tower_positions=positions,
        tower_span=span,
        language_learns=not adapters and any(w.requires_grad for w in language.parameters()),
        tower_learns=not adapters
        and any(w.requires_grad for part in towers for w in part.parameters()),
    )


def _linear(module: Any) -> int:
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, torch.nn.Linear))


def _adapters(recipe: Recipe, language: Any) -> int:
    """LoRA's weights: rank × (inputs + outputs) of each target (Hu et al. 2021, section 4)."""
    if recipe.lora is None:
        return 0
    return sum(
        recipe.lora.rank * (module.in_features + module.out_features)
        for name, module in language.named_modules()
        if isinstance(module, torch.nn.Linear) and name.rpartition(".")[2] in recipe.lora.targets
    )


def _tower(config: Any, frames: int) -> tuple[int, int, float, float]:
    """Layers, width, positions for one of the language model's, positions that see each other."""
    vision = config.vision_config
    if hasattr(vision, "depth"):  # Qwen-VL: `merge`² patches make a position; frames see alone
        merge = vision.spatial_merge_size
        return vision.depth, vision.hidden_size, float(merge**2), 0.0
    patches = (vision.image_size // vision.patch_size) ** 2
    if config.model_type == "video_llava":
        return vision.num_hidden_layers, vision.hidden_size, 1.0, patches + 1.0
    pooled = (-(-int(patches**0.5) // 2)) ** 2  # LLaVA-OneVision halves both sides of a frame
    ratio = patches * frames / (pooled * frames + 1)
    return vision.num_hidden_layers, vision.hidden_size, ratio, float(patches)
