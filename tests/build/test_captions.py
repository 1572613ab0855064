"""Captions of clips: each of its own frames, by any model; what cannot be read is listed."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from sharegptvideo import load_dataset
from sharegptvideo._io import read_jsonl, write_jsonl
from sharegptvideo.build.captions import CaptionStage, caption_wording
from sharegptvideo.build.clips import clips_in_folder, clips_of_rows, with_titles
from sharegptvideo.build.engines import run_stage
from sharegptvideo.build.model_stage import ModelChoice
from sharegptvideo.build.qa import QaStage
from sharegptvideo.cli import app
from sharegptvideo.endpoint.messages import frame_urls
from sharegptvideo.errors import UserError
from sharegptvideo.media import sample_frames
from sharegptvideo.models import Request, SamplingParams, VideoLlavaModel
from tests.support.training_fixtures import write_clip
from tests.support.vlm_scenes import Scene, code_of
from tests.support.vlm_server import VlmServer
from tests.support.warm_python import WarmPython


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Four clips of a colour each, one of them below a folder, and a file that is none."""
    root = tmp_path / "media"
    (root / "more").mkdir(parents=True)
    for number, name in enumerate(("a", "b", "c", "more/d")):
        write_clip(root / f"{name}.mp4", (40 * number, 255 - 40 * number, 90))
    (root / "broken.mp4").write_text("no video")
    return root


def lines_of(out: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for _, row in read_jsonl(out / "captions.jsonl")}


def build(out: Path, *options: str) -> Any:
    return CliRunner().invoke(app, ["build", "captions", "--out", str(out), *options])


def expected(path: Path, frames: int = 10) -> str:
    """The caption that the fake model gives of a clip's own pictures."""
    return Scene(code_of(frame_urls(sample_frames(path, frames).frames))).caption()


def test_each_clip_has_a_caption_of_its_own_frames(
    clips: Path, vlm_server: VlmServer, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    served = ("--model", "openai:vlm", "--base-url", vlm_server.url, "--send", "pictures")
    result = build(out, "--videos", str(clips), *served, "--json")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert (figures["n_rows"], figures["n_made"], figures["n_failed"]) == (5, 4, 1)
    assert figures["failures"] == {"cannot be read as a video (this is text, not a video)": 1}
    made = lines_of(out)
    assert list(made) == ["a", "b", "broken", "c", "more/d"]
    for name in ("a", "b", "c", "more/d"):
        assert made[name]["caption"] == expected(clips / f"{name}.mp4")
        about = made[name]["made"]
        assert about["frame_indices"] == list(sample_frames(clips / f"{name}.mp4", 10).indices)
        assert about["answered_by"] == ["vlm-fake"]
        assert about["tokens"]["prompt"] > 0
    assert made["broken"]["caption"] is None
    assert made["broken"]["made"]["parents"] == ["broken"]

    dataset = load_dataset("captions", data_dir=out, media=clips)
    assert {row["id"]: row["caption"] for row in dataset} == {
        name: row["caption"] for name, row in made.items() if row["caption"]
    }
    assert {row["video_path"] for row in dataset} == {
        str(clips / f"{name}.mp4") for name in ("a", "b", "c", "more/d")
    }

    # The same command asks for nothing; only the clip that was repaired is asked about.
    before = vlm_server.report()
    write_clip(clips / "broken.mp4", (1, 2, 3))
    assert build(out, "--videos", str(clips), *served).exit_code == 0
    report = vlm_server.report()
    assert report.paid.total() == before.paid.total() + 1 == 5
    assert lines_of(out)["broken"]["caption"] == expected(clips / "broken.mp4")


def test_frames_and_prompt_are_part_of_the_settings(
    clips: Path, vlm_server: VlmServer, tmp_path: Path
) -> None:
    served = ("--model", "openai:vlm", "--base-url", vlm_server.url, "--send", "pictures")
    options = ("--videos", str(clips), *served, "--limit", "1")
    assert build(tmp_path / "out", *options, "--frames", "3").exit_code == 0
    made = lines_of(tmp_path / "out")["a"]
    assert made["caption"] == expected(clips / "a.mp4", 3)
    result = build(tmp_path / "out", *options, "--frames", "4")
    assert (result.exit_code, "frames 3 there, 4 here" in result.stderr) == (2, True), result.stderr
    own = tmp_path / "own.yaml"
    own.write_text("version: 7\nuser: Describe it.\nprompts: [Look at it.]\n")
    result = build(tmp_path / "out", *options, "--frames", "3", "--prompt", str(own))
    assert (result.exit_code, "prompt_version" in result.stderr) == (2, True), result.stderr
    assert build(tmp_path / "own", *options, "--prompt", str(own)).exit_code == 0
    row = lines_of(tmp_path / "own")["a"]
    assert (row["prompt"], row["made"]["prompt_version"]) == ("Look at it.", 7)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("version: 1\nuser: Hi.\n", "prompts: Field required"),
        ("version: 1\nuser: Hi {name}.\nprompts: [a]\n", "user: has no place but {about}"),
        ("version: 1\nuser: ' '\nprompts: [a]\n", "user: is empty"),
        ("version: 1\nuser: Hi.\nabout: x\nprompts: [a]\n", "about: has to hold {material}"),
        ("version: 1\nuser: Hi.\nprompts: []\n", "prompts: needs at least one prompt"),
        ("version: 1\nuser: Hi.\nprompts: [a]\nusers: x\n", "users: "),
        ("- a\n", "needs one key: value a line"),
    ],
)
def test_a_prompt_file_with_a_mistake(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        caption_wording(file)
    assert str(error.value).startswith(f"{file}: ")
    assert problem in str(error.value)


def test_titles_and_tags_are_shown_to_the_model(
    clips: Path, chat_server: Any, tmp_path: Path
) -> None:
    titles = tmp_path / "titles.csv"
    titles.write_text('video,title,tags\na.mp4,"A ```ball```","ball, red"\nmore/d,,x\nzzz,Z,\n')
    chat_server.answer, chat_server.models = lambda _: "At first it waits, then it runs.", ["m"]
    options = ("--videos", str(clips), "--model", "openai:m", "--base-url", chat_server.url)
    options = (*options, "--no-gate", "all")
    result = build(tmp_path / "out", *options, "--titles", str(titles))
    assert result.exit_code == 0, result.output
    assert "1 name of no video here: zzz" in result.stderr
    texts = [body["messages"][0]["content"][-1]["text"] for body in chat_server.requests]
    assert sum('"title": "A \\u0060\\u0060\\u0060ball' in text for text in texts) == 1
    assert sum('"tags": "ball, red"' in text for text in texts) == 1
    assert sum('"tags": "x"' in text for text in texts) == 1
    assert sum("owner wrote" in text for text in texts) == 2
    made = lines_of(tmp_path / "out")
    assert (made["a"]["title"], made["a"]["tags"]) == ("A ```ball```", ["ball", "red"])
    assert "title" not in made["b"]

    # Another title makes another caption, and leaves the others alone.
    titles.write_text("video,title\na,A cube\n")
    chat_server.requests.clear()
    build(tmp_path / "out", *options, "--titles", str(titles), "--no-cache")
    assert len(chat_server.requests) == 2  # `a` has another, `more/d` has none any more


def test_what_a_gate_flags_is_left_out_or_marked(
    clips: Path, chat_server: Any, tmp_path: Path
) -> None:
    said = iter(
        (
            "At first a dog waits by a fence; then it jumps over it and runs away.",
            "I'm sorry, but I cannot describe this video for you.",
            "Ein Hund wartet und dann springt er über den Zaun und läuft schnell weg.",
            "A cat walks through a kitchen, then climbs onto the table and drinks.",
        )
    )
    chat_server.answer, chat_server.models = lambda _: next(said), ["m"]
    options = ["--videos", str(clips), "--model", "openai:m", "--base-url", chat_server.url]
    options += ["--concurrency", "1"]
    result = build(tmp_path, *options)
    assert result.exit_code == 0, result.output
    assert "flagged: refusal (1 of 4 rows)" in result.stderr
    assert "flagged: language (1 of 4 rows)" in result.stderr
    rows = load_dataset("captions", data_dir=tmp_path)
    assert len(rows) == 2
    flagged = {row["id"]: row["gates"] for _, row in read_jsonl(tmp_path / "captions_gates.jsonl")}
    assert sorted(gates[0] for gates in flagged.values()) == ["language", "refusal"]
    assert flagged.keys().isdisjoint(rows["id"])

    assert build(tmp_path, *options, "--no-gate", "language,no-change").exit_code == 0
    assert len(load_dataset("captions", data_dir=tmp_path)) == 3
    assert build(tmp_path, *options, "--keep-all").exit_code == 0
    assert len(load_dataset("captions", data_dir=tmp_path)) == 4
    (file,) = (tmp_path / "video_instruction").rglob("*.jsonl")
    assert {row["id"]: row["made"]["flags"] for _, row in read_jsonl(file)} == {
        name: flagged.get(name, []) for name in lines_of(tmp_path) if name != "broken"
    }
    result = build(tmp_path, *options, "--no-gate", "languages")
    assert (result.exit_code, "did you mean language?" in result.stderr) == (2, True)
    assert len(chat_server.requests) == 4


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("t.csv", "title\nx\n", "t.csv:1: no column 'video'"),
        ("t.csv", "video,title\na,b,c\n", "t.csv:2: not 2 values"),
        ("t.csv", "video,title\na,b\na,c\n", "row 2: a comes twice"),
        ("t.jsonl", '{"title": "x"}\n', "t.jsonl:1: no 'video'"),
        ("t.jsonl", '{"video": "a", "tags": [1]}\n', "t.jsonl:1: 'tags' must be a list of texts"),
        ("t.jsonl", '{"video": "a", "title": 1}\n', "t.jsonl:1: 'title' must be a text"),
        ("t.txt", "", "read from .jsonl and .csv"),
    ],
)
def test_titles_with_a_mistake(
    clips: Path, tmp_path: Path, name: str, text: str, problem: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError) as error:
        with_titles(clips_in_folder(clips), tmp_path / name)
    assert problem in str(error.value)


def test_clips_of_a_folder(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.webm", "b.MKV", ".hidden.mp4", "x/c.mp4", "x/frames/f_1.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "notes.txt").write_text("")
    rows = list(clips_in_folder(tmp_path))
    assert [row["id"] for row in rows] == ["a.mp4", "a.webm", "b", "x/c", "x/frames"]
    assert [Path(row["video_path"]).relative_to(tmp_path).as_posix() for row in rows] == [
        "a.mp4", "a.webm", "b.MKV", "x/c.mp4", "x/frames"
    ]  # fmt: skip
    assert len(clips_in_folder(tmp_path, 2)) == 2
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="no videos in it"):
        clips_in_folder(empty)
    with pytest.raises(UserError, match="no such folder"):
        clips_in_folder(tmp_path / "nowhere")
    with pytest.raises(UserError, match="a file, not a folder"):
        clips_in_folder(tmp_path / "notes.txt")


def test_rows_of_a_release_name_clips(shared_data: Path, tmp_path: Path) -> None:
    clips = clips_of_rows(shared_data / "release", media=shared_data)
    by_id = {row["id"]: row for row in clips}
    assert Path(by_id["baby_reading"]["video_path"]).name == "baby_reading.mp4"
    assert len(clips) == len({row["video"] for row in clips})
    write_jsonl(tmp_path / "own.jsonl", [{"video": "baby_reading", "tags": ["x"]}, {"video": "no"}])
    first, second = clips_of_rows(tmp_path / "own.jsonl", media=shared_data)
    assert (first["id"], first["tags"], second["video_path"]) == ("baby_reading", ["x"], None)
    with pytest.raises(UserError, match="no such file or folder"):
        clips_of_rows(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        ("", "an empty answer"),
        (" \n", "an empty answer"),
        ("A <video> of a dog.", "holds a mark of clips"),
    ],
)
def test_what_is_no_caption_fails_with_its_cause(
    clips: Path, chat_server: Any, tmp_path: Path, answer: str, cause: str
) -> None:
    chat_server.answer, chat_server.models = lambda _: answer, ["m"]
    options = ("--videos", str(clips), "--model", "openai:m", "--base-url", chat_server.url)
    result = build(tmp_path / "out", *options)
    assert result.exit_code == 1
    assert cause in result.stderr
    assert "error: nothing was made" in result.stderr
    assert not (tmp_path / "out" / "captions").exists()


def test_a_function_gets_the_frames_of_the_real_clips(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "seeing.py").write_text(
        "import hashlib\n"
        "def caption(frames, prompt):\n"
        "    assert 'in one detailed caption' in prompt\n"
        "    digest = hashlib.sha256(b''.join(frame.tobytes() for frame in frames))\n"
        "    return f'{len(frames)} {digest.hexdigest()}'\n"
    )
    monkeypatch.chdir(tmp_path)
    videos = tmp_path / "videos"
    videos.mkdir()
    for clip in (shared_data / "videos").iterdir():
        shutil.copy(clip, videos)
    stage = CaptionStage(ModelChoice("python:seeing:caption"))
    report = run_stage(stage, clips_in_folder(videos), tmp_path / "out")
    assert (report.n_rows, report.n_made) == (3, 3)
    for name, row in lines_of(tmp_path / "out").items():
        frames = sample_frames(videos / f"{name}.mp4", 10).frames
        assert row["caption"] == f"10 {hashlib.sha256(frames.tobytes()).hexdigest()}"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--model", "openai:m"], "give --videos (a folder) or --input"),
        (["--model", "openai:m", "--input", "."], "has videos and no rows; give it as --videos"),
        (["--model", "predictions:x", "--videos", "."], "a file of answers answers nothing new"),
        (
            ["--model", "opnai:m", "--videos", "."],
            "unknown kind of model 'opnai'; did you mean openai?",
        ),
        (["--model", "openai:m", "--videos", ".", "--media", "."], "--media goes with --input"),
        (["--model", "openai:m", "--videos", ".", "--actors", "2"], "are for --engine ray"),
        (["--model", "python:a:b", "--videos", ".", "--base-url", "http://x"], "served models"),
        (["--model", "openai:m", "--videos", ".", "--frames", "0"], "--frames"),
        (["--model", "openai:m", "--videos", ".", "--prompt", "no.yaml"], "no.yaml"),
    ],
)
def test_mistakes_end_in_a_line(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], problem: str
) -> None:
    monkeypatch.chdir(clips)
    result = build(tmp_path / "out", *options)
    assert result.exit_code == 2, result.output
    assert problem in result.output
    assert not (tmp_path / "out").exists()


def test_a_clip_that_was_replaced_is_captioned_anew(
    clips: Path, vlm_server: VlmServer, tmp_path: Path
) -> None:
    """Its name is the same; a clip that was only moved is not."""
    out = tmp_path / "out"
    stage = CaptionStage(ModelChoice("openai:vlm", base_url=vlm_server.url, send="pictures"))
    run_stage(stage, clips_in_folder(clips), out)
    before, paid = lines_of(out), vlm_server.report().paid.total()

    moved = clips.rename(tmp_path / "moved")
    run_stage(stage, clips_in_folder(moved), out)
    assert vlm_server.report().paid.total() == paid

    name = next(name for name, row in before.items() if row["error"] is None)
    write_clip(moved / f"{name}.mp4", (200, 10, 10), frames=31)
    run_stage(stage, clips_in_folder(moved), out)
    assert vlm_server.report().paid.total() == paid + 1
    after = lines_of(out)
    assert after[name]["caption"] != before[name]["caption"]
    assert {k: v for k, v in after.items() if k != name} == {
        k: v for k, v in before.items() if k != name
    }


def test_kills_pay_for_nothing_twice(
    vlm_server: VlmServer, warm_python: WarmPython, tmp_path: Path
) -> None:
    """Killed with `kill -9` while calls are under way, with no cache but the folder's own store."""
    count, at_once, kills = 40, 8, 4
    for number in range(count):
        folder = tmp_path / "media" / f"clip{number:02}"
        folder.mkdir(parents=True)
        for frame in range(2):
            Image.new("RGB", (16, 16), (3 * number, 255 - 3 * number, 90 * frame)).save(
                folder / f"f_{frame}.png"
            )
    vlm_server.change(latency_s=0.05)
    command = ["-m", "sharegptvideo", "build", "captions", "--videos", str(tmp_path / "media")]
    command += ["--model", "openai:vlm", "--base-url", vlm_server.url, "--send", "pictures"]
    command += ["--concurrency", str(at_once), "--no-cache", "--no-gate", "all"]
    out = tmp_path / "out"
    draw = random.Random(0)
    for _ in range(kills):
        process = warm_python.start(*command, "--out", str(out))
        goal = vlm_server.report().paid.total() + draw.randint(1, 6)
        while process.poll() is None and vlm_server.report().paid.total() < goal:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL, "the work was done before it was killed"
    done = warm_python.run(*command, "--out", str(out))
    assert done.returncode == 0, done.stderr
    report = vlm_server.report()
    assert len(report.paid) == count
    assert report.repeats <= kills * at_once
    made = lines_of(out)
    assert len(made) == count
    assert len((out / "captions.jsonl").read_text().splitlines()) == count
    for name, row in made.items():
        assert row["caption"] == expected(tmp_path / "media" / name)
    again = warm_python.run(*command, "--out", str(tmp_path / "whole"))
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "whole" / "captions.jsonl").read_bytes() == (
        out / "captions.jsonl"
    ).read_bytes()


def test_a_tiny_model_of_this_machine_captions_and_asks(
    tiny: Path, shared_data: Path, tmp_path: Path
) -> None:
    """Video-LLaVA at its smallest, on the real clips: its words are random, its ways are not."""
    own = tmp_path / "own.yaml"
    own.write_text("version: 1\nuser: Describe the video.\nprompts: [Describe it.]\n")
    options = ("--videos", str(shared_data / "videos"), "--model", f"hf:{tiny}")
    options = (*options, "--prompt", str(own), "--max-new-tokens", "12", "--no-gate", "all")
    first, second = tmp_path / "first", tmp_path / "second"
    result = build(first, *options)
    assert result.exit_code in {0, 1}, result.output
    made = lines_of(first)
    assert len(made) == 3
    model = VideoLlavaModel(str(tiny), device="cpu")
    assert model.frames is not None
    for name, row in made.items():
        frames, indices = sample_frames(shared_data / "videos" / f"{name}.mp4", model.frames)
        request = Request("Describe the video.", frames)
        (answer,) = model.generate([request], SamplingParams(max_new_tokens=12))
        assert row["made"]["frame_indices"] == list(indices)
        assert (row["caption"] or "") == answer.text
    build(second, *options)
    assert (second / "captions.jsonl").read_bytes() == (first / "captions.jsonl").read_bytes()

    asked = run_stage(
        QaStage(ModelChoice(str(tiny), SamplingParams(max_new_tokens=8))),
        [{"id": "a", "video": "a", "source": None, "caption": "A red ball rolls."}],
        tmp_path / "qa",
    )
    (cause,) = asked.failures
    assert asked.n_failed == 1
    assert "cannot be read" in cause or "leaves no room" in cause
