"""How likely answers are, whole, by plain rows: what is compared where the last bit differs.

In bfloat16 two right ways may take different tokens where two are nearly as likely. Each answer
is then scored by plain rows of the same weights in float32, without a cache and without sharing.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from sharegptvideo.models import (
    Request,
    SamplingParams,
    VideoLlavaModel,
    conversation,
    encode,
    expand_video,
    video_token_count,
)
from sharegptvideo.models.pixels import Frames

__all__ = ["compare_answers", "log_probability", "plain_answer", "plain_ids", "token_ids"]


def token_ids(
    model: VideoLlavaModel, requests: Sequence[Request], params: SamplingParams
) -> list[list[list[int]]]:
    """Token ids of the answers that `model.generate` gives, by request; no closing tokens."""
    with _ids_as_texts(model):
        answers = list(model.generate(requests, params))
    assert not any(answer.error for answer in answers)
    return [[json.loads(text) for text in answer.texts] for answer in answers]


@contextlib.contextmanager
def _ids_as_texts(model: VideoLlavaModel) -> Iterator[None]:
    tokenizer = model.tokenizer
    tokenizer.batch_decode = lambda rows, **_: [json.dumps(list(row)) for row in rows]
    try:
        yield
    finally:
        del tokenizer.batch_decode


def _inputs(model: VideoLlavaModel, frames: Frames, question: str) -> dict[str, Any]:
    config, device = model.model.config, model.model.device
    ids, mask = encode(model.tokenizer, conversation(question))
    count = video_token_count(config, len(frames))
    ids, _ = expand_video(ids, mask, config.video_token_id, count)
    pixels = model.pixels(frames)[None].to(device, model.model.dtype)
    return {"input_ids": torch.tensor([ids], device=device), "pixel_values_videos": pixels}


def plain_ids(
    model: VideoLlavaModel, frames: Frames, question: str, steps: int, **settings: Any
) -> list[int]:
    """Token ids of the greedy answer by transformers' own `generate`, a row of its own.

    The closing token, where it came, is the last; `settings` are those of `generate`.
    """
    inputs = _inputs(model, frames, question)
    output = model.model.generate(
        **inputs,
        attention_mask=torch.ones_like(inputs["input_ids"]),
        do_sample=False,
        max_new_tokens=steps,
        **settings,
    )
    ids: list[int] = output[0, inputs["input_ids"].shape[1] :].tolist()
    return ids


@torch.inference_mode()
def plain_answer(model: VideoLlavaModel, request: Request, tokens: int) -> list[int]:
    """Token ids of `plain_ids` without the closing token."""
    assert request.frames is not None
    ids = plain_ids(model, request.frames, request.prompt, tokens, pad_token_id=0)
    stop = model.model.generation_config.eos_token_id
    ends = set(stop) if isinstance(stop, list) else {stop}
    return ids[:-1] if ids[-1] in ends else ids


@torch.inference_mode()
def log_probability(model: VideoLlavaModel, request: Request, answer: Sequence[int]) -> float:
    """Sum of the log-probabilities of an answer's tokens after its prompt, in one plain row."""
    if not answer:
        return 0.0
    assert request.frames is not None
    inputs = _inputs(model, request.frames, request.prompt)
    length = inputs["input_ids"].shape[1]
    new = torch.tensor([list(answer)], device=model.model.device)
    inputs["input_ids"] = torch.cat([inputs["input_ids"], new], dim=1)
    logits = model.model(**inputs).logits[0, length - 1 : -1].double()
    chosen = logits.log_softmax(-1).gather(-1, new[0, :, None])
    return float(chosen.sum())


def compare_answers(
    exact: VideoLlavaModel,
    requests: Sequence[Request],
    ours: Sequence[Sequence[int]],
    plain: Sequence[Sequence[int]],
) -> dict[str, Any]:
    """Compare two ways' greedy answers by what `exact`, in float32, makes of them.

    Returns:
        n; equal (answers token for token the same); for each way the mean log-probability a token;
        difference, ours less plain, with its standard error over the requests; and as_likely:
        whether ours is no more than two of these below.
    """
    scores = [
        [log_probability(exact, request, ids) / max(1, len(ids)) for ids in pair]
        for request, *pair in zip(requests, ours, plain, strict=True)
    ]
    mine, theirs = torch.tensor(scores, dtype=torch.float64).T
    gap = mine - theirs
    error = float(gap.std() / len(gap) ** 0.5) if len(gap) > 1 else 0.0
    return {
        "n": len(gap),
        "equal": sum(list(a) == list(b) for a, b in zip(ours, plain, strict=True)),
        "ours": float(mine.mean()),
        "plain": float(theirs.mean()),
        "difference": float(gap.mean()),
        "standard_error": error,
        "as_likely": float(gap.mean()) >= -2 * error - 1e-9,
    }
