"""Candidates a second: six answers to three questions a clip, against transformers' `generate`.

    OMP_NUM_THREADS=2 python tests/benchmarks/bench_candidates.py

Both draw at temperature 1, top-p 0.95, 32 new tokens behind a prompt with 2,056 video tokens, from
the same Video-LLaVA with random weights and the same arrays of frames: transformers by
`generate(num_return_sequences=6, do_sample=True)` for each question, ours in one call for the
three questions of a clip. Rounds alternate. On a CPU the model has about 25 million parameters,
float32; on a CUDA device it has the real one's shape (7B, bfloat16; --small for the other). Before
the rounds the greedy answers of both are compared. Peak memory is told above what is held before a
round. The ratio is told in seconds of the clock and, since other programs may share the machine, of
the processor too.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sharegptvideo.modeling import (
    ModelSize,
    VideoLanguageModel,
    VideoPixels,
    build_tiny,
    conversation,
    encode,
    expand_video,
    load_tokenizer,
)

GOAL = 5.0
FRAMES = 8
VIDEO_TOKENS = FRAMES * 257
QUESTIONS = (
    "What does the man in the white shirt do before he sits down at the table?",
    "How many people are there in the room?",
    "Why does the child run to the door at the end of the video?",
)
SMALL = ModelSize(
    frames=FRAMES,
    image=224,
    patch=14,
    vision_hidden=128,
    vision_layers=4,
    vision_heads=4,
    vision_mlp=512,
    text_hidden=512,
    text_layers=7,
    text_heads=8,
    text_mlp=1408,
    positions=4096,
    init_std=0.1,
    position_std=0.1,
)
VICUNA = {
    "vocab_size": 32064,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "head_dim": 128,
}
CLIP_LARGE = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "projection_dim": 768,
}


def open_model(folder: Path, device: torch.device, small: bool) -> VideoLanguageModel:
    """A random model; its answers never end before their last token."""
    build_tiny(QUESTIONS * 3, folder, seed=0, size=SMALL)
    if small:
        loaded = VideoLanguageModel.from_pretrained(str(folder), device=str(device))
        model: Any = loaded.model
    else:
        from transformers import VideoLlavaConfig, VideoLlavaForConditionalGeneration

        config = VideoLlavaConfig.from_pretrained(folder)
        config.text_config.update(VICUNA)
        config.vision_config.update(CLIP_LARGE)
        torch.manual_seed(0)
        torch.set_default_dtype(torch.bfloat16)
        with device:
            model = VideoLlavaForConditionalGeneration(config).eval()
        torch.set_default_dtype(torch.float32)
    model.generation_config.eos_token_id = [2**30]  # a token that is never chosen
    tokenizer, pixels = load_tokenizer(str(folder)), VideoPixels.from_pretrained(str(folder))
    return VideoLanguageModel(model, tokenizer, pixels)


def ours(model: VideoLanguageModel, clip: Any, **settings: Any) -> list[list[str]]:
    """Answers to all questions, the clip read once."""
    return model.generate([(clip, question) for question in QUESTIONS], **settings)


def theirs(model: VideoLanguageModel, clip: Any, **settings: Any) -> list[list[str]]:
    """Answers by transformers' `generate`, question by question."""
    answers = []
    device = model.model.device
    for question in QUESTIONS:
        ids, spoken = encode(model.tokenizer, conversation(question))
        ids, _ = expand_video(ids, spoken, model.model.config.video_token_id, VIDEO_TOKENS)
        given = torch.tensor([ids], device=device)
        generate: Any = model.model.generate
        output = generate(
            input_ids=given,
            attention_mask=torch.ones_like(given),
            pixel_values_videos=model.processor(clip)[None].to(device, model.model.dtype),
            pad_token_id=0,
            **settings,
        )
        texts = model.tokenizer.batch_decode(output[:, len(ids) :], skip_special_tokens=True)
        answers.append([text.strip() for text in texts])
    return answers


def watched(run: Callable[[], Any], device: torch.device) -> tuple[float, float, float]:
    """Seconds of clock and processor, peak of memory above what was held before in MiB."""
    gc.collect()
    before = held(device, reset=True)
    start = time.perf_counter(), time.process_time()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - start[0], time.process_time() - start[1]
    return *seconds, (held(device) - before) / 2**20


def held(device: torch.device, *, reset: bool = False) -> int:
    """The highest number of bytes held since the last reset; after one, those held now."""
    if device.type == "cuda":
        if reset:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        return int(torch.cuda.max_memory_allocated(device))
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def measure(rounds: int, k: int, tokens: int, device: torch.device, small: bool) -> dict[str, Any]:
    """Alternate between both, a round for each clip of noise."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    numbers = np.random.default_rng(0)
    clips = [
        numbers.integers(0, 256, (FRAMES, 240, 320, 3), dtype=np.uint8) for _ in range(rounds + 1)
    ]
    draw = {"do_sample": True, "num_return_sequences": k, "max_new_tokens": tokens}
    draw |= {"temperature": 1.0, "top_p": 0.95}
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        model = open_model(Path(folder), device, small)
        # Greedy answers, which also are the first calls, and those are nobody's speed.
        greedy = [
            [text for (text,) in answer(model, clips[0], max_new_tokens=tokens, do_sample=False)]
            for answer in (ours, theirs)
        ]
        taken: dict[str, list[tuple[float, float, float]]] = {"theirs": [], "ours": []}
        for clip in clips[1:]:
            taken["theirs"].append(
                watched(lambda clip=clip: theirs(model, clip, top_k=0, **draw), device)  # type: ignore[misc]  # its default is typed by the call
            )
            taken["ours"].append(watched(lambda clip=clip: ours(model, clip, **draw), device))  # type: ignore[misc]  # as above
    median = {
        name: [statistics.median(found) for found in zip(*each, strict=True)]
        for name, each in taken.items()
    }
    answers = k * len(QUESTIONS)
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "parameters_million": round(sum(p.numel() for p in model.model.parameters()) / 1e6, 1),
        "dtype": str(model.model.dtype).removeprefix("torch."),
        "video_tokens": VIDEO_TOKENS,
        "questions_a_clip": len(QUESTIONS),
        "answers_a_question": k,
        "new_tokens": tokens,
        "rounds": rounds,
        "transformers_answers_per_s": round(answers / median["theirs"][0], 3),
        "ours_answers_per_s": round(answers / median["ours"][0], 3),
        "ratio": round(median["theirs"][0] / median["ours"][0], 1),
        "ratio_by_processor_time": round(median["theirs"][1] / median["ours"][1], 1),
        "goal": GOAL,
        "transformers_peak_mib": round(median["theirs"][2]),
        "ours_peak_mib": round(median["ours"][2]),
        "greedy_answers_equal": f"{sum(a == b for a, b in zip(*greedy, strict=True))} of 3",
    }


def main() -> int:
    """Measure, print, and say by the exit code whether the goal is met."""
    parser = argparse.ArgumentParser(description="Candidates a second, against `generate`.")
    parser.add_argument("--rounds", type=int, default=3, help="clips, each answered by both")
    parser.add_argument("-k", type=int, default=6, help="answers a question")
    parser.add_argument("--tokens", type=int, default=32, help="new tokens of an answer")
    parser.add_argument("--device", help="as torch names it; default: CUDA where there is one")
    parser.add_argument("--small", action="store_true", help="the CPU's model on a GPU too")
    chosen = parser.parse_args()
    device = torch.device(chosen.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    small = chosen.small or device.type == "cpu"
    figures = measure(chosen.rounds, chosen.k, chosen.tokens, device, small)
    print(json.dumps(figures, indent=2))
    return 0 if figures["ratio"] >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
