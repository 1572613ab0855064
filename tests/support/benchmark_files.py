"""Small files in the formats of public benchmarks, with encoded clips of one colour."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sharegptvideo._io import write_json
from sharegptvideo.eval.tasks import load_task

RED, BLUE = (255, 0, 0), (0, 0, 255)


def encode_clip(path: Path, colour: tuple[int, int, int], seconds: int = 1) -> None:
    """Write so many seconds of one colour as an MP4."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height = 32, 24
        for _ in range(8 * seconds):
            picture = np.full((24, 32, 3), colour, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))


def _half(video: str, question: str, answer: str) -> dict[str, str]:
    return {"video": f"{video}.mp4", "question": question, "answer": answer}


def videohallucer(folder: Path) -> None:
    """Two pairs of the first kind, one of each other; semantic_detail's is on two clips."""
    pairs = {
        "object_relation": [("r", "r"), ("b", "b")],
        "temporal": [("r", "r")],
        "semantic_detail": [("r", "b")],
        "external_factual": [("b", "b")],
        "external_nonfactual": [("b", "b")],
    }
    for kind, videos in pairs.items():
        entries = [
            {
                "basic": _half(first, "Is it red?" if first == "r" else "Is it blue?", "yes"),
                "hallucination": _half(
                    second, "Is it blue?" if second == "r" else "Is it red?", "no"
                ),
                "type": kind,
            }
            for first, second in videos
        ]
        write_json(folder / kind / f"{kind}.json", entries)
        for video in {name for pair in videos for name in pair}:
            clip = folder / kind / "videos" / f"{video}.mp4"
            encode_clip(clip, RED if video == "r" else BLUE)


def eventhallusion(folder: Path) -> None:
    """A clip of each kind; that of `misleading` has two questions."""
    for kind, colour, questions in (
        ("entire", RED, [("Is it blue?", "No.")]),
        ("interleave", BLUE, [("Is it blue?", "Yes.")]),
        ("misleading", BLUE, [("Is it red?", "No."), ("Is it green?", "No.")]),
    ):
        asked = [{"type": "hallucination", "question": q, "answer": a} for q, a in questions]
        entry = {"id": f"{kind}_001", "category": "x", "length": "00:01", "questions": asked}
        write_json(folder / "questions" / f"{kind}_questions.json", [entry])
        encode_clip(folder / kind / f"{kind}_001.mp4", colour)


def tempcompass(folder: Path) -> None:
    """Two clips in both files."""
    listed = "Which colour is it?\nA. red\nB. blue\nC. green"
    choices = {
        "1": {"action": [{"question": listed, "answer": "A. red"}]},
        "2": {"speed": [{"question": listed, "answer": "B. blue"}]},
    }
    both = {
        "1": {"action": [{"question": "Is it red?", "answer": "yes"}]},
        "2": {"speed": [{"question": "Is it red?", "answer": "no"}]},
    }
    write_json(folder / "questions" / "multi-choice.json", choices)
    write_json(folder / "questions" / "yes_no.json", both)
    encode_clip(folder / "videos" / "1.mp4", RED)
    encode_clip(folder / "videos" / "2.mp4", BLUE)


def nextqa(folder: Path) -> None:
    """Two clips, four questions of five options."""
    head = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n"
    rows = [
        f"{video},8,32,24,what colour is it,{place},{qid},{kind},red,blue,green,black,white\n"
        for video, place, qid, kind in (
            ("11", 0, 1, "CW"),
            ("11", 0, 2, "TN"),
            ("22", 1, 1, "DO"),
            ("22", 1, 2, "CH"),
        )
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "test.csv").write_text(head + "".join(rows), encoding="utf-8")
    encode_clip(folder / "11.mp4", RED)
    encode_clip(folder / "22.mp4", BLUE)


def mvbench(folder: Path) -> None:
    """A question in each list, on a clip of one name that lies in two folders."""
    accepted = load_task("mvbench").annotations
    assert accepted is not None
    for kind in (Path(name).stem for name in accepted.questions):
        red = kind in ("action_count", "character_order", "object_shuffle", "state_change")
        entry: dict[str, Any] = {
            "video": "video_1.mp4",
            "question": "Which colour is it?",
            "candidates": ["red", "blue"],
            "answer": "red" if red else "blue",
        }
        if kind == "action_sequence":
            entry |= {"start": 4.0, "end": 5.0}
        write_json(folder / "json" / f"{kind}.json", [entry])
    encode_clip(folder / "video" / "perception" / "videos" / "video_1.mp4", RED)
    for place in ("clevrer/video_validation", "star/Charades_v1_480"):
        encode_clip(folder / "video" / place / "video_1.mp4", BLUE)


def videomme(folder: Path) -> None:
    """Two rows about a clip, as Parquet."""
    row = {
        "video_id": "001", "duration": "short", "domain": "Knowledge", "sub_category": "x",
        "url": "x", "videoID": "fFjv93ACGo8", "task_type": "Counting Problem",
        "question": "Which colour is it?", "options": ["A. red", "B. blue", "C. green", "D. grey"],
    }  # fmt: skip
    rows = [
        row | {"question_id": "001-1", "answer": "A"},
        row | {"question_id": "001-2", "answer": "A"},
    ]
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "test-00000-of-00001.parquet")
    encode_clip(folder / "data" / "fFjv93ACGo8.mp4", RED)


def egoschema(folder: Path) -> None:
    """Three questions, of which two have a public answer."""
    questions = [
        {"q_uid": f"{at}-u", "google_drive_id": "x", "question": "Which colour is it?"}
        | {f"option {n}": text for n, text in enumerate(["red", "blue", "green", "grey", "white"])}
        for at in range(3)
    ]
    write_json(folder / "questions.json", questions)
    write_json(folder / "subset_answers.json", {"0-u": 0, "2-u": 1})
    encode_clip(folder / "0-u.mp4", RED)
    encode_clip(folder / "2-u.mp4", BLUE)
