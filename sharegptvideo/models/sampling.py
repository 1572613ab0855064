"""How the next token is chosen: the likeliest, or drawn with numbers that a seed fixes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sharegptvideo.errors import UserError

__all__ = ["Decoding", "choose", "uniforms"]


@dataclass(frozen=True, slots=True)
class Decoding:
    """Settings of `VideoLanguageModel.generate`, which explains them."""

    max_new_tokens: int
    do_sample: bool
    temperature: float
    top_p: float
    answers: int
    seed: int

    def check(self) -> None:
        """Raise a UserError for a setting out of range."""
        if self.do_sample and not (self.temperature > 0 and 0 < self.top_p <= 1):
            raise UserError(
                f"sampling needs temperature > 0 and 0 < top_p <= 1, not "
                f"{self.temperature} and {self.top_p}"
            )
        if self.max_new_tokens < 1 or self.answers < 1:
            raise UserError("max_new_tokens and num_return_sequences must be at least 1")


def uniforms(seed_texts: Sequence[str], decoding: Decoding) -> torch.Tensor | None:
    """One number in [0, 1) per step and answer, from a stream of its own for each answer.

    Steps×(prompts·answers), float64, a prompt's answers side by side; None for greedy decoding.
    """
    if not decoding.do_sample:
        return None
    columns = []
    for seed_text in seed_texts:
        for number in range(decoding.answers):
            text = f"{decoding.seed}\n{number}\n{seed_text}".encode()
            key = int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")
            columns.append(
                np.random.Generator(np.random.Philox(key=key)).random(decoding.max_new_tokens)
            )
    return torch.from_numpy(np.stack(columns, axis=1))


def choose(logits: torch.Tensor, decoding: Decoding, drawn: torch.Tensor | None) -> torch.Tensor:
    """The next token of each row: the likeliest, or the one where the drawn number falls.

    Args:
        logits: rows×vocabulary.
        drawn: a number in [0, 1) per row; None: take the likeliest.
    """
    if drawn is None:
        return logits.argmax(dim=-1)
    # float64: float32 cumulative sums over a vocabulary end away from 1.
    scaled = logits.double() / decoding.temperature
    probabilities, order = scaled.softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    total = probabilities.cumsum(dim=-1)
    # Nucleus: keep a token while the mass before it is under top_p (the first always stays).
    kept = torch.where(total - probabilities < decoding.top_p, probabilities, 0.0)
    total = kept.cumsum(dim=-1)
    target = drawn.to(total.device).unsqueeze(-1) * total[:, -1:]
    index = torch.searchsorted(total, target, right=True).clamp(max=logits.shape[-1] - 1)
    return order.gather(-1, index).squeeze(-1)
