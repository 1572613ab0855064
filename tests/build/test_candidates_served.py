"""Candidates through a served model: a chat server on loopback that sees pictures and seeds."""

from __future__ import annotations

import base64
import io
import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sharegptvideo._io import write_jsonl
from sharegptvideo.build import sample_candidates
from sharegptvideo.cli import app
from sharegptvideo.endpoint import EndpointOptions, ReplyStore
from sharegptvideo.errors import UserError
from sharegptvideo.media import sample_frames

QUESTIONS = ("What is it?", "Does it move?")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips of noise in the release layout, two questions each."""
    root = tmp_path_factory.mktemp("world")
    (root / "videos").mkdir()
    rows = []
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 256, (12, 48, 64, 3), dtype=np.uint8)
        with av.open(str(root / "videos" / f"clip{number}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=8)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for picture in noise:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
            container.mux(stream.encode())
        for at, question in enumerate(QUESTIONS):
            turns = [
                {"from": "human", "value": f"<video>\n{question}"},
                {"from": "gpt", "value": "A ball."},
            ]
            rows.append(
                {"id": f"clip{number}_{at}", "video": f"clip{number}", "conversations": turns}
            )
    write_jsonl(root / "video_instruction" / "train" / "qa" / "video_qa.jsonl", rows)
    captions = root / "video_instruction" / "train" / "pretrain"
    write_jsonl(captions / "video_caption_pretrain.jsonl", [])
    return root


def rows_of(world: Path) -> list[dict[str, Any]]:
    return [
        {
            "id": f"clip{number}_{at}",
            "video": f"clip{number}",
            "source": "release",
            "question": question,
            "answer": "A ball.",
            "video_path": str(world / "videos" / f"clip{number}.mp4"),
        }
        for number in range(3)
        for at, question in enumerate(QUESTIONS)
    ]


def echo(body: dict[str, Any]) -> str:
    """The question and the seed, so that an answer shows what it was asked."""
    return f"{body['messages'][0]['content'][-1]['text']} {body.get('seed')}"


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "candidates.jsonl").read_text().splitlines()]


def draw(world: Path, server: Any, out: Path, **options: Any) -> Any:
    given = {"base_url": server.url, "k": 3, "max_new_tokens": 9, "frames": 4} | options
    return sample_candidates(rows_of(world), "openai:seer", out, **given)


def test_pictures_question_and_a_seed_for_each_answer(
    world: Path, chat_server: Any, tmp_path: Path
) -> None:
    chat_server.answer, chat_server.models = echo, ["seer"]
    report = draw(world, chat_server, tmp_path, temperature=0.7, top_p=0.9, seed=5)
    assert (report.n_questions, report.n_failed, report.n_candidates) == (6, 0, 18)
    assert len(chat_server.requests) == 18
    seeds = {body["seed"] for body in chat_server.requests}
    assert len(seeds) == 3
    assert all(0 <= seed < 2**31 for seed in seeds)
    sent = {"model": "seer", "temperature": 0.7, "top_p": 0.9, "max_tokens": 9}
    assert all(body | sent == body for body in chat_server.requests)
    made = lines_of(tmp_path)
    assert [row["id"] for row in made] == [row["id"] for row in rows_of(world)]
    for row in made:
        assert {text.removeprefix(row["question"]) for text in row["candidates"]} == {
            f" {seed}" for seed in seeds
        }
    # The frames that were sent are those of the clip.
    clip, indices = sample_frames(rows_of(world)[0]["video_path"], 4)
    assert made[0]["frame_indices"] == list(indices)

    def shows_the_clip(body: dict[str, Any]) -> bool:
        *pictures, text = body["messages"][0]["content"]
        assert len(pictures) == 4
        data = base64.b64decode(pictures[1]["image_url"]["url"].split(",")[1])
        seen = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=float)
        asks = text == {"type": "text", "text": QUESTIONS[0]}
        return asks and np.abs(seen - clip[1]).mean() < 25 < np.abs(seen - clip[0]).mean()

    # Requests arrive in any order.
    assert sum(map(shows_the_clip, chat_server.requests)) == len(seeds)
    notes = json.loads((tmp_path / "candidates.json").read_text())
    assert notes["settings"]["model"] == "openai:seer"
    assert notes["settings"]["frames"] == 4
    assert notes["report"]["n_candidates"] == 18


def test_same_seed_from_the_cache_other_seed_asked(
    world: Path, chat_server: Any, tmp_path: Path
) -> None:
    chat_server.answer, chat_server.models = echo, ["seer"]
    options = EndpointOptions(cache=tmp_path / "replies.sqlite")
    for name, seed, asked in (("a", 1, 18), ("b", 1, 0), ("c", 2, 18)):
        before = len(chat_server.requests)
        draw(world, chat_server, tmp_path / name, seed=seed, endpoint=options)
        assert len(chat_server.requests) - before == asked
    assert lines_of(tmp_path / "a") == lines_of(tmp_path / "b") != lines_of(tmp_path / "c")


def test_what_was_answered_is_kept_when_the_endpoint_goes(
    world: Path, chat_server: Any, tmp_path: Path
) -> None:
    """The key is taken back after ten answers; the next run asks for the rest alone."""
    chat_server.models = ["seer"]
    answered = 0

    def until_ten(body: dict[str, Any]) -> str | tuple[int, dict[str, str], str]:
        nonlocal answered
        answered += 1
        if answered > 10:
            return 401, {}, json.dumps({"error": {"message": "bad key"}})
        return echo(body)

    chat_server.answer = until_ten
    # No cache: what is kept is what is in the file.
    options = EndpointOptions(cache=False, concurrency=1)
    with pytest.raises(UserError, match="bad key"):
        draw(world, chat_server, tmp_path / "out", endpoint=options)
    kept = lines_of(tmp_path / "out")
    assert len(kept) == 2  # those of the first clip; of the second's one has all its answers too
    assert all(len(row["candidates"]) == 3 for row in kept)
    chat_server.answer = echo
    before = len(chat_server.requests)
    assert draw(world, chat_server, tmp_path / "out", endpoint=options).n_candidates == 18
    assert len(chat_server.requests) - before == 8  # the tenth answer is kept too
    draw(world, chat_server, tmp_path / "whole", endpoint=options)
    assert lines_of(tmp_path / "out") == lines_of(tmp_path / "whole")
    # All there: the server is not even greeted.
    before = len(chat_server.requests)
    chat_server.models = None
    draw(world, chat_server, tmp_path / "out", endpoint=options)
    assert len(chat_server.requests) == before


def test_a_call_that_fails_leaves_its_question_alone_without_answers(
    world: Path, chat_server: Any, tmp_path: Path
) -> None:
    chat_server.models = ["seer"]

    def choosy(body: dict[str, Any]) -> str | tuple[int, dict[str, str], str]:
        text = echo(body)
        if text.startswith(QUESTIONS[1]):
            return 413, {}, json.dumps({"error": {"message": "too many pictures"}})
        return text

    chat_server.answer = choosy
    report = draw(world, chat_server, tmp_path)
    assert (report.n_failed, report.n_candidates) == (3, 9)
    assert all("too many pictures" in cause for cause in report.failures)
    chat_server.answer = echo
    assert draw(world, chat_server, tmp_path).n_failed == 0


def test_a_slow_answer_holds_up_no_other_and_the_order_stays(
    world: Path, chat_server: Any, tmp_path: Path
) -> None:
    """Of a question's answers one comes when all others have been asked for."""
    rows = [
        row | {"id": f"{row['id']}_{n}", "question": f"{row['question']} {n}"}
        for n in range(6)
        for row in rows_of(world)
    ]
    chat_server.models = ["seer"]
    asked, slow, last = Counter[str](), list[bool](), threading.Event()

    def answer(body: dict[str, Any]) -> str:
        question = body["messages"][0]["content"][-1]["text"]
        asked["all"] += 1
        asked[question] += 1
        if asked[question] == 2 and not slow:  # the first about a clip goes ahead of the others
            slow.append(False)
            slow[0] = last.wait(30)
        elif asked["all"] == 3 * len(rows):
            last.set()
        return echo(body)

    chat_server.answer = answer
    options = EndpointOptions(cache=False, concurrency=2)
    done: list[int] = []
    report = sample_candidates(
        rows,
        "openai:seer",
        tmp_path / "out",
        base_url=chat_server.url,
        send="pictures",
        k=3,
        frames=2,
        batch_size=6,
        endpoint=options,
        progress=lambda now, _total, _what: done.append(now),
    )
    assert slow == [True]
    assert report.n_candidates == 3 * len(rows)
    assert done == list(range(1, len(rows) + 1))
    by_clip = [row["id"] for n in range(3) for row in rows if row["video"] == f"clip{n}"]
    assert [row["id"] for row in lines_of(tmp_path / "out")] == by_clip


CUT = {
    "choices": [
        {"finish_reason": "length", "message": {"content": "A ba", "reasoning_content": "Hm"}}
    ]
}


def test_a_draw_that_fails_is_the_only_one_that_is_asked_again(
    world: Path, chat_server: Any, tmp_path: Path
) -> None:
    chat_server.models = ["seer"]
    seeds: list[int] = []

    def cut_one(body: dict[str, Any]) -> str | tuple[int, dict[str, str], str]:
        seeds.append(body["seed"])
        odd = echo(body).startswith(QUESTIONS[1]) and body["seed"] == seeds[0]
        return (200, {}, json.dumps(CUT)) if odd else echo(body)

    chat_server.answer = cut_one
    options = EndpointOptions(cache=False, concurrency=1)
    report = draw(world, chat_server, tmp_path / "out", endpoint=options)
    assert (report.n_failed, report.n_candidates) == (3, 9)
    failed = [row for row in lines_of(tmp_path / "out") if row["error"]]
    assert all("cut off at the limit of tokens" in row["error"] for row in failed)
    assert all(row["candidates"] == [] for row in failed)
    assert [(row["partial"], row["reasoning"]) for row in failed] == [
        (["A ba", None, None], ["Hm", None, None])
    ] * 3
    chat_server.answer, before = echo, len(chat_server.requests)
    lines: list[str] = []
    again = EndpointOptions(cache=False, report=lines.append)
    assert draw(world, chat_server, tmp_path / "out", endpoint=again).n_candidates == 18
    assert lines[0].startswith("ahead: 9 requests")  # of three questions; six answers are kept
    assert len(chat_server.requests) - before == 3
    draw(world, chat_server, tmp_path / "whole", endpoint=options)
    rows = {row["id"]: row for row in lines_of(tmp_path / "out")}
    assert list(rows.values()) == lines_of(tmp_path / "whole")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "candidates.json",
        "candidates.jsonl",
        "replies",
        "sittings.jsonl",
    ]


def test_no_answer_is_paid_for_twice_after_a_kill(
    world: Path, chat_server: Any, tmp_path: Path
) -> None:
    """Killed when the server has sent eight answers: the two under way are lost at most."""
    chat_server.models = ["seer"]
    words = [sys.executable, "-m", "sharegptvideo", "build", "candidates", "--input", str(world)]
    words += ["--model", "openai:seer", "--out", str(tmp_path / "out"), "--no-cache", "-k", "3"]
    words += ["--base-url", chat_server.url, "--concurrency", "2", "--split", "train+validation"]

    def deadly(body: dict[str, Any]) -> str:
        if len(chat_server.requests) > 8:
            process.kill()
        return echo(body)

    chat_server.answer = deadly
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert process.wait(timeout=120) == -signal.SIGKILL
    asked = {echo(body) for body in chat_server.requests}
    kept = list(ReplyStore(tmp_path / "out" / "replies"))
    assert len(kept) >= 8 - 2
    assert {reply.text for _, reply in kept} <= asked
    chat_server.answer, before = echo, len(chat_server.requests)
    subprocess.run(words, check=True, capture_output=True, timeout=120)
    assert len(chat_server.requests) - before == 18 - len(kept)
    assert {len(row["candidates"]) for row in lines_of(tmp_path / "out")} == {3}


def test_answers_that_an_earlier_version_kept_apart_are_left_with_a_line(
    world: Path, chat_server: Any, tmp_path: Path
) -> None:
    chat_server.answer, chat_server.models = echo, ["seer"]
    draws = tmp_path / "candidates_draws.jsonl"
    draws.write_text('{"id": "clip0_0", "number": 0, "text": "A ball."}\n')
    lines: list[str] = []
    options = EndpointOptions(cache=False, report=lines.append)
    assert draw(world, chat_server, tmp_path, endpoint=options).n_candidates == 18
    assert [line for line in lines if line.startswith(f"{draws}: ")]
    assert draws.is_file()


def test_a_seed_that_is_refused_is_left_out_and_told(
    world: Path, chat_server: Any, tmp_path: Path
) -> None:
    chat_server.models = ["seer"]

    def without_seed(body: dict[str, Any]) -> str | tuple[int, dict[str, str], str]:
        if "seed" in body:
            return 400, {}, json.dumps({"error": {"message": "Unknown parameter: 'seed'"}})
        return f"answer {len(chat_server.requests)}"

    chat_server.answer = without_seed
    report = draw(world, chat_server, tmp_path)
    assert report.refused == ["seed"]
    assert report.n_candidates == 18
    assert all(len(set(row["candidates"])) == 3 for row in lines_of(tmp_path))


def test_the_command(
    world: Path, chat_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat_server.answer, chat_server.models = echo, ["seer"]
    words = ["build", "candidates", "--input", str(world), "--model", "openai:seer", "-k", "2"]
    words += ["--out", str(tmp_path / "loop"), "--frames", "2", "--split", "train+validation"]
    result = CliRunner().invoke(app, [*words, "--json", "--base-url", chat_server.url])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["n_candidates"] == 12
    assert "ahead: 12 requests" in result.stderr
    assert {len(row["candidates"]) for row in lines_of(tmp_path / "loop")} == {2}
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    for more, cause in (
        ([], "endpoint"),
        (["--base-url", chat_server.url, "--frames", "3"], "frames 2 there, 3 here"),
        (["--base-url", chat_server.url, "--batch-api"], "--batch-api is for verdicts"),
    ):
        result = CliRunner().invoke(app, [*words, *more])
        assert result.exit_code == 2
        assert cause in result.stderr


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("openai:", {}, "write openai:NAME"),
        ("openai:seer", {"frames": 0}, "frames must be at least 1, got 0"),
        ("folder", {"base_url": "http://127.0.0.1:9/v1"}, "a base URL is for served models"),
    ],
)
def test_what_does_not_go_together(
    world: Path, tmp_path: Path, model: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        sample_candidates(rows_of(world), model, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
