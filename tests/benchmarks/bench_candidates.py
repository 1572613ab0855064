"""Candidates a second: six answers to three questions a clip, against transformers' `generate`.

    OMP_NUM_THREADS=2 python tests/benchmarks/bench_candidates.py

Both draw at temperature 1, top-p 0.95, 32 new tokens behind a prompt with 2,056 video tokens, from
the same Video-LLaVA with random weights and the same arrays of frames: transformers (`theirs`) by
`generate(num_return_sequences=6, do_sample=True)` for each question, `ours` in one call for the
three questions of a clip. Each runs in a process of its own, a round for each clip. On a CPU the
language model has about 20 million parameters, float32; on a CUDA device the real one's shape (7B,
bfloat16).

Prints a line of JSON for each as it ends: seconds a round, answers a second, peak memory of the
rounds with the model in it, the greedy answers of before the rounds, the spread of logits. Then a
line that compares: the ratio in seconds of the clock and, since other programs may share the
machine, of the processor; and how many greedy answers are equal.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
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
from tests.support.child_runs import Peak, print_line, run_ways
from tests.support.training_shapes import (
    SHAPES,
    default_shape,
    device_name,
    open_shape,
    spread,
    timed,
)

GOAL = 5.0
FRAMES = 8
QUESTIONS = (
    "What does the man in the white shirt do before he sits down at the table?",
    "How many people are there in the room?",
    "Why does the child run to the door at the end of the video?",
)
WAYS = ["theirs", "ours"]


def open_model(folder: Path, options: Any) -> VideoLlavaModel:
    """A random model; its answers never end before their last token."""
    model = open_shape(options.shape, folder, device=options.device, layers=options.layers).eval()
    model.generation_config.eos_token_id = [2**30]  # a token that is never chosen
    return VideoLlavaModel(str(folder), model=model)


def ours(
    model: VideoLlavaModel,
    clip: Any,
    params: SamplingParams,
    questions: Sequence[str] = QUESTIONS,
) -> list[list[str]]:
    """Answers to all questions, the clip read once."""
    requests = [Request(question, clip) for question in questions]
    return [[*answer.texts] for answer in model.generate(requests, params)]


def plain_inputs(model: VideoLlavaModel, question: str, clip: Any) -> tuple[list[int], Any]:
    """The ids of a prompt, a place for each token of the clip, and the clip's pixels."""
    ids, assistant_mask = encode(model.tokenizer, conversation(question))
    config = model.model.config
    count = video_token_count(config, FRAMES)
    ids, _ = expand_video(ids, assistant_mask, config.video_token_id, count)
    return ids, model.pixels(clip)[None].to(model.model.device, model.model.dtype)


def theirs(
    model: VideoLlavaModel,
    clip: Any,
    params: SamplingParams,
    questions: Sequence[str] = QUESTIONS,
) -> list[list[str]]:
    """Answers by transformers' `generate`, question by question."""
    answers = []
    settings: dict[str, Any] = {"do_sample": False, "max_new_tokens": params.max_new_tokens}
    if not params.greedy:
        settings |= {"do_sample": True, "num_return_sequences": params.n, "top_k": 0}
        settings |= {"temperature": params.temperature, "top_p": params.top_p}
    for question in questions:
        ids, pixels = plain_inputs(model, question, clip)
        given = torch.tensor([ids], device=model.model.device)
        generate: Any = model.model.generate
        output = generate(
            input_ids=given,
            attention_mask=torch.ones_like(given),
            pixel_values_videos=pixels,
            pad_token_id=0,
            **settings,
        )
        texts = model.tokenizer.batch_decode(output[:, len(ids) :], skip_special_tokens=True)
        answers.append([text.strip() for text in texts])
    return answers


def one(way: str, options: Any, folder: Path) -> dict[str, Any]:
    """Measure one way in this process: a round for each clip of noise."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    place = torch.device(options.device)
    peak = Peak(place)
    numbers = np.random.default_rng(0)
    clips = [
        numbers.integers(0, 256, (FRAMES, 240, 320, 3), dtype=np.uint8)
        for _ in range(options.rounds + 1)
    ]
    draw = SamplingParams(options.k, temperature=1.0, top_p=0.95, max_new_tokens=options.tokens)
    answer = theirs if way == "theirs" else ours
    with torch.inference_mode():
        model = open_model(folder / "model", options)
        # Greedy answers, which also are the first calls, and those are nobody's speed.
        asked = SamplingParams(max_new_tokens=options.tokens)
        greedy = [text for (text,) in answer(model, clips[0], asked)]
        drawn: list[list[str]] = []

        def step(number: int) -> None:
            drawn[:] = answer(model, clips[number], draw)

        peak.restart()
        seconds = timed(step, options.rounds, place)
        logits = spread(model.model)
    figures = peak.figures()
    return {
        "way": way,
        "device": device_name(place),
        "shape": options.shape,
        "parameters_million": round(sum(p.numel() for p in model.model.parameters()) / 1e6, 1),
        "dtype": str(model.model.dtype).removeprefix("torch."),
        "video_tokens": video_token_count(model.model.config, FRAMES),
        "questions_a_clip": len(QUESTIONS),
        "answers_a_question": options.k,
        "new_tokens": options.tokens,
        "rounds": options.rounds,
        **seconds,
        "answers_per_s": round(options.k * len(QUESTIONS) / seconds["seconds_a_step"], 3),
        **figures,
        "greedy": greedy,
        "different_answers": len({text for each in drawn for text in each}),
        **logits,
    }


def compared(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The ratio, and how many greedy answers are equal, where both ways were measured."""
    if set(WAYS) - set(found):
        return {"ways": list(found)}
    theirs, ours = found["theirs"], found["ours"]
    same = sum(a == b for a, b in zip(theirs["greedy"], ours["greedy"], strict=True))
    clock, processor = (
        theirs[kind] / ours[kind] for kind in ("seconds_a_step", "processor_seconds")
    )
    return {
        "transformers_answers_per_s": theirs["answers_per_s"],
        "ours_answers_per_s": ours["answers_per_s"],
        "ratio": round(clock, 1),
        "ratio_by_processor_time": round(processor, 1),
        "goal": GOAL,
        "goal_met": clock >= GOAL,
        "transformers_peak_mib": theirs["peak_mib"],
        "ours_peak_mib": ours["peak_mib"],
        "greedy_answers_equal": f"{same} of {len(QUESTIONS)}",
        "greedy_answers_different_from_each_other": len(set(ours["greedy"])),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Candidates a second, against `generate`.")
    parser.add_argument("--rounds", type=int, default=3, help="clips, each answered by both")
    parser.add_argument("-k", type=int, default=6, help="answers a question")
    parser.add_argument("--tokens", type=int, default=32, help="new tokens of an answer")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--shape", choices=SHAPES, help="default: 7b on a GPU, else small")
    parser.add_argument("--layers", type=int, help="of the shape's language model")
    parser.add_argument("--way", choices=WAYS, help="one way, in this process")
    options = parser.parse_args()
    options.shape = options.shape or default_shape(options.device)
    if options.way:
        with tempfile.TemporaryDirectory() as name:
            print_line(one(options.way, options, Path(name)))
        return 0
    found = run_ways(__file__, WAYS, sys.argv[1:])
    print_line(compared(found))
    return len(found) < len(WAYS)


if __name__ == "__main__":
    sys.exit(main())
