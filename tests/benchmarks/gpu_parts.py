"""The parts of bench_gpu.py that measure several ways in one process, around one model.

    python tests/benchmarks/gpu_parts.py PART --device cuda --shape 7b

A process with a model of 7 billion weights takes a quarter of a minute to start, so ways share it:
each gets a copy of the model's modules around the same weights, and learns at rate 0. Prints a line
of JSON for each entry as it is measured; one that fails says so, and the next is measured.
"""

from __future__ import annotations

import argparse
import copy
import gc
import itertools
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import bench_candidates
import bench_dpo
import bench_sft
import numpy as np
import torch

from sharegptvideo.media import sample_frames
from sharegptvideo.models import Request, SamplingParams, VideoLlavaModel
from sharegptvideo.models.checkpoints import weights_hash
from sharegptvideo.training.collators import ClipCache, PreferenceCollator
from sharegptvideo.training.recipes import LengthLimit, Sharing
from sharegptvideo.training.trainers import quiet_and_quick
from tests.support.child_runs import Peak, print_line, run_child
from tests.support.gpu_figures import mfu, operations, profiled, step_spans
from tests.support.small_video_llava import made_questions
from tests.support.training_shapes import (
    SHAPES,
    Setting,
    build_shape,
    device_name,
    open_setting,
    recompute_layers,
    spread,
    timed,
)

Figures = dict[str, Any]
OURS = Sharing().attention  # as recipes have it
NEVER = [2**30]  # a token that is never chosen: answers have all their tokens
THEIRS = 3  # questions on a clip that transformers answers, each in as much time as another
TASK = "msvd_qa_official"
SETTLED = 2.1  # seconds: a younger file's hash is not kept, and a second run would hash again
MOST_WARNINGS = 5  # of an entry: a kernel or a graph that gave way, not all that libraries advise


def entry(make: Callable[[], Figures], **about: Any) -> Figures | None:
    """Measure and print, with what was warned of; None where it failed, which is printed, too."""
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            figures = make()
        texts = [str(each.message).strip() for each in said if each.category is UserWarning]
        if texts:
            short = sorted({text.partition("\n")[0] for text in texts})
            figures = {**figures, "warnings": short[:MOST_WARNINGS]}
    except Exception as error:  # noqa: BLE001 - the figures of the other entries are worth more
        lines = str(error).strip().splitlines() or [""]
        print_line(about | {"failed": f"{type(error).__name__}: {lines[0][:300]}"})
        figures = None
    else:
        print_line(about | figures)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return figures


def profile(step: Callable[[], Any], place: torch.device, *, top_ten: bool) -> Figures:
    """Launches and where the time goes; why not, where the profiler fails: seconds are kept."""
    try:
        return profiled(step, place, top_ten=top_ten)
    except Exception as error:  # noqa: BLE001 - see above
        return {"profile_failed": f"{type(error).__name__}: {str(error)[:300]}"}


def twin(model: Any) -> Any:
    """A copy of the modules around the same weights: what a trainer does to one stays in it."""
    shared = itertools.chain(model.parameters(), model.buffers())
    return copy.deepcopy(model, {id(tensor): tensor for tensor in shared})


# Training


def step_figures(
    step: Any, batch: Figures, options: Any, *, checkpointing: bool | int, reference: bool = False
) -> Figures:
    """Time, memory, operations and launches of a trainer's step.

    Args:
        checkpointing: whether all layers are computed again, or how many, the first ones.
    """
    place = step.setting.device
    model, shared = step.trainer.model, not step.way.startswith("trl")
    passes = recompute_layers(model, checkpointing)
    spans, scored, clips = step_spans(batch, shared=shared)
    needed = operations(model, spans, scored, clips, more_forwards=int(reference), shared=shared)
    peak = Peak(place)
    peak.restart()
    seconds = timed(step, options.rounds, place)
    memory = peak.figures()
    again = passes()
    return {
        "attention": model.config.text_config._attn_implementation,
        "checkpointing": checkpointing,
        "first_layer_passes_a_step": again,
        "tokens_a_step": sum(length for length, _ in spans),
        **seconds,
        **memory,
        **mfu(needed, float(seconds["seconds_a_step"])),  # type: ignore[arg-type]  # no list
        **profile(lambda: step(0), place, top_ten=shared),
    }


class Dpo:
    """Entries of DPO around one model."""

    def __init__(self, options: Any, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.setting = open_setting(options.shape, options.device, options.layers, "llava_hound")
        rows = bench_dpo.pairs(8, self.setting.reader.video_id, folder, options.media)
        self.rows = rows
        self.collate = PreferenceCollator(ClipCache(self.setting.reader), LengthLimit(4096))

    def step(self, way: str, pairs: int, model: Any = None) -> Any:
        """One way's step; `way` is TRL's or how attention is computed."""
        setting = replace(self.setting, model=twin(self.setting.model) if model is None else model)
        trainer = bench_dpo.trainer_of(way, setting, self.rows, self.folder)
        batches = [self.collate(self.rows[at : at + pairs]) for at in (0, pairs)]
        return bench_dpo.Step(way, trainer, batches, setting, rate=0.0)

    def measure(self, way: str, pairs: int, checkpointing: bool | int) -> Figures:
        """One entry; a trainer that is made checks its way of attention first."""
        start = time.perf_counter()
        step = self.step(way, pairs)
        until = round(time.perf_counter() - start, 3)
        figures = step_figures(
            step,
            step.batches[0],
            self.options,
            checkpointing=checkpointing,
            reference=way == "trl",
        )
        return {"pairs": pairs, "trainer_seconds": until, **figures}

    def errors(self, ways: Sequence[str]) -> Figures:
        """How far log-probabilities of whole answers are from those of plain rows in float32."""
        exact = copy.deepcopy(self.setting.model).float()
        truth = self.step("trl_precomputed", 4, exact).log_probabilities()
        del exact
        gc.collect()
        found: Figures = {"answers": len(truth), "spread_nats": round(float(truth.std()), 3)}
        plain = self.step("trl_precomputed", 4).log_probabilities() - truth
        allowed = max(2 * float(plain.abs().max()), 1e-4)
        found["plain_rows_error_nats"] = round(float(plain.abs().max()), 6)
        for way in ways:
            error = float((self.step(way, 4).log_probabilities() - truth).abs().max())
            found[f"{way}_error_nats"] = round(error, 6)
            found[f"{way}_within_twice"] = error <= allowed
        return found


def dpo(options: Any, folder: Path) -> None:
    """Ours against TRL, with the reference in memory and with its log-probabilities given."""
    ours = Dpo(options, folder)
    about = _about(ours.setting)
    for pairs, checkpointing in ((1, True), (4, True), (1, False)):
        for way in (OURS, "trl", "trl_precomputed"):
            name = "ours" if way == OURS else way
            entry(
                lambda w=way, p=pairs, c=checkpointing: ours.measure(w, p, c),  # type: ignore[misc]
                entry=name, pairs=pairs, checkpointing=checkpointing, **about,
            )  # fmt: skip
        if pairs == 1 and checkpointing:
            entry(lambda: ours.errors([OURS]), entry="log-probabilities", **about)
    entry(lambda: ours.measure(OURS, 4, False), entry="ours", pairs=4, checkpointing=False, **about)


def ways(options: Any, folder: Path) -> None:
    """What our own switches are worth: ways of attention, layers that are computed again."""
    ours = Dpo(options, folder)
    about = _about(ours.setting)
    names = ["split", "dense", *(["flex"] if ours.setting.device.type == "cuda" else [])]
    for way in names:
        entry(
            lambda w=way: ours.measure(w, 4, True),  # type: ignore[misc]
            entry=f"attention {way}", pairs=4, checkpointing=True, **about,
        )  # fmt: skip
    layers = len(ours.setting.model.model.language_model.layers)
    for count in (layers // 2, layers // 4):
        entry(
            lambda n=count: ours.measure(OURS, 4, n or True),  # type: ignore[misc]
            entry=f"{count} of {layers} layers again", pairs=4, checkpointing=count, **about,
        )  # fmt: skip
    entry(lambda: ours.errors(names), entry="log-probabilities", **about)


class Sft:
    """Entries of SFT, three questions a clip, around one model."""

    def __init__(self, options: Any, folder: Path, setting: Setting) -> None:
        self.options, self.folder, self.setting = options, folder, setting
        setting.model.model.multi_modal_projector.requires_grad_(True)

    def measure(self, way: str, clips: int, checkpointing: bool) -> Figures:
        """One entry, with the losses of both batches before it."""
        asked = argparse.Namespace(clips=clips, batches=2, media=self.options.media, attention=OURS)
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            own = replace(self.setting, model=twin(self.setting.model))
            step = bench_sft.Step(way, asked, Path(name), own, rate=0.0)
            with torch.no_grad():
                losses = [round(float(step.loss(number)), 7) for number in range(2)]
            figures = step_figures(step, step.batches[0], self.options, checkpointing=checkpointing)
        return {"clips": clips, "questions_a_clip": bench_sft.EACH, **figures, "losses": losses}


def sft(options: Any, folder: Path) -> None:
    """Three questions a clip, against TRL on plain rows."""
    setting = open_setting(options.shape, options.device, options.layers, "llava_hound")
    rows = Sft(options, folder, setting)
    about = _about(setting)
    for clips, checkpointing in ((1, True), (4, True), (1, False)):
        for way in ("shared", "trl"):
            entry(
                lambda w=way, n=clips, c=checkpointing: rows.measure(w, n, c),  # type: ignore[misc]
                entry="ours" if way == "shared" else way,
                clips=clips,
                checkpointing=checkpointing,
                **about,
            )


def fused(options: Any, folder: Path) -> None:
    """Norms, rotary positions and gates compiled or not, at four pairs and at four clips."""
    pairs = Dpo(options, folder)
    setting, about = pairs.setting, _about(pairs.setting)
    for wanted in (True, False):
        pairs.setting = replace(setting, fused=wanted)
        which = "fused" if wanted else "not fused"
        entry(
            lambda: pairs.measure(OURS, 4, True),
            entry=f"DPO, {which}", pairs=4, checkpointing=True, **about,
        )  # fmt: skip
        if wanted:
            entry(lambda: pairs.errors([OURS]), entry="log-probabilities", **about)
    for wanted in (True, False):
        rows = Sft(options, folder, replace(setting, fused=wanted))
        entry(
            lambda r=rows: r.measure("shared", 4, True),  # type: ignore[misc]
            entry=f"SFT, {'fused' if wanted else 'not fused'}",
            clips=4,
            checkpointing=True,
            **about,
        )


def _about(setting: Setting) -> Figures:
    return {
        "device": device_name(setting.device),
        "dtype": str(setting.dtype).removeprefix("torch."),
        "parameters_millions": round(setting.parameters / 1e6, 1),
        "video_tokens": setting.reader.video_tokens,
    }


# Answers


def ids_as_text(local: VideoLlavaModel) -> VideoLlavaModel:
    """Let answers be their token ids: a model drawn at random says tokens that are no words."""
    local.tokenizer.batch_decode = lambda rows, **_: [
        " ".join(str(int(token)) for token in row) for row in rows
    ]
    local.model.generation_config.eos_token_id = NEVER
    return local


def answering(
    answers: Callable[[], Any],
    count: int,
    rounds: int,
    place: torch.device,
    *,
    top_ten: bool = True,
) -> Figures:
    """Figures of a call that gives `count` answers; its first call by itself."""
    peak = Peak(place)
    peak.restart()
    seconds = timed(lambda _: answers(), rounds, place)
    per_second = count / float(seconds["seconds_a_step"])  # type: ignore[arg-type]  # no list
    return {
        "answers": count,
        "answers_per_s": round(per_second, 3),
        **seconds,
        **peak.figures(),
        **profile(answers, place, top_ten=top_ten),
    }


@torch.no_grad()
def judged(
    model: Any, local: VideoLlavaModel, asked: Sequence[tuple[str, Any]], answers: Sequence[str]
) -> Figures:
    """Score whole answers by plain rows of `model`: log-probability, and what was given away.

    `gap_nats` sums over an answer by how much each token is less likely than the likeliest one
    after the same tokens: 0 where every token is this model's own choice.
    """
    sums, gaps, others = [], [], 0
    for (question, clip), answer in zip(asked, answers, strict=True):
        given, pixels = bench_candidates.plain_inputs(local, question, clip)
        said = [int(token) for token in answer.split()]
        ids = torch.tensor([given + said], device=model.device)
        output = model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values_videos=pixels.to(model.dtype),
        )
        logits = output.logits[0, -len(said) - 1 : -1].float().log_softmax(-1)
        chosen = logits.gather(-1, ids[0, -len(said) :, None])[:, 0]
        gap = logits.amax(-1) - chosen
        sums.append(float(chosen.sum()))
        gaps.append(float(gap.sum()))
        others += int((gap > 0).sum())
    return {
        "log_probability": round(sum(sums) / len(sums), 4),
        "gap_nats": round(sum(gaps) / len(gaps), 5),
        "gap_nats_most": round(max(gaps), 5),
        "tokens_not_its_choice": others,
    }


def compare_answers(
    local: VideoLlavaModel,
    asked: Sequence[tuple[str, Any]],
    both: dict[str, Sequence[str]],
) -> Figures:
    """How good greedy answers in bf16 are, judged in float32 and bf16 by plain rows."""
    own = {way: judged(local.model, local, asked, said) for way, said in both.items()}
    exact = copy.deepcopy(local.model).float()
    found = {way: judged(exact, local, asked, said) for way, said in both.items()}
    same = sum(a == b for a, b in zip(*both.values(), strict=True))
    allowed = max(2 * found["theirs"]["gap_nats"], 1e-4)
    return {
        "answers": len(asked),
        "equal": same,
        "different": len({text for said in both.values() for text in said}),
        "by_float32": found,
        "by_own_precision": own,
        "within_twice": found["ours"]["gap_nats"] <= allowed,
        **spread(local.model),
    }


def candidates(options: Any, folder: Path) -> None:
    """Six answers to three questions of a clip; of one clip, and of many at once."""
    place = torch.device(options.device)
    local = ids_as_text(bench_candidates.open_model(folder / "model", options))
    noise = np.random.default_rng(0)
    frames, questions = bench_candidates.FRAMES, bench_candidates.QUESTIONS
    shape = (frames, 240, 320, 3)
    clips = [noise.integers(0, 256, shape, dtype=np.uint8) for _ in range(options.many)]
    about = {"device": device_name(place), "dtype": str(local.model.dtype).removeprefix("torch.")}
    draw = SamplingParams(6, temperature=1.0, top_p=0.95, max_new_tokens=2 * options.tokens)
    greedy = SamplingParams(max_new_tokens=2 * options.tokens)
    a_clip = draw.n * len(questions)

    def ours(many: Sequence[Any]) -> list[Any]:
        requests = [Request(question, clip) for clip in many for question in questions]
        return list(local.generate(requests, draw))

    def theirs() -> Any:
        with torch.inference_mode():
            return bench_candidates.theirs(local, clips[0], draw)

    def compared() -> Figures:
        asked = [(question, clips[0]) for question in questions]
        both = {
            "ours": [text for (text,) in bench_candidates.ours(local, clips[0], greedy)],
            "theirs": [text for (text,) in bench_candidates.theirs(local, clips[0], greedy)],
        }
        return compare_answers(local, asked, both)

    def measure(answers: Callable[[], Any], which: str, number: int, rounds: int) -> None:
        top = which == "ours"
        entry(
            lambda: answering(answers, a_clip * number, rounds, place, top_ten=top),
            entry=which,
            clips=number,
            **about,
        )

    measure(lambda: ours(clips[:1]), "ours", 1, options.rounds)
    measure(theirs, "theirs", 1, min(options.rounds, 2))
    measure(lambda: ours(clips), "ours", len(clips), options.rounds)
    entry(compared, entry="greedy answers", **about)


def evaluation(options: Any, folder: Path) -> None:
    """Many questions on each of a few clips: a start, the whole run, generating alone."""
    place = torch.device(options.device)
    about = {"device": device_name(place)}
    path = folder / "model"
    rows = made_questions(folder, options.clips, options.each)

    def build() -> Figures:
        build_shape(options.shape, path, device=options.device, layers=options.layers)
        time.sleep(SETTLED)
        size = sum(file.stat().st_size for file in path.glob("*.safetensors"))
        return {"gib": round(size / 2**30, 3)}

    if entry(build, entry="checkpoint", **about) is None:
        return
    for number, which in enumerate(("first", "second")):
        entry(
            lambda n=number: whole_run(options, folder, len(rows), n),  # type: ignore[misc]
            entry=f"whole run, {which}",
            **about,
        )
    entry(lambda: identity(path, folder), entry="identity", **about)
    local = VideoLlavaModel(str(path), device=options.device)
    entry(lambda: loading(local, place), entry="loading", **about)
    ids_as_text(local)
    asked = list(questions_on_clips(rows, folder))
    params = SamplingParams(max_new_tokens=options.tokens)

    def ours() -> list[str]:
        requests = [Request(question, frames) for question, frames, _ in asked]
        return [answer.texts[0] for answer in local.generate(requests, params)]

    few = [one for at in range(0, len(asked), options.each) for one in asked[at : at + THEIRS]]

    def theirs() -> list[str]:
        """As a harness does that takes question by question: the clip is read for each."""
        with torch.inference_mode():
            return [
                bench_candidates.theirs(
                    local, sample_frames(file, bench_candidates.FRAMES).frames, params, [question]
                )[0][0]
                for question, _, file in few
            ]

    entry(
        lambda: answering(ours, len(asked), options.rounds, place),
        entry="generating, ours",
        **about,
    )
    entry(
        lambda: answering(theirs, len(few), 1, place, top_ten=False),
        entry="generating, theirs",
        **about,
    )
    if find_spec("lmms_eval"):
        entry(lambda: lmms_eval(options, folder), entry="lmms-eval", **about)

    def compared() -> Figures:
        said = {
            (question, file): text for (question, _, file), text in zip(asked, ours(), strict=True)
        }
        both = {"ours": [said[question, file] for question, _, file in few], "theirs": theirs()}
        return compare_answers(local, [(question, frames) for question, frames, _ in few], both)

    entry(compared, entry="greedy answers", **about)


def questions_on_clips(rows: Sequence[Figures], folder: Path) -> Iterator[tuple[str, Any, Path]]:
    """Each question with its clip's frames, one array a clip, and its file."""
    for number, group in itertools.groupby(rows, key=lambda row: row["video_id"]):
        file = folder / "clips" / f"vid{number}.mp4"
        frames = sample_frames(file, bench_candidates.FRAMES).frames
        for row in group:
            yield row["question"], frames, file


def whole_run(options: Any, folder: Path, count: int, number: int) -> Figures:
    """`eval run` in this process: loading, decoding, answering, judging, results.json."""
    from sharegptvideo.eval import run_evaluation

    device = "cuda:0" if options.device == "cuda" else options.device
    start = time.perf_counter()
    run_evaluation(
        f"hf:{folder / 'model'}",
        [TASK],
        "answer-match",
        folder / f"run{number}",
        data_dir=folder,
        media=folder / "clips",
        max_new_tokens=options.tokens,
        devices=[device],
    )
    seconds = time.perf_counter() - start
    return {"questions": count, "seconds": round(seconds, 3), "per_s": round(count / seconds, 3)}


def identity(path: Path, folder: Path) -> Figures:
    """Seconds until the weights' hash is there, with an empty cache and again."""
    before = os.environ["SHAREGPTVIDEO_CACHE"]
    os.environ["SHAREGPTVIDEO_CACHE"] = str(folder / "empty-cache")
    marks = [time.perf_counter()]
    try:
        for _ in range(2):
            weights_hash(path)
            marks.append(time.perf_counter())
    finally:
        os.environ["SHAREGPTVIDEO_CACHE"] = before
    return {
        "first_seconds": round(marks[1] - marks[0], 4),
        "second_seconds": round(marks[2] - marks[1], 4),
    }


def loading(local: VideoLlavaModel, place: torch.device) -> Figures:
    """Seconds until the weights are on the device; the files are in the page cache."""
    start = time.perf_counter()
    local.load()
    if place.type == "cuda":
        torch.cuda.synchronize(place)
    return {"seconds": round(time.perf_counter() - start, 3)}


def lmms_eval(options: Any, folder: Path) -> Figures:
    """lmms-eval on the same checkpoint, clips and questions."""
    device = "cuda:0" if options.device == "cuda" else options.device
    script = str(Path(__file__).parent / "bench_lmms_eval.py")
    flags = [
        "--way",
        "theirs",
        "--work",
        str(folder),
        "--device",
        device,
        "--each",
        str(options.each),
    ]
    flags += ["--theirs", str(THEIRS), "--tokens", str(options.tokens)]
    outcome = run_child([script, *flags])
    if outcome.failed:
        return {"failed": outcome.failed}
    names = ("median_per_s", "per_s", "peak_mib")
    return {name: outcome.figures[name] for name in names}


PARTS = {
    "dpo": dpo,
    "sft": sft,
    "candidates": candidates,
    "evaluation": evaluation,
    "ways": ways,
    "fused": fused,
}
"""By name, the most valuable first."""


def main() -> int:
    """Measure one part and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--layers", type=int, help="of the shape's language model")
    parser.add_argument("--media", type=Path, help="a folder of clips; default: the shared data")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--many", type=int, default=12, help="clips at once, of candidates")
    parser.add_argument("--clips", type=int, default=5, help="of the evaluation")
    parser.add_argument("--each", type=int, default=24, help="questions on each of them")
    parser.add_argument("--tokens", type=int, default=16, help="of its answers; a candidate: twice")
    parser.add_argument(
        "--work", type=Path, help="where files are made; default: a temporary place"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as name, quiet_and_quick():
        os.environ["SHAREGPTVIDEO_CACHE"] = str(Path(name) / "cache")
        PARTS[options.part](options, Path(name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
