"""A judge that sees frames of the clip in place of its caption."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from sharegptvideo._io import read_json, read_jsonl, write_jsonl
from sharegptvideo.cli import app
from sharegptvideo.errors import UserError
from sharegptvideo.eval import compare_judges, judge_predictions
from sharegptvideo.judges import JudgeItem, open_judge
from sharegptvideo.judges.protocol import load_protocol
from sharegptvideo.reports.run import write_report

GOOD = '{"explanation": "seen", "score": 4}'


def pictures(body: dict[str, Any]) -> list[Image.Image]:
    content = body["messages"][-1]["content"]
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    return [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in urls]


def judged(server: Any, release: Any, out: Path, **options: Any) -> dict[str, Any]:
    rows = [{"id": f"{clip}_{n}", "prediction": "red"} for clip in "abc" for n in (0, 1)]
    write_jsonl(out.parent / "answers.jsonl", rows)
    found = judge_predictions(
        out.parent / "answers.jsonl",
        ["msvd_qa"],
        "openai:m",
        out,
        data_dir=release.folder,
        media=options.pop("media", release.folder),
        base_url=server.url,
        judge_sees="frames",
    )["tasks"]["msvd_qa"]
    assert isinstance(found, dict)
    return found


def test_the_judge_gets_the_frames_and_no_caption(
    chat_server: Any, small_release: Any, tmp_path: Path
) -> None:
    chat_server.answer, chat_server.models = lambda _: GOOD, ["m"]
    figures = judged(chat_server, small_release, tmp_path / "run")
    assert (figures["n"], figures["n_scored"]) == (6, 6)
    assert len(chat_server.requests) == 6
    colours = set()
    for body in chat_server.requests:
        shown = pictures(body)
        assert [picture.size for picture in shown] == [(32, 24)] * 8
        red, green, blue = shown[0].convert("RGB").getpixel((5, 5))  # type: ignore[misc]
        colours.add(max(("red", red), ("green", green), ("blue", blue), key=lambda c: c[1])[0])
        text = body["messages"][-1]["content"][-1]["text"]
        assert "The whole picture is" not in json.dumps(body)  # the caption's words
        assert '"description"' not in text
        assert '"answer": "red"' in text
    assert colours == {"red", "green", "blue"}
    rows = [row for _, row in read_jsonl(tmp_path / "run" / "judgements.jsonl")]
    assert {tuple(row["judge"]["frame_indices"]) for row in rows} == {(0, 1, 2, 3, 5, 6, 7, 9)}
    judge = read_json(tmp_path / "run" / "run.json")["tasks"]["msvd_qa"]["judge"]
    assert judge["sees"] == "frames"
    assert judge["prompt_hash"] == load_protocol("caption-grounded", sees="frames").hash
    assert judge["prompt_hash"] != load_protocol("caption-grounded").hash


def test_a_clip_that_cannot_be_shown_is_unscored_until_it_can(
    chat_server: Any, small_release: Any, tmp_path: Path
) -> None:
    chat_server.answer, chat_server.models = lambda _: GOOD, ["m"]
    hidden = tmp_path / "hidden"
    (small_release.clips / "c").rename(hidden)
    for frame in (small_release.clips / "b").iterdir():
        frame.write_bytes(b"no picture")
    figures = judged(chat_server, small_release, tmp_path / "run")
    assert (figures["n_scored"], figures["n_unscored"]) == (2, 4)
    assert figures["unscored"]["the clip test/msvd/c is missing"] == 2
    assert any("cannot be shown" in cause for cause in figures["unscored"])
    assert len(chat_server.requests) == 2
    hidden.rename(small_release.clips / "c")
    figures = judged(chat_server, small_release, tmp_path / "run")
    assert (figures["n_scored"], figures["n_unscored"]) == (4, 2)
    assert len(chat_server.requests) == 4


def test_clips_are_decoded_once_and_only_for_judges_that_look(
    chat_server: Any, small_release: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sharegptvideo import media

    sampled: list[str] = []
    real = media.sample_frames

    def counted(clip: str, n: int) -> Any:
        sampled.append(clip)
        return real(clip, n)

    monkeypatch.setattr(media, "sample_frames", counted)
    chat_server.answer = lambda _: GOOD
    clip = str(small_release.clips / "a")
    items = [JudgeItem(str(n), "t", "v", "Q", "R", f"answer {n}", "cap", clip) for n in range(20)]
    looking = open_judge("openai:m", base_url=chat_server.url, sees="frames")
    assert len(list(looking.judge(items))) == 20
    assert sampled == [clip]
    reading = open_judge("openai:n", base_url=chat_server.url)
    assert len(list(reading.judge(items))) == 20
    assert sampled == [clip]


def test_a_second_look_is_asked_for_with_the_same_pictures(
    chat_server: Any, small_release: Any
) -> None:
    chat_server.answer = lambda body: "Four." if len(body["messages"]) == 2 else GOOD
    judge = open_judge("openai:m", base_url=chat_server.url, sees="frames")
    item = JudgeItem("1", "t", "v", "Q", "R", "A", None, str(small_release.clips / "a"))
    (verdict,) = judge.judge([item])
    assert (verdict.score, verdict.repaired) == (4.0, True)
    first, second = chat_server.requests
    assert second["messages"][:2] == first["messages"]


@pytest.mark.parametrize("judge", ["exact", "answer-match", "panel:exact,answer-match"])
def test_rules_see_no_frames(judge: str) -> None:
    with pytest.raises(UserError, match="reads texts only"):
        open_judge(judge, sees="frames")


def test_the_official_protocol_has_no_caption_to_replace() -> None:
    with pytest.raises(UserError, match="caption-grounded"):
        open_judge("openai:m", protocol="official", sees="frames")


def test_a_prompt_file_has_to_show_frames(tmp_path: Path) -> None:
    wording = """
        protocol: caption-grounded
        version: 1
        sees: SEES
        lowest: 1
        highest: 5
        correct_from: 3
        user: "{material}"
        repair: "{problem}"
    """
    file = tmp_path / "own.yaml"
    file.write_text(wording.replace("SEES", "caption"))
    with pytest.raises(UserError, match="shows no frames"):
        load_protocol("caption-grounded", file, sees="frames")
    file.write_text(wording.replace("SEES", "frames"))
    with pytest.raises(UserError, match=r"frames \(how many\) belongs to sees: frames"):
        load_protocol("caption-grounded", file, sees="frames")
    file.write_text(wording.replace("SEES", "frames\n        frames: 3"))
    assert load_protocol("caption-grounded", file, sees="frames").frames == 3


@pytest.fixture
def answered(tmp_path: Path) -> Path:
    rows = [{"id": f"{clip}_{n}", "prediction": "It is red."} for clip in "abc" for n in (0, 1)]
    write_jsonl(tmp_path / "answers.jsonl", rows)
    return tmp_path / "answers.jsonl"


def test_frames_without_a_reference(
    chat_server: Any, small_release: Any, answered: Path, tmp_path: Path
) -> None:
    """The judge looks: red frames, a high grade. Then agreement with a judge that reads captions.

    By frames the two answers about the red clip are right. The judge of captions, made faulty,
    calls those about the green one right as well: 4 of 6 agree.
    """

    def looks(body: dict[str, Any]) -> str:
        text = json.dumps(body)
        if isinstance(body["messages"][-1]["content"], str):
            seen = "is red from" in text or "is green from" in text
            return json.dumps({"explanation": "read", "score": 4 if seen else 1})
        red, green, blue = pictures(body)[0].convert("RGB").getpixel((5, 5))  # type: ignore[misc]
        return json.dumps({"explanation": "seen", "score": 5 if red > max(green, blue) else 2})

    chat_server.answer, chat_server.models = looks, ["m"]
    base = ["eval", "judge", "--predictions", str(answered), "--task", "msvd_qa"]
    base += ["--data-dir", str(small_release.folder), "--base-url", chat_server.url]
    base += ["--judge", "openai:m"]
    frames, captions = tmp_path / "frames", tmp_path / "captions"
    ran = CliRunner().invoke(app, [*base, "--prompt", "frames", "--out", str(frames)])
    assert ran.exit_code == 0, ran.output
    assert len(chat_server.requests) == 6
    assert all(len(pictures(body)) == 8 for body in chat_server.requests)
    texts = [body["messages"][-1]["content"][-1]["text"] for body in chat_server.requests]
    assert all('"question": ' in text and '"answer": "It is red."' in text for text in texts)
    assert not any('"reference": ' in text or '"description": ' in text for text in texts)
    task = read_json(frames / "run.json")["tasks"]["msvd_qa"]
    assert (task["protocol"], task["judge"]["protocol"]) == ("frames", "frames")
    assert (task["judge"]["sees"], task["judge"]["prompt_version"]) == ("frames", 1)
    figures = read_json(frames / "results.json")["tasks"]["msvd_qa"]
    assert figures["accuracy"]["value"] == pytest.approx(2 / 6)
    assert CliRunner().invoke(app, [*base, "--out", str(captions)]).exit_code == 0
    agreed = compare_judges(captions, frames)["all"]
    assert (agreed["n"], agreed["agreement"]["value"]) == (6, pytest.approx(4 / 6))
    report = write_report(frames, tmp_path / "report")
    assert report["tasks"]["msvd_qa"]["protocol"] == "frames"
    ran = CliRunner().invoke(app, [*base, "--prompt", "frames", "--out", str(captions)])
    assert ran.exit_code == 2
    assert "caption-grounded there, frames here" in ran.stderr


def test_a_prompt_is_a_name_or_a_file(
    chat_server: Any, small_release: Any, answered: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "protocol: frames\nversion: 7\nsees: frames\nframes: 3\nlowest: 1\nhighest: 5\n"
        "correct_from: 3\nuser: 'Look. {question} {answer}'\nrepair: '{problem}'\n"
    )
    chat_server.answer, chat_server.models = lambda _: '{"score": 4}', ["m"]

    def judge(prompt: str, *, by: str = "openai:m", task: str = "msvd_qa") -> Any:
        return judge_predictions(
            answered,
            [task],
            by,
            tmp_path / "run",
            data_dir=small_release.folder,
            base_url=chat_server.url,
            prompt=prompt,
        )

    for prompt, by, task, message in (
        ("frame", "openai:m", "msvd_qa", "unknown prompt 'frame'; did you mean frames"),
        (str(tmp_path / "no.yaml"), "openai:m", "msvd_qa", "no.yaml: cannot be read"),
        ("frames", "answer-match", "msvd_qa", "reads texts only"),
        ("official", "answer-match", "msvd_qa", "is asked with no prompt"),
        ("caption-grounded", "openai:m", "msvd_qa_official", "have no captions"),
    ):
        with pytest.raises(UserError, match=message):
            judge(prompt, by=by, task=task)
    assert not (tmp_path / "run").exists()
    assert judge(str(file))["tasks"]["msvd_qa"]["n_scored"] == 6
    assert {len(pictures(body)) for body in chat_server.requests} == {3}
    about = read_json(tmp_path / "run" / "run.json")["tasks"]["msvd_qa"]["judge"]
    assert (about["prompt_version"], about["prompt_hash"]) == (
        7,
        load_protocol("frames", file).hash,
    )
