"""How the next token is chosen: the likeliest, or drawn with numbers that a seed fixes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from sharegptvideo.models.base import SamplingParams
from sharegptvideo.models.pixels import Frames

__all__ = ["choose", "clip_key", "uniforms"]


def clip_key(frames: Frames) -> bytes:
    """Hash the frames of a clip."""
    digest = hashlib.blake2b(np.ascontiguousarray(frames).data, digest_size=16)
    digest.update(str(frames.shape).encode())
    return digest.digest()


def uniforms(seed_texts: Sequence[str], params: SamplingParams) -> torch.Tensor | None:
    """Draw a number in [0, 1) per step and answer, from a stream of its own for each answer.

    Steps×(prompts·answers), float64, a prompt's answers side by side; None for greedy decoding.
    """
    if params.greedy:
        return None
    columns = []
    for seed_text in seed_texts:
        for number in range(params.n):
            text = f"{params.seed}\n{number}\n{seed_text}".encode()
            key = int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")
            columns.append(
                np.random.Generator(np.random.Philox(key=key)).random(params.max_new_tokens)
            )
    return torch.from_numpy(np.stack(columns, axis=1))


def choose(
    logits: torch.Tensor, params: SamplingParams, drawn: torch.Tensor | None
) -> torch.Tensor:
    """Choose the next token of each row: the likeliest, or the one where the drawn number falls.

    Args:
        logits: rows×vocabulary.
        drawn: a number in [0, 1) per row; None: take the likeliest.
    """
    if drawn is None:
        return logits.argmax(dim=-1)
    # float64: float32 cumulative sums over a vocabulary end away from 1.
    scaled = logits.double() / params.temperature
    # In the order of the logits, which is that of the probabilities: fewer bytes are sorted.
    order = logits.argsort(dim=-1, descending=True, stable=True)
    probabilities = scaled.softmax(dim=-1).gather(-1, order)
    if params.top_k is not None:
        probabilities[..., params.top_k :] = 0.0
        probabilities /= probabilities.sum(dim=-1, keepdim=True)
    total = probabilities.cumsum(dim=-1)
    # Nucleus: keep a token while the mass before it is under top_p (the first always stays).
    kept = torch.where(total - probabilities < params.top_p, probabilities, 0.0)
    total = kept.cumsum(dim=-1)
    target = drawn.to(total.device).unsqueeze(-1) * total[:, -1:]
    index = torch.searchsorted(total, target, right=True).clamp(max=logits.shape[-1] - 1)
    return order.gather(-1, index).squeeze(-1)
