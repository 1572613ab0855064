"""Write a synthetic world to disk, in the layout of the ShareGPTVideo release."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sharegptvideo._concurrency import Progress, worker_pool
from sharegptvideo._io import read_json, read_jsonl, write_json, write_jsonl
from sharegptvideo._runs import RunKind, differences
from sharegptvideo.errors import unknown_name
from sharegptvideo.synthetic.language import (
    Faults,
    Question,
    caption,
    distil,
    draw_questions,
    still_caption,
)
from sharegptvideo.synthetic.state import ClipState, sample_state, state_key, stilled

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "SCALES",
    "SPLITS",
    "WORLD_VERSION",
    "Sizes",
    "build_world",
    "load_questions",
    "write_distilled",
]

Split = Literal["train", "preference", "test", "out_of_domain"]
SPLITS: tuple[Split, ...] = ("train", "preference", "test", "out_of_domain")
WORLD_VERSION = 7
"""Raise it when tests/golden/world.json changes: worlds of other versions are then not reused."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Clips by split, questions a clip, and still images, which are all for training."""

    train: int
    preference: int
    test: int
    out_of_domain: int
    questions: int = 4
    images: int = 4


SCALES: dict[str, Sizes] = {
    "tiny": Sizes(train=240, preference=60, test=40, out_of_domain=20, images=40),
    "small": Sizes(train=1800, preference=400, test=300, out_of_domain=150, images=300),
}

_DISTILLED = "video_instruction/train/sft/video_240k_caption_15k.jsonl"

_WORLD = RunKind(other="a world of other settings", fix_mix="choose another folder")

_PROMPTS = (
    "Describe the video in detail.",
    "What does the video show?",
    "Tell what happens in the video, from start to end.",
)

_IMAGE_PROMPTS = ("Describe the image in detail.", "What does the image show?")


@dataclass(frozen=True, slots=True)
class _Clip:
    split: Split
    stem: str
    state: ClipState
    prompt: str
    caption: str
    questions: tuple[Question, ...]
    distilled: tuple[tuple[str, list[str]], ...]


@dataclass(frozen=True, slots=True)
class _Still:
    stem: str
    state: ClipState
    prompt: str
    caption: str


def build_world(
    out: Path,
    *,
    seed: int = 0,
    sizes: Sizes | str = "tiny",
    faults: Faults | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Render clips and images, write captions, QA, SFT and test rows, and return the report.

    The same seed, sizes and faults give the same bytes. Done twice, the second time only
    reads the report; interrupted, it goes on with the clips that are missing. No two clips
    of different splits share a state.

    Files: `videos/STEM.mp4`, `images/STEM.png`; the rows below `video_instruction/`;
    `states.jsonl`, the exact states and what each question expects, for `exact.check_answer`
    alone; `splits.json`; `world.json`, the report: sizes, rates of faults that were asked for
    and that came.

    Args:
        out: the folder of the world.
        seed: of everything drawn at random.
        sizes: how many clips and questions, or the name of a scale in `SCALES`.
        faults: how often the SFT answers are at fault.
        workers: processes that render; 1: this one.
        progress: called as clips are rendered.

    Raises:
        UserError: unknown scale, or `out` holds a world of other settings.
    """
    if isinstance(sizes, str):
        if sizes not in SCALES:
            raise unknown_name("scale", sizes, SCALES)
        sizes = SCALES[sizes]
    faults = faults or Faults()
    settings = {
        "format": WORLD_VERSION,
        "seed": seed,
        "sizes": asdict(sizes),
        "faults": {**faults.as_dict(), "contexts": list(faults.contexts)},
    }
    report_path = out / "world.json"
    if report_path.exists():
        report: dict[str, Any] = read_json(report_path)
        if changes := list(differences(report["settings"], settings)):
            _WORLD.refuse(out, changes)
        return report
    clips = list(_plan(seed, sizes, faults))
    stills = list(_plan_stills(seed, sizes.images))
    _render_all(clips, out, seed, workers, progress)
    _render_stills(stills, out, seed)
    report = {"settings": settings, "found": _write_rows(clips, stills, out)}
    write_json(report_path, report)
    return report


def load_questions(world: Path) -> dict[str, dict[str, Any]]:
    """Load by id, for all splits of a world on disk, the questions for `exact.check_answer`."""
    return {
        question["id"]: {**question, "state": row["state"]}
        for _, row in read_jsonl(world / "states.jsonl")
        for question in row["questions"]
    }


def write_distilled(out: Path, *, seed: int, sizes: Sizes, faults: Faults) -> dict[str, Any]:
    """Write the SFT rows of a world with other faults: the same clips, captions and questions.

    Args:
        out: a folder of their own, in the release's layout; the clips are in the world's.
        seed: of the world.
        sizes: of the world.
        faults: how often the answers are at fault.

    Returns:
        The rates of faults that came, as in the report of `build_world`.
    """
    clips = [clip for clip in _plan(seed, sizes, faults) if clip.split == "train"]
    write_jsonl(out / _DISTILLED, _distilled_rows(clips))
    return _fault_rates(clips)


def _plan(seed: int, sizes: Sizes, faults: Faults) -> Iterator[_Clip]:
    """Yield all clips in order, no state twice."""
    seen: set[str] = set()
    for split in SPLITS:
        for number in range(asdict(sizes)[split]):
            rng = random.Random(f"{seed}/{split}/{number}")
            state = sample_state(rng, held_out=split == "out_of_domain")
            while state_key(state) in seen:
                state = sample_state(rng, held_out=split == "out_of_domain")
            seen.add(state_key(state))
            questions = draw_questions(state, rng, sizes.questions)
            yield _Clip(
                split=split,
                stem=f"synthetic_{split}_{number:05d}",
                state=state,
                prompt=rng.choice(_PROMPTS),
                caption=caption(state, rng),
                questions=tuple(questions),
                distilled=tuple(distil(question, state, rng, faults) for question in questions),
            )


def _plan_stills(seed: int, count: int) -> Iterator[_Still]:
    """Yield the still images in order; what one shows may be in another, and in clips."""
    for number in range(count):
        rng = random.Random(f"{seed}/image/{number}")
        state = stilled(sample_state(rng, held_out=False))
        yield _Still(
            stem=f"synthetic_image_{number:05d}",
            state=state,
            prompt=rng.choice(_IMAGE_PROMPTS),
            caption=still_caption(state, rng),
        )


def _render_all(
    clips: list[_Clip], out: Path, seed: int, workers: int, progress: Progress | None
) -> None:
    folder = out / "videos"
    folder.mkdir(parents=True, exist_ok=True)
    there = {path.name for path in folder.iterdir()}
    missing = [clip for clip in clips if f"{clip.stem}.mp4" not in there]
    jobs = [
        (clip.state.as_dict(), f"{seed}/{clip.stem}", folder / f"{clip.stem}.mp4")
        for clip in missing
    ]
    if not jobs:
        return
    with contextlib.ExitStack() as opened:
        # One worker is this process: a script without a `__main__` guard cannot spawn others.
        rendered: Iterator[None] = map(_render_one, jobs)
        if workers > 1:
            rendered = opened.enter_context(worker_pool(workers)).map(
                _render_one, jobs, chunksize=16
            )
        for done, _ in enumerate(rendered, start=len(clips) - len(missing) + 1):
            if progress:
                progress(done, len(clips), "clips rendered")


def _render_one(job: tuple[dict[str, Any], str, Path]) -> None:
    from sharegptvideo.synthetic.render import render, write_mp4

    state, key, path = job
    write_mp4(render(ClipState.from_dict(state), _noise(key)), path)


def _noise(key: str) -> np.random.Generator:
    import hashlib

    import numpy as np

    return np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big"))


def _render_stills(stills: list[_Still], out: Path, seed: int) -> None:
    from sharegptvideo.synthetic.render import render, write_png

    folder = out / "images"
    folder.mkdir(exist_ok=True)
    for still in stills:
        path = folder / f"{still.stem}.png"
        if not path.exists():
            write_png(render(still.state, _noise(f"{seed}/{still.stem}"))[0], path)


def _conversation(*turns: tuple[str, str], medium: str = "video") -> list[dict[str, str]]:
    """Return turns as one conversation; the medium comes before the first question."""
    messages = []
    for number, (question, answer) in enumerate(turns):
        messages += [
            {"from": "human", "value": question if number else f"<{medium}>\n{question}"},
            {"from": "gpt", "value": answer},
        ]
    return messages


def _write_rows(clips: list[_Clip], stills: list[_Still], out: Path) -> dict[str, Any]:
    """Write every JSONL file of the world and return the counts and the rates of faults."""
    by_split: dict[Split, list[_Clip]] = {
        split: [clip for clip in clips if clip.split == split] for split in SPLITS
    }
    train = out / "video_instruction" / "train"
    test = out / "video_instruction" / "test"
    rows = {
        train / "pretrain" / "video_caption_pretrain.jsonl": [
            {
                "id": clip.stem,
                "video": clip.stem,
                "conversations": _conversation((clip.prompt, clip.caption)),
            }
            for clip in by_split["train"] + by_split["preference"]
        ],
        train / "pretrain" / "image_caption_pretrain.jsonl": [
            {
                "id": still.stem,
                "image": f"images/{still.stem}.png",
                "conversations": _conversation((still.prompt, still.caption), medium="image"),
            }
            for still in stills
        ],
        out / _DISTILLED: _distilled_rows(by_split["train"]),
        train / "qa" / "video_qa.jsonl": _qa_rows(by_split["preference"]),
        test / "synthetic.qa.jsonl": _qa_rows(by_split["test"]),
        test / "synthetic_ood.qa.jsonl": _qa_rows(by_split["out_of_domain"]),
        out / "states.jsonl": [
            {
                "video": clip.stem,
                "split": clip.split,
                "state": clip.state.as_dict(),
                "questions": [
                    {"id": f"{clip.stem}_{i}", "video": clip.stem, **question.as_dict()}
                    for i, question in enumerate(clip.questions)
                ],
            }
            for clip in clips
        ],
    }
    for path, content in rows.items():
        write_jsonl(path, content)
    write_json(
        out / "splits.json",
        {split: [clip.stem for clip in by_split[split]] for split in SPLITS},
    )
    return {
        "clips": {split: len(by_split[split]) for split in SPLITS},
        "questions": {split: sum(len(c.questions) for c in by_split[split]) for split in SPLITS},
        "images": len(stills),
        "kinds": dict(Counter(q.kind for clip in clips for q in clip.questions).most_common()),
        "sft_faults": _fault_rates(by_split["train"]),
    }


def _distilled_rows(clips: list[_Clip]) -> list[dict[str, Any]]:
    return [
        {
            "id": clip.stem,
            "video": clip.stem,
            "conversations": _conversation(
                *(
                    (question.text, answer)
                    for question, (answer, _) in zip(clip.questions, clip.distilled, strict=True)
                )
            ),
        }
        for clip in clips
    ]


def _qa_rows(clips: list[_Clip]) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{clip.stem}_{i}",
            "video": clip.stem,
            "caption": clip.caption,
            "question_type": question.kind,
            "conversations": _conversation((question.text, question.answer)),
        }
        for clip in clips
        for i, question in enumerate(clip.questions)
    ]


def _fault_rates(clips: list[_Clip]) -> dict[str, float | int]:
    """Return each fault's share of the SFT answers that could have had it."""
    counts: Counter[str] = Counter()
    could: Counter[str] = Counter()
    for clip in clips:
        for question, (_, faults) in zip(clip.questions, clip.distilled, strict=True):
            presence = question.kind == "presence"
            says_no = question.answer.startswith("No")
            name = ("yes_to_absent" if says_no else "no_to_present") if presence else "invented"
            could[name] += 1
            counts.update(faults)
    rates: dict[str, float | int] = {name: round(counts[name] / could[name], 4) for name in could}
    rates["answers"] = sum(could.values())
    rates["answers_at_fault"] = sum(counts.values())
    return rates
