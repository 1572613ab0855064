"""Drawing candidates with a tiny random model and clips written here."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from sharegptvideo.build import sample_candidates
from sharegptvideo.errors import UserError
from sharegptvideo.media import sample_frames
from sharegptvideo.models import Request, SamplingParams, build_tiny, open_model
from tests.support.warm_python import WarmPython

QUESTIONS = ("What colour is it?", "Does it move?", "How many are there?")


def write_clip(path: Path, seed: int, frames: int = 12) -> Path:
    noise = np.random.default_rng(seed).integers(0, 256, (frames, 48, 64, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for picture in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [*QUESTIONS, "It is a red ball that rolls to the left.", "Yes.", "Two."]
    return build_tiny(texts, tmp_path_factory.mktemp("model") / "tiny", seed=0, size="tiny")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Three questions on each of four clips, the clips' questions mixed."""
    folder = tmp_path_factory.mktemp("clips")
    clips = [write_clip(folder / f"clip{n}.mp4", seed=n) for n in range(4)]
    return [
        {
            "id": f"{clip.stem}_{number}",
            "video": clip.stem,
            "source": "release",
            "question": question,
            "answer": "Red.",
            "caption": f"About {clip.stem}.",
            "video_path": str(clip),
        }
        for number, question in enumerate(QUESTIONS)
        for clip in clips
    ]


def lines_of(folder: Path) -> dict[str, Any]:
    lines = (folder / "candidates.jsonl").read_text().splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def draw(rows: Any, model: Path, out: Path, **options: Any) -> Any:
    return sample_candidates(rows, model, out, **{"max_new_tokens": 8, "batch_size": 24} | options)


def test_rows_hold_the_models_answers_and_the_frames_shown(
    rows: list[dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    seen: list[tuple[int, int, str]] = []
    report = draw(rows, model, tmp_path, seed=3, progress=lambda *now: seen.append(now))
    assert (report.n_questions, report.n_videos, report.n_failed) == (12, 4, 0)
    assert report.n_candidates == 72
    assert seen == [(number, 12, "candidates") for number in range(1, 13)]
    made = lines_of(tmp_path)
    assert set(made) == {row["id"] for row in rows}
    loaded = open_model(f"hf:{model}")
    assert loaded.frames == 4
    params = SamplingParams(6, temperature=1.0, top_p=0.95, max_new_tokens=8, seed=3)
    for row in (rows[0], rows[7]):
        frames, indices = sample_frames(row["video_path"], 4)
        (expected,) = loaded.generate([Request(row["question"], frames)], params)
        assert made[row["id"]]["candidates"] == [*expected.texts]
        assert made[row["id"]]["frame_indices"] == list(indices)
        assert made[row["id"]]["caption"] == row["caption"]
    assert len({text for row in made.values() for text in row["candidates"]}) > 36


def test_each_clip_is_decoded_once(
    rows: list[dict[str, Any]], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def counted(video: str, n: int) -> Any:
        opened.append(video)
        return sample_frames(video, n)

    monkeypatch.setattr("sharegptvideo.media.sample_frames", counted)
    draw(rows, model, tmp_path, batch_size=12)
    assert sorted(opened) == sorted({row["video_path"] for row in rows})


def test_same_seed_same_candidates_other_seed_others(
    rows: list[dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    for name, seed, batch in (("a", 1, 24), ("b", 1, 6), ("c", 2, 24)):
        draw(rows[:4], model, tmp_path / name, seed=seed, batch_size=batch)
    drawn = {name: lines_of(tmp_path / name) for name in "abc"}
    assert drawn["a"] == drawn["b"]
    assert all(drawn["a"][i]["candidates"] != drawn["c"][i]["candidates"] for i in drawn["a"])


def test_bad_clips_are_kept_as_failed_and_tried_again(
    rows: list[dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_text("not a video")
    changed = [dict(row) for row in rows[:3]]
    changed[0]["video_path"] = None
    changed[1]["video_path"] = str(broken)
    report = draw(changed, model, tmp_path / "out")
    assert (report.n_questions, report.n_failed, report.n_candidates) == (3, 2, 6)
    made = lines_of(tmp_path / "out")
    assert made["clip0_0"]["error"] == "no media found for clip0"
    assert "broken.mp4" in made["clip1_0"]["error"]
    assert made["clip0_0"]["candidates"] == made["clip1_0"]["candidates"] == []
    before = made["clip2_0"]
    assert draw(rows[:3], model, tmp_path / "out").n_failed == 0
    draw(rows[:3], model, tmp_path / "whole")
    assert lines_of(tmp_path / "out") == lines_of(tmp_path / "whole")
    assert lines_of(tmp_path / "out")["clip2_0"] == before


def test_a_question_too_long_for_the_model_fails_alone(
    rows: list[dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    long = dict(rows[0]) | {"id": "long", "question": "What colour is it? " * 5000}
    report = draw([long, *rows[:2]], model, tmp_path)
    assert (report.n_failed, report.n_candidates) == (1, 12)
    assert "positions" in lines_of(tmp_path)["long"]["error"]


def test_changed_question_is_drawn_again_the_rest_is_not(
    rows: list[dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    draw(rows[:2], model, tmp_path)
    before = lines_of(tmp_path)
    draw([dict(rows[0]) | {"question": "Why?"}, rows[1]], model, tmp_path)
    assert lines_of(tmp_path)[rows[0]["id"]]["question"] == "Why?"
    assert lines_of(tmp_path)[rows[1]["id"]] == before[rows[1]["id"]]
    sittings = [json.loads(line) for line in (tmp_path / "sittings.jsonl").open()]
    assert [sitting["rows"] for sitting in sittings if "seconds" in sitting] == [2, 1]


def test_rows_say_what_made_them(rows: list[dict[str, Any]], model: Path, tmp_path: Path) -> None:
    draw(rows[:2], model, tmp_path, seed=3)
    for row in lines_of(tmp_path).values():
        made = row["made"]
        assert (made["stage"], made["version"], made["parents"]) == ("candidates", 1, [row["id"]])
        assert made["model"] == f"hf:{model}"
        assert made["frame_indices"] == row["frame_indices"]
        assert made["sampling"] == {
            "temperature": 1.0, "top_p": 0.95, "max_new_tokens": 8, "seed": 3
        }  # fmt: skip
        assert (made["engine"], made["attempts"], made["dollars"]) == ("local", 0, None)


def test_candidates_of_a_version_without_provenance_are_gone_on_with(
    rows: list[dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    """The folder as it was: rows without `made`, settings that are the same to this day."""
    draw(rows, model, tmp_path / "new")
    notes = json.loads((tmp_path / "new" / "candidates.json").read_text())
    assert sorted(notes["settings"]) == [
        "frames", "k", "max_new_tokens", "seed", "temperature", "top_p", "weights_sha256"
    ]  # fmt: skip
    old = [
        {k: v for k, v in row.items() if k != "made"} for row in lines_of(tmp_path / "new").values()
    ]
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "candidates.json").write_text(json.dumps(notes | {"report": None}))
    lines = "".join(json.dumps(row) + "\n" for row in old[:7])
    (tmp_path / "old" / "candidates.jsonl").write_text(lines)
    report = draw(rows, model, tmp_path / "old")
    assert (report.n_questions, report.n_videos, report.n_candidates) == (12, 4, 72)
    made = list(lines_of(tmp_path / "old").values())
    assert made[:7] == old[:7]
    assert made[7:] == list(lines_of(tmp_path / "new").values())[7:]


def test_settings_are_not_mixed(rows: list[dict[str, Any]], model: Path, tmp_path: Path) -> None:
    draw(rows[:1], model, tmp_path / "out")
    before = (tmp_path / "out" / "candidates.jsonl").read_bytes()
    with pytest.raises(UserError, match=r"temperature 1\.0 there, 0\.5 here"):
        draw(rows[:1], model, tmp_path / "out", temperature=0.5)
    other = build_tiny(["Other words."], tmp_path / "other", seed=9, size="tiny")
    with pytest.raises(UserError, match="weights_sha256"):
        draw(rows[:1], other, tmp_path / "out")
    assert (tmp_path / "out" / "candidates.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, got 0"),
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ({"top_p": 1.5}, "top_p must be above 0 and at most 1, got 1.5"),
        ({"frames": 0}, "frames must be at least 1, got 0"),
        ({"frames": 8}, "was made for 4 frames"),
        ({"base_url": "http://127.0.0.1:9/v1"}, "a base URL is for served models"),
        ({"engine": "loca"}, "unknown engine 'loca'; did you mean local"),
    ],
)
def test_settings_out_of_range(
    rows: list[dict[str, Any]], model: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        draw(rows[:1], model, tmp_path / "out", **change)
    assert not (tmp_path / "out").exists()


def test_unusable_rows(rows: list[dict[str, Any]], model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="row 2: duplicate id"):
        draw([rows[0], rows[0]], model, tmp_path / "out")
    with pytest.raises(UserError, match=r"row 1 \(x\): no question"):
        draw([dict(rows[0]) | {"id": "x", "question": ""}], model, tmp_path / "out")
    with pytest.raises(UserError, match="no questions"):
        draw([], model, tmp_path / "out")
    with pytest.raises(UserError, match="no checkpoint"):
        draw(rows[:1], tmp_path / "absent", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_killed_run_ends_like_an_unbroken_one(
    rows: list[dict[str, Any]], model: Path, tmp_path: Path, warm_python: WarmPython
) -> None:
    """The process gets SIGKILL once a tenth of the questions are on disk."""
    rows = [row | {"id": f"{row['id']}_{n}"} for row in rows for n in range(5)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    script = f"""
import json
from pathlib import Path
from sharegptvideo.build import sample_candidates
rows = json.loads(Path({str(tmp_path / "rows.json")!r}).read_text())
sample_candidates(
    rows, {str(model)!r}, Path({str(tmp_path / "out")!r}), max_new_tokens=8, batch_size=6
)
"""
    process = warm_python.start("-c", script)
    log = tmp_path / "out" / "candidates.jsonl"
    while process.poll() is None:
        if log.exists() and log.read_bytes().count(b"\n") >= 6:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.001)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    assert 6 <= log.read_bytes().count(b"\n") < 60
    with log.open("a") as file:
        file.write('{"id": "torn line')
    draw(rows, model, tmp_path / "out", batch_size=6)
    draw(rows, model, tmp_path / "whole", batch_size=6)
    assert lines_of(tmp_path / "out") == lines_of(tmp_path / "whole")


def test_a_function_of_the_users_gives_candidates(
    rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Called once for each answer, with as many frames as asked for, each clip decoded once."""
    (tmp_path / "counting_model.py").write_text(
        "calls = []\n"
        "def answer(frames, question):\n"
        "    calls.append(id(frames[0].base))\n"
        "    return f'{len(frames)} frames, call {len(calls)}: {question}'\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = "python:counting_model:answer"
    report = sample_candidates(rows, spec, tmp_path / "out", k=2, frames=3)
    assert (report.n_failed, report.n_candidates) == (0, 24)
    made = lines_of(tmp_path / "out")
    texts = [text for row in made.values() for text in row["candidates"]]
    assert texts == [
        f"3 frames, call {number}: {row['question']}"
        for number, row in enumerate((row for row in made.values() for _ in range(2)), start=1)
    ]
    assert all(len(row["frame_indices"]) == 3 for row in made.values())
    settings = json.loads((tmp_path / "out" / "candidates.json").read_text())["settings"]
    assert (settings["model"], settings["frames"], settings["k"]) == (spec, 3, 2)
    with pytest.raises(UserError, match="frames 3 there, 8 here"):
        sample_candidates(rows, spec, tmp_path / "out", k=2)


def test_a_file_of_predictions_gives_one_candidate(
    rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    file = tmp_path / "answers.jsonl"
    lines = [{"id": row["id"], "prediction": f"to {row['id']}"} for row in rows[:11]]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    spec = f"predictions:{file}"
    with pytest.raises(UserError, match="one answer to a question; take -k 1"):
        sample_candidates(rows, spec, tmp_path / "out")
    report = sample_candidates(rows, spec, tmp_path / "out", k=1)
    assert (report.n_candidates, report.failures) == (11, {"no prediction in answers.jsonl": 1})
    made = lines_of(tmp_path / "out")
    assert made[rows[0]["id"]]["candidates"] == [f"to {rows[0]['id']}"]


def test_a_mistake_in_a_kind_is_one_line(
    rows: list[dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    for spec, message in (
        ("python:nowhere_at_all:f", "cannot import nowhere_at_all"),
        ("predictions:nowhere.jsonl", r"nowhere.jsonl: cannot be read"),
        (f"hf:{tmp_path}", "no checkpoint there"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            sample_candidates(rows, spec, tmp_path / "out")
        assert "\n" not in str(caught.value)
    draw(rows[:1], model, tmp_path / "plain")
    draw(rows[:1], Path(f"hf:{model}"), tmp_path / "kind")
    assert lines_of(tmp_path / "plain") == lines_of(tmp_path / "kind")
