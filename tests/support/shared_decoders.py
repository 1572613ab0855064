"""Small random decoders of text that share clips, and rows of several answers for them."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from trl.trainer.utils import add_fused_lm_head

from sharegptvideo.training.sharing.attention import Attention
from sharegptvideo.training.sharing.forward import share_clips
from sharegptvideo.training.sharing.layout import SharedLayout, shared_layout

__all__ = ["DECODERS", "FIELDS", "Rows", "decoders", "plain_decoder", "relative", "rows_of"]

FIELDS = ("log_probs", "entropy", "mean_logits", "is_top1")
DECODERS = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}


@dataclass
class Rows:
    inputs: dict[str, Any]
    layout: SharedLayout


def rows_of(clips: list[tuple[int, tuple[int, ...]]], seed: int = 1, question: int = 0) -> Rows:
    """Random rows; `question` tokens of their own stand between the beginning and an answer."""
    draw = torch.Generator().manual_seed(seed)

    def ids(count: int) -> list[int]:
        return torch.randint(1, 97, (count,), generator=draw).tolist()  # type: ignore[no-any-return]

    tokens: list[list[int]] = []
    assistant_masks: list[list[bool]] = []
    groups: list[list[int]] = []
    for begin, answers in clips:
        common = ids(begin)
        groups.append(list(range(len(tokens), len(tokens) + len(answers))))
        for answer in answers:
            tokens.append(common + ids(question) + ids(answer))
            assistant_masks.append([False] * (begin + question) + [True] * answer)
    width = max(map(len, tokens))
    padded = torch.tensor([row + [0] * (width - len(row)) for row in tokens])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in tokens])
    said = torch.tensor(
        [[int(x) for x in row] + [0] * (width - len(row)) for row in assistant_masks]
    )
    inputs = {
        "input_ids": padded,
        "attention_mask": mask,
        "labels": padded.masked_fill(said == 0, -100),
        "fused_lm_head": True,
    }
    return Rows(inputs, shared_layout(tokens, assistant_masks, groups, width))


def plain_decoder(name: str) -> Any:
    """A random model with grouped heads, as transformers has it."""
    config, kind = DECODERS[name]
    torch.manual_seed(0)
    return kind(
        config(
            vocab_size=97,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            max_position_embeddings=512,
        )
    )


def decoders(name: str, way: Attention) -> tuple[Any, Any]:
    """The same random model twice: as it is, and sharing."""
    plain = plain_decoder(name)
    sharing = copy.deepcopy(plain)
    for model in (plain, sharing):
        add_fused_lm_head(model, outputs=FIELDS)
    share_clips(sharing, way)
    return plain, sharing


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float(((found - expected).abs().max() / expected.abs().max()).detach())
