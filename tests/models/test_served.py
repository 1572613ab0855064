"""Clips for served models: as one video where the server takes it, each clip's first call ahead."""

from __future__ import annotations

import base64
import io
import json
import signal
import subprocess
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sharegptvideo.build import sample_candidates
from sharegptvideo.cli import app
from sharegptvideo.endpoint import EndpointOptions
from sharegptvideo.endpoint.options import Clock
from sharegptvideo.errors import UserError
from sharegptvideo.eval import run_evaluation
from sharegptvideo.models import Question, Request, SamplingParams, open_model
from sharegptvideo.models.batches import answer_batch, answer_batches
from sharegptvideo.models.served import ServedModel

Reply = str | tuple[int, dict[str, str], str]
NO_CACHE = EndpointOptions(cache=False)


def counted(text: str, prompt: int, cached: int | None = None) -> Reply:
    """An answer with the tokens of its prompt, and those of the prefix cache."""
    usage: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": 2}
    usage["total_tokens"] = prompt + 2
    if cached is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": cached}
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return 200, {}, json.dumps({"model": "seer", "choices": [choice], "usage": usage})


def refusal(status: int, message: str) -> Reply:
    return status, {}, json.dumps({"error": {"message": message}})


def parts_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    content = body["messages"][0]["content"]
    return [*content] if isinstance(content, list) else [{"type": "text", "text": content}]


def frames_of(body: dict[str, Any]) -> list[str]:
    """The JPEGs of a video, in base64; none where there is no video."""
    first = parts_of(body)[0]
    if first["type"] != "video_url":
        return []
    head, *frames = first["video_url"]["url"].split(",")
    assert head == "data:video/jpeg;base64"
    return frames


def seer(body: dict[str, Any]) -> Reply:
    """Sixty-four tokens a frame, and names the colour of the first."""
    frames = frames_of(body)
    text = parts_of(body)[-1]["text"]
    colour = "nothing"
    if frames:
        picture = Image.open(io.BytesIO(base64.b64decode(frames[0]))).convert("RGB")
        pixel = np.asarray(picture)[0, 0]
        colour = ("red", "green", "blue")[int(pixel.argmax())]
    return counted(colour, 64 * len(frames) + len(text.split()))


def is_trial(body: dict[str, Any]) -> bool:
    return bool(body["max_tokens"] == 1)


def run(release: Any, server: Any, out: Path, **more: Any) -> dict[str, Any]:
    given = {"data_dir": release.folder, "base_url": server.url, "endpoint": NO_CACHE} | more
    return run_evaluation("openai:seer", ["msvd_qa"], "exact", out, **given)


def recorded(out: Path) -> dict[str, Any]:
    return json.loads((out / "run.json").read_text())["model"]  # type: ignore[no-any-return]


def test_frames_go_as_one_video_with_their_times(
    small_release: Any, chat_server: Any, tmp_path: Path
) -> None:
    chat_server.models, chat_server.takes_video = ["seer"], True
    seen: Counter[str] = Counter()

    def answer(body: dict[str, Any]) -> Reply:
        if is_trial(body):
            return seer(body)
        frames = frames_of(body)
        seen[frames[0]] += 1
        return counted(json.loads(seer(body)[2])["choices"][0]["message"]["content"], 520,
                       512 if seen[frames[0]] > 1 else 0)  # fmt: skip

    chat_server.answer = answer
    results = run(small_release, chat_server, tmp_path / "out")
    model = recorded(tmp_path / "out")
    assert model["send"] == "video"
    assert model["send_reason"] == (
        "the server counts 129 prompt tokens for 2 frames of a video and 385 for 6"
    )
    trials = [body for body in chat_server.requests if is_trial(body)]
    asked = [body for body in chat_server.requests if not is_trial(body)]
    assert [len(frames_of(body)) for body in trials] == [2, 6]
    assert len(asked) == 6
    for body in asked:
        video, text = parts_of(body)
        assert (video["type"], text["type"]) == ("video_url", "text")
        assert len(frames_of(body)) == 8
        about = body["media_io_kwargs"]["video"]
        # The release's folders: two frames a second, ten in this one.
        assert about["frames_indices"] == [0, 1, 2, 3, 5, 6, 7, 9]
        assert (about["fps"], about["total_num_frames"], about["duration"]) == (2.0, 10, 5.0)
        assert (about["num_frames"], about["do_sample_frames"]) == (-1, False)
        assert "mm_processor_kwargs" not in body
    rows = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").open()]
    colours = {row["id"]: row["prediction"] for row in rows if row["id"].endswith("_0")}
    assert colours == {"a_0": "red", "b_0": "green", "c_0": "blue"}
    usages = Counter(row["usage"]["cached_tokens"] for row in rows)
    assert usages == {0: 3, 512: 3}
    assert results["tasks"]["msvd_qa"]["usage"] == {
        "n": 6,
        "prompt_tokens": 6 * 520,
        "completion_tokens": 12,
        "n_cached": 6,
        "cached_tokens": 3 * 512,
        "cached_share": 3 * 512 / (6 * 520),
    }


def no_counts(_: dict[str, Any]) -> Reply:
    choice = {"finish_reason": "stop", "message": {"content": "ok"}}
    return 200, {}, json.dumps({"choices": [choice]})


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda _: refusal(400, "unsupported content[].type"), "unsupported content"),
        (lambda _: refusal(422, "unknown variant `video_url`"), "HTTP 422: unknown variant"),
        (lambda _: refusal(404, "No endpoints found that support video input"), "HTTP 404"),
        (lambda _: counted("ok", 9), "counts 9 prompt tokens for 2 frames of a video and 9 for 6"),
        (lambda _: counted("ok", 70), "70 for 6"),  # the first frame alone
        (no_counts, "counts no prompt tokens"),
        # The part as text: some characters a token.
        (lambda body: counted("ok", len(str(parts_of(body)[0])) // 4), "prompt tokens for 2"),
    ],
    ids=["400", "422", "router", "ignored", "first frame", "no counts", "text"],
)
def test_a_server_that_does_not_see_the_video_gets_pictures(
    chat_server: Any, answer: Callable[[Any], Reply], reason: str
) -> None:
    chat_server.models, chat_server.takes_video, chat_server.answer = ["seer"], True, answer
    model = open_model("openai:seer", base_url=chat_server.url)
    assert "send" not in model.describe()
    model.check([], [])
    assert model.describe()["send"] == "pictures"
    assert reason in model.describe()["send_reason"]
    assert len(chat_server.requests) in {1, 2}
    chat_server.answer = lambda _: counted("ok", 1)
    list(model.generate([request(1)], SamplingParams()))
    kinds = [part["type"] for part in parts_of(chat_server.requests[-1])]
    assert kinds == ["image_url", "image_url", "text"]


def test_a_server_that_fails_once_is_asked_again(chat_server: Any) -> None:
    async def no_wait(_: float) -> None:
        return

    def answer(body: dict[str, Any]) -> Reply:
        return refusal(500, "boom") if len(chat_server.requests) == 1 else seer(body)

    chat_server.models, chat_server.takes_video, chat_server.answer = ["seer"], True, answer
    options = EndpointOptions(cache=False, clock=Clock(sleep=no_wait))
    model = open_model("openai:seer", base_url=chat_server.url, options=options)
    model.check([], [])
    assert model.describe()["send"] == "video"
    assert len(chat_server.requests) == 3


def test_a_key_that_is_refused_ends_the_run(chat_server: Any) -> None:
    chat_server.models, chat_server.takes_video = ["seer"], True
    chat_server.answer = lambda _: refusal(401, "bad key")
    model = open_model("openai:seer", base_url=chat_server.url)
    with pytest.raises(UserError, match="set OPENAI_API_KEY"):
        model.check([], [])


def test_a_run_keeps_to_what_it_recorded(
    small_release: Any, chat_server: Any, tmp_path: Path
) -> None:
    chat_server.models, chat_server.takes_video, chat_server.answer = ["seer"], True, seer
    run(small_release, chat_server, tmp_path / "video", limit=2)
    reason = recorded(tmp_path / "video")["send_reason"]
    before = len(chat_server.requests)
    run(small_release, chat_server, tmp_path / "video")
    assert recorded(tmp_path / "video")["send_reason"] == reason
    new = chat_server.requests[before:]
    assert len(new) == 4  # without a trial
    assert all(len(frames_of(body)) == 8 for body in new)
    with pytest.raises(UserError, match=r"model\.send video there, pictures here"):
        run(small_release, chat_server, tmp_path / "video", send="pictures")
    # As an earlier version left it: pictures, and no word of it.
    run(small_release, chat_server, tmp_path / "old", limit=2, send="pictures")
    file = tmp_path / "old" / "run.json"
    contents = json.loads(file.read_text())
    del contents["model"]["send"], contents["model"]["send_reason"]
    file.write_text(json.dumps(contents))
    with pytest.raises(UserError, match=r"model\.send pictures there, video here"):
        run(small_release, chat_server, tmp_path / "old", send="video")
    before = len(chat_server.requests)
    run(small_release, chat_server, tmp_path / "old")
    new = chat_server.requests[before:]
    assert len(new) == 4
    assert not any(map(frames_of, new))
    assert recorded(tmp_path / "old")["send_reason"] == "a run of an earlier version"


def test_a_killed_run_goes_on_with_the_same_form(
    small_release: Any, chat_server: Any, tmp_path: Path
) -> None:
    chat_server.models, chat_server.takes_video = ["seer"], True
    words = [sys.executable, "-m", "sharegptvideo", "eval", "run", "--model", "openai:seer"]
    words += ["--task", "msvd_qa", "--judge", "exact", "--out", str(tmp_path / "out")]
    words += ["--data-dir", str(small_release.folder), "--base-url", chat_server.url]
    words += ["--no-cache", "--concurrency", "1"]

    def deadly(body: dict[str, Any]) -> Reply:
        if len(chat_server.requests) == 6:
            process.kill()
        return seer(body)

    chat_server.answer = deadly
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert process.wait(timeout=120) == -signal.SIGKILL
    kept = len((tmp_path / "out" / "predictions.jsonl").read_text().splitlines())
    assert kept >= 2
    chat_server.answer, before = seer, len(chat_server.requests)
    subprocess.run(words, check=True, capture_output=True, timeout=120)
    new = chat_server.requests[before:]
    assert len(new) == 6 - kept
    assert all(len(frames_of(body)) == 8 for body in new)


def test_answers_are_cached_by_form(small_release: Any, chat_server: Any, tmp_path: Path) -> None:
    chat_server.models, chat_server.takes_video, chat_server.answer = ["seer"], True, seer
    options = EndpointOptions(cache=tmp_path / "replies.sqlite")
    for name, send, asked in (("a", "pictures", 6), ("b", "video", 6), ("c", "video", 0)):
        before = len(chat_server.requests)
        run(small_release, chat_server, tmp_path / name, send=send, endpoint=options)
        assert len(chat_server.requests) - before == asked
        assert recorded(tmp_path / name)["send_reason"] == "as asked for (--send)"
    rows = [(tmp_path / name / "predictions.jsonl").read_text().splitlines() for name in "bc"]
    assert sorted(rows[0]) == sorted(rows[1])  # tokens too, as they were counted then


def test_candidates_record_the_form(chat_server: Any, tmp_path: Path, small_release: Any) -> None:
    chat_server.models, chat_server.takes_video, chat_server.answer = ["seer"], True, seer
    rows = [
        {"id": name, "video": name, "question": "What is it?", "answer": "red", "source": "release",
         "video_path": str(small_release.clips / name)}
        for name in "ab"
    ]  # fmt: skip
    given = {"k": 2, "base_url": chat_server.url, "endpoint": NO_CACHE}
    sample_candidates(rows[:1], "openai:seer", tmp_path / "new", **given)
    before = len(chat_server.requests)
    sample_candidates(rows, "openai:seer", tmp_path / "new", **given)
    new = chat_server.requests[before:]
    assert len(new) == 2
    assert all(map(frames_of, new))
    file = tmp_path / "new" / "candidates.json"
    assert json.loads(file.read_text())["settings"]["send"] == "video"
    # As an earlier version left it.
    sample_candidates(rows[:1], "openai:seer", tmp_path / "old", send="pictures", **given)
    file = tmp_path / "old" / "candidates.json"
    contents = json.loads(file.read_text())
    del contents["settings"]["send"], contents["settings"]["send_reason"]
    file.write_text(json.dumps(contents))
    with pytest.raises(UserError, match="send absent there, video here"):
        sample_candidates(rows, "openai:seer", tmp_path / "old", send="video", **given)
    before = len(chat_server.requests)
    sample_candidates(rows, "openai:seer", tmp_path / "old", **given)
    new = chat_server.requests[before:]
    assert len(new) == 2
    assert not any(map(frames_of, new))


def test_the_processor_argument_of_one_family(chat_server: Any) -> None:
    chat_server.answer = seer
    chat_server.takes_video = True
    model = open_model("openai:Qwen/Qwen2.5-VL-7B-Instruct", base_url=chat_server.url, send="video")
    frames = np.zeros((4, 28, 28, 3), dtype=np.uint8)
    asked = Request("What?", frames, [0, 10, 20, 29], fps=10.0)
    list(model.generate([asked], SamplingParams()))
    (body,) = chat_server.requests
    # Four frames of thirty at ten a second.
    assert body["mm_processor_kwargs"] == {"fps": 4 / 3, "do_sample_frames": False}


def test_times_that_are_refused_are_left_out(chat_server: Any) -> None:
    def strict(body: dict[str, Any]) -> Reply:
        if "media_io_kwargs" in body:
            return refusal(400, "Unknown parameter: 'media_io_kwargs'")
        return seer(body)

    chat_server.models, chat_server.takes_video, chat_server.answer = ["seer"], True, strict
    model = open_model("openai:seer", base_url=chat_server.url)
    model.check([], [])
    assert model.describe()["send"] == "video"
    assert model.refused == ["media_io_kwargs"]


def request(clip: int, prompt: str = "What?") -> Request:
    return Request(prompt, CLIPS[clip], [0, 1])


CLIPS = [np.full((2, 16, 16, 3), 40 * number, dtype=np.uint8) for number in range(6)]


class Gate:
    """A server that notes which calls about a clip had been answered when another one came."""

    def __init__(self, together: int = 1, refuses: Sequence[str] = ()) -> None:
        self.came: dict[str, list[tuple[str, int]]] = {}
        self._answered: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._barrier = threading.Barrier(together)
        self._refuses = refuses

    def __call__(self, body: dict[str, Any]) -> Reply:
        clip, text = str(parts_of(body)[:-1]), parts_of(body)[-1]["text"]
        with self._lock:
            calls = self.came.setdefault(clip, [])
            calls.append((text, self._answered[clip]))
            is_first = len(calls) == 1
        if is_first:
            self._barrier.wait(timeout=20)  # breaks, and fails the call, where they come alone
        with self._lock:
            self._answered[clip] += 1
        if text in self._refuses:
            return refusal(413, "too large")
        return counted(text, 9)


def served(server: Any, **more: Any) -> ServedModel:
    options = EndpointOptions(**({"cache": False, "concurrency": 8} | more))
    return ServedModel("seer", base_url=server.url, options=options, send="pictures")


def test_first_questions_of_many_clips_go_ahead_together(chat_server: Any) -> None:
    gate = chat_server.answer = Gate(together=4)
    batch = [request(clip, f"{number}?") for clip in range(4) for number in range(3)]
    answers = list(served(chat_server).generate(batch, SamplingParams()))
    assert sorted(str(answer.text) for answer in answers) == sorted(each.prompt for each in batch)
    assert len(gate.came) == 4
    for calls in gate.came.values():
        assert calls[0] == ("0?", 0)
        assert all(answered >= 1 for _, answered in calls[1:])
        assert {text for text, _ in calls} == {"0?", "1?", "2?"}


def test_a_first_draw_goes_ahead_of_the_rest(chat_server: Any) -> None:
    gate = chat_server.answer = Gate()
    params = SamplingParams(n=4, temperature=1.0)
    (answer,) = served(chat_server).generate([request(0)], params)
    assert len(answer.texts) == 4
    ((first, *others),) = gate.came.values()
    assert first[1] == 0
    assert all(answered >= 1 for _, answered in others)


def test_batches_follow_without_a_wait(chat_server: Any) -> None:
    """Four clips, a batch each: their calls are under way together."""
    chat_server.answer = Gate(together=4)
    batches = ([request(clip)] for clip in range(4))
    answers = list(served(chat_server).stream(batches, SamplingParams()))
    assert [answer.error for answer in answers] == [None] * 4


def test_frames_of_calls_under_way_are_not_held(chat_server: Any) -> None:
    """What is sent of a clip is a tenth of its frames or less; 32 clips may be under way."""
    shown: list[weakref.ref[Any]] = []
    alive: list[int] = []

    def batches() -> Iterator[list[Request]]:
        for number in range(8):
            frames = np.full((2, 48, 64, 3), number, dtype=np.uint8)
            shown.append(weakref.ref(frames))
            question = Question(id=str(number), task="qa", video="v", question="", answer="")
            yield [Request("What?", frames, question=question)]
            del frames
            alive.append(sum(each() is not None for each in shown))

    chat_server.answer = Gate(together=8)
    answers = list(answer_batches(served(chat_server), batches(), SamplingParams()))
    assert [answer.error for answer in answers] == [None] * 8
    assert max(alive) <= 2


def test_a_first_question_that_fails_lets_the_next_go_ahead(chat_server: Any) -> None:
    gate = chat_server.answer = Gate(refuses=("0?", "1?"))
    batch = [request(0, f"{number}?") for number in range(5)]
    answers = list(served(chat_server).generate(batch, SamplingParams()))
    assert sum(answer.error is None for answer in answers) == 3
    (calls,) = gate.came.values()
    assert calls[:3] == [("0?", 0), ("1?", 1), ("2?", 2)]
    assert all(answered >= 3 for _, answered in calls[3:])


def test_an_answer_from_the_cache_lets_the_next_go_ahead(chat_server: Any, tmp_path: Path) -> None:
    """The server has not read the clip for it."""
    chat_server.answer = Gate()
    cache = tmp_path / "replies.sqlite"
    list(served(chat_server, cache=cache).generate([request(0, "0?")], SamplingParams()))
    gate = chat_server.answer = Gate()
    batch = [request(0, f"{number}?") for number in range(4)]
    answers = list(served(chat_server, cache=cache).generate(batch, SamplingParams()))
    assert sum(answer.error is None for answer in answers) == 4
    (calls,) = gate.came.values()
    assert calls[0] == ("1?", 0)
    assert all(answered >= 1 for _, answered in calls[1:])


def test_send_on_the_command_line(tmp_path: Path) -> None:
    words = ["eval", "run", "--task", "msvd_qa", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*words, "--model", "openai:m", "--send", "film"])
    assert result.exit_code == 2
    assert "film" in result.output
    with pytest.raises(UserError, match="leave --send out"):
        open_model("predictions:answers.jsonl", send="video")
    with pytest.raises(UserError, match="unknown form of frames"):
        open_model("openai:m", send="videos")  # type: ignore[arg-type]


def test_an_answer_says_what_it_took_failed_attempts_included(
    chat_server: Any, tmp_path: Path
) -> None:
    prices = "date: 2026-01-01\nhosts:\n  127.0.0.1:\n    seer: {prompt: 10, completion: 100}\n"
    (tmp_path / "prices.yaml").write_text(prices)
    busy: Iterator[Reply] = iter([(429, {"Retry-After": "0"}, "{}"), (429, {}, "{}")])

    def answer(body: dict[str, Any]) -> Reply:
        if "broken" in parts_of(body)[-1]["text"]:
            return 400, {}, json.dumps({"error": {"message": "no"}})
        return next(busy, counted("Two tokens", 1000, 200))

    chat_server.answer = answer

    async def at_once(_: float) -> None:
        return None

    options = EndpointOptions(
        cache=False, concurrency=1, prices=tmp_path / "prices.yaml", clock=Clock(sleep=at_once)
    )
    model = open_model("openai:seer", base_url=chat_server.url, options=options)
    params = SamplingParams(n=2, temperature=1.0)
    requests = [Request("what"), Request("broken")]
    whole, failed = answer_batch(model, requests, params)
    assert (whole.attempts, failed.attempts) == (4, 2)
    # 1,000 tokens at $10 and 2 at $100 a million, twice.
    assert whole.dollars == pytest.approx(2 * (0.01 + 0.0002))
    assert failed.dollars == 0
    assert whole.usage == {"prompt_tokens": 2000, "cached_tokens": 400, "completion_tokens": 4}
    assert whole.answered_by == "seer"
