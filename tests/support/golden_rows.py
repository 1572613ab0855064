"""Rows as tables hold them, and the world that is rendered where there are no data."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

from sharegptvideo._io import read_json, read_jsonl, write_jsonl
from sharegptvideo.data.schema import CONFIGS, features

__all__ = ["pictures", "tables", "world"]

Row = dict[str, Any]

# Of these videos the second lies in `validation` by the hash of its name.
_VIDEOS = (
    *("clip_0", "clip_298", "test/webvid/a b.mp4", "v_1QIUV7WYKXg-Scene-001"),
    *("1016732470", "QOlSCBRmfWY"),
)


def _talk(*turns: str) -> list[dict[str, str]]:
    roles = ("human", "gpt")
    return [{"from": roles[number % 2], "value": turn} for number, turn in enumerate(turns)]


def _release(root: Path) -> Path:
    """Every form that rows come in, and rows that break the schema."""
    folder = root / "video_instruction"
    train, test = folder / "train", folder / "test"
    asked = [
        {"id": f"q{n}", "video": video, "conversations": _talk(f"<video>\nQ {n}?", f"A {n}.")}
        for n, video in enumerate(_VIDEOS)
    ]
    odd: list[Row] = [
        {"id": 7, "video": "x", "question": "Flat?", "answer": "Yes.", "caption": "", "more": [1]},
        {**asked[0], "caption": "Ünïcode “caption”\nin two lines.", "source": "Own"},
        {"id": "q9", "video": "../out", "conversations": _talk("Q?", "A.")},
        {"id": "q10", "video": "x", "conversations": _talk("Q?", "A.", "Q?", "A.")},
        {"id": "q11", "video": "x", "conversations": _talk("Q?", " ")},
        {"id": "q12", "video": "x", "conversations": _talk("a<video>b", "A \n<image>\n c")},
    ]
    write_jsonl(train / "qa" / "a.jsonl", [*asked, *odd])
    write_jsonl(train / "qa" / "b.jsonl", [asked[1], {**asked[1], "id": "new"}, *asked[2:3] * 2])
    with (train / "qa" / "b.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"id": "broken"\n\n')
    write_jsonl(
        train / "pretrain" / "video_caption_pretrain.jsonl",
        [
            {"id": video, "video": video, "conversations": _talk("<video>\nDescribe.", f"It {n}.")}
            for n, video in enumerate(_VIDEOS)
        ],
    )
    write_jsonl(
        train / "sft" / "mixed.jsonl",
        [
            {"id": "s0", "video": "clip_0", "conversations": _talk("<video>\nA?", "B.", "C?", "D")},
            {"id": "s1", "image": "coco/1.jpg", "conversations": _talk("E?\n<image>", "F.")},
            {"id": "s2", "conversations": _talk("G?", "H.")},
            {"id": "s3", "conversations": _talk("G?", "H.", "I?")},
            {"id": "s4", "video": "clip_0", "image": "a.jpg", "conversations": _talk("J?", "K.")},
        ],
    )
    write_jsonl(
        train / "pretrain" / "image_caption_pretrain.jsonl",
        [
            {"id": 1, "image": "coco/1.jpg", "conversations": _talk("<image>\nDescribe.", "It.")},
            {"id": "i2", "image": "x/2.png", "prompt": "Describe. <image>", "caption": "It."},
            {"id": "i3", "image": ["a.jpg", "b.jpg"], "conversations": _talk("Which?", "B.")},
            {"id": "i4", "video": "clip_0", "conversations": _talk("Describe.", "It.")},
        ],
    )
    pair = {"id": "p0", "video": "clip_0", "chosen": "C", "rejected": ""}
    write_jsonl(
        train / "dpo" / "pairs.jsonl",
        [
            {**pair, "prompt": "<video>\nP?", "chosen_score": 5, "rejected_score": 1.5},
            {**pair, "conversations": _talk("P?"), "answer": "A", "caption": "K"},
            {**pair, "prompt": "P?", "chosen": _talk("P?", "turn")[1], "rejected": "R"},
            {**pair, "prompt": "P?", "chosen_score": "5"},
        ],
    )
    for name in ("webvid.qa", "msvd.qa.official", "synthetic.qa"):
        kinds = [{**row, "question_type": "what", "caption": None} for row in asked[:2]]
        write_jsonl(test / f"{name}.jsonl", [*kinds, asked[2]])
    return root


def tables(scratch: Path) -> Row:
    """Rows of all splits as `load_dataset` gives them, from the release's files and from Parquet.

    With columns and types of every config, and what was left out.
    """
    results: Row = {
        f"{name}: columns": {column: str(kind) for column, kind in features(name).items()}
        for name in CONFIGS
    }
    source = _release(scratch / "release")
    published = scratch / "published"
    for name in ("captions", "qa", "sft", "image_captions", "preferences"):
        for split in ("train", "validation"):
            rows, about = _table(name, split, source)
            results |= _cases(f"{name}, {split}", rows, about)
            _publish(published, name, split, rows)
    for name in ("webvid_qa", "msvd_qa_official", "synthetic_qa"):
        results |= _cases(f"{name}, test", *_table(name, "test", source))
    for name in ("qa", "sft", "image_captions", "preferences"):
        results |= _cases(f"{name}, train, from Parquet", *_table(name, "train", published))
    return results


def _cases(name: str, rows: list[Row], about: Row) -> Row:
    """A case for each row, and one that says how many there are."""
    return {name: {"rows": len(rows), **about}} | {
        f"{name}: row {number}": row for number, row in enumerate(rows)
    }


def _table(name: str, split: str, source: Path) -> tuple[list[Row], Row]:
    """The rows, and where what was left out stands."""
    import warnings

    from sharegptvideo import load_dataset
    from sharegptvideo.data.sources import DataWarning, ReadReport

    report = ReadReport()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        rows = load_dataset(name, split, data_dir=source, on_error="skip", report=report).to_list()
    left = [*report.skipped, *(f"{where}: repeated" for where in report.repeated)]
    return rows, {"left out": [_place(one, source) for one in left]}


def _place(told: str, source: Path) -> str:
    """`FILE:LINE`, without the folder and without the words of the cause."""
    name, line = told.removeprefix(f"{source}/").split(":")[:2]
    return f"{name}:{line}"


def _publish(root: Path, name: str, split: str, rows: list[Row]) -> None:
    """As Parquet; a row with tags is one to clean."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not rows:
        return
    (root / name).mkdir(parents=True, exist_ok=True)
    schema = features(name).arrow_schema
    tagged = {
        key: f"<video>\n{value}" if key in ("question", "prompt") else value
        for key, value in rows[0].items()
    }
    table = pa.Table.from_pylist([*rows, {**tagged, "id": "tagged"}], schema=schema)
    pq.write_table(table, root / name / f"{split}-00000-of-00001.parquet")


def _build(folder: Path) -> Path:
    from sharegptvideo.synthetic import Sizes, build_world

    build_world(folder, seed=0, sizes=Sizes(6, 4, 3, 3), workers=1)
    return folder


def world(scratch: Path) -> Row:
    """The rows of a small world, and a digest of the texts about many clips."""
    folder = _build(scratch / "world")
    results: Row = {}
    for file in sorted(folder.rglob("*.jsonl")):
        rows = [row for _, row in read_jsonl(file)]
        results |= _cases(str(file.relative_to(folder)), rows, {})
    results["splits.json"] = read_json(folder / "splits.json")
    results["found"] = read_json(folder / "world.json")["found"]
    return results | {f"400 clips, held out: {held}": _texts(held) for held in (False, True)}


def _texts(held_out: bool) -> str:
    from sharegptvideo.synthetic.language import Faults, caption, distil, draw_questions
    from sharegptvideo.synthetic.state import sample_state

    told = []
    for number in range(400):
        rng = random.Random(number)
        state = sample_state(rng, held_out=held_out)
        questions = draw_questions(state, rng, 4)
        answers = [distil(question, state, rng, Faults()) for question in questions]
        about = [question.as_dict() for question in questions]
        told.append([state.as_dict(), caption(state, rng), about, answers])
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def pictures(scratch: Path) -> Row:
    """Four by four means of three frames of each clip, as they are decoded."""
    from sharegptvideo.media import sample_frames

    results = {}
    for clip in sorted((_build(scratch / "world") / "videos").iterdir()):
        frames = sample_frames(clip, 3).frames
        count, height, width, _ = frames.shape
        blocks = frames.reshape(count, 4, height // 4, 4, width // 4, 3).mean((2, 4))
        for number, block in enumerate(blocks.reshape(count, -1, 3).round().astype(int).tolist()):
            results[f"{clip.stem}, frame {number} of 3"] = block
    return results
