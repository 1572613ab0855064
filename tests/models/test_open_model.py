"""Kinds of models: what they take, what they refuse, what they send."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sharegptvideo._io import write_jsonl
from sharegptvideo.errors import UserError
from sharegptvideo.models import Question, Request, SamplingParams, open_model


def question(row_id: str, task: str = "msvd_qa") -> Question:
    return Question(row_id, task, f"v{row_id}", f"what is {row_id}?", "dog")


def request(row_id: str, frames: Any = None, task: str = "msvd_qa") -> Request:
    asked = question(row_id, task)
    return Request(asked.question, frames, question=asked)


def answers(model: Any, requests: list[Request]) -> list[tuple[str | None, str | None]]:
    made = {
        answer.request.question.key: (answer.text, answer.error)
        for answer in model.generate(requests, SamplingParams(max_new_tokens=8))
    }
    return [made[request.question.key] for request in requests if request.question]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("prediction:x", "unknown kind of model 'prediction'; did you mean predictions"),
        ("/some/path", "'/some/path': no kind before it; write hf:/some/path$"),
        ("gpt-4o", "write hf:gpt-4o, or openai:gpt-4o for a served model"),
        ("hf:", "nothing after the kind; write hf:NAME"),
        ("hf", "nothing after the kind"),
        ("python:json", "write python:module:function"),
        ("python:nowhere_at_all:f", "cannot import nowhere_at_all"),
        ("python:json:lods", "json has no function 'lods'"),
        ("predictions:nowhere.jsonl", "nowhere.jsonl: cannot be read"),
    ],
)
def test_a_wrong_spec_is_one_line(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        open_model(spec)
    assert "\n" not in str(caught.value)


def test_a_path_without_its_kind_is_told_which(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"no kind before it; write hf:{tmp_path}"):
        open_model(str(tmp_path))
    file = tmp_path / "answers.jsonl"
    file.write_text("")
    with pytest.raises(UserError, match=f"no kind before it; write predictions:{file}"):
        open_model(str(file))


def test_predictions_of_a_run_have_its_model(tmp_path: Path) -> None:
    file = tmp_path / "predictions.jsonl"
    file.write_text('{"id": "1", "prediction": "a dog"}\n')
    assert open_model(f"predictions:{file}").describe()["name"] == "predictions.jsonl"
    model = {"spec": "hf:models/sft", "kind": "hf", "name": "sft", "weights_hash": "ab" * 32}
    (tmp_path / "run.json").write_text(json.dumps({"model": model, "tasks": {}}))
    described = open_model(f"predictions:{file}").describe()
    assert (described["kind"], described["name"]) == ("predictions", "sft")
    assert described["weights_hash"] == model["weights_hash"]
    assert described["answered_by"] == model
    # Judged once more from the second run's own copy, they are still that model's.
    (tmp_path / "run.json").write_text(json.dumps({"model": described, "tasks": {}}))
    assert open_model(f"predictions:{file}").describe()["answered_by"] == model


def test_hf_without_a_checkpoint_or_of_another_architecture(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint there"):
        open_model(f"hf:{tmp_path}")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(UserError, match="architecture 'llama'"):
        open_model(f"hf:{tmp_path}")


def test_predictions_by_id_and_by_task(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    write_jsonl(
        file,
        [
            {"id": 1, "prediction": "a dog"},
            {"id": "2", "prediction": ""},
            {"id": "2", "task": "tgif_qa", "prediction": "a cat"},
            {"id": "3", "status": "failed", "error": "no clip", "prediction": None},
            {"id": "5", "status": "failed", "error": "no clip", "prediction": None},
            {"id": "5", "status": "ok", "prediction": "corrected"},
        ],
    )
    model = open_model(f"predictions:{file}")
    asked = [request("1"), request("2"), request("2", task="tgif_qa"), request("3"), request("4")]
    assert answers(model, [*asked, request("5")]) == [
        ("a dog", None),
        ("", None),
        ("a cat", None),
        (None, "no clip"),
        (None, "no prediction in p.jsonl"),
        ("corrected", None),
    ]


def test_missing_and_foreign_predictions_are_listed(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    rows = [{"id": key, "prediction": "x"} for key in ("1", "2", "8", "9")]
    write_jsonl(file, [*rows, {"id": "7", "task": "tgif_qa", "prediction": "x"}])
    model = open_model(f"predictions:{file}")
    every = [question(key) for key in ("1", "2", "3", "4")]
    assert model.check(every[:3], every) == {
        "msvd_qa": {"missing_predictions": ["3"], "foreign_predictions": ["8", "9"]}
    }
    with pytest.raises(UserError, match=r"none of its 5 ids .* is a question of msvd_qa"):
        model.check([question("30")], [question("30")])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"id": 1, "prediction": "x"}\n{"id": 2, "text": "y"}\n',
            r"p\.jsonl:2: no prediction in it; it has the keys id, text; .*--prediction-key",
        ),
        ('{"prediction": "x"}\n', r"p\.jsonl:1: no id"),
        ('{"id": 1, "prediction": "x"}\nnot json\n', r"p\.jsonl:2: not JSON"),
        ('{"id": 1, "prediction": 3}\n', r"p\.jsonl:1: prediction must be a string"),
        ("", "no prediction in it"),
        (
            '{"id": 1, "prediction": "x"}\n{"id": 4, "prediction": "x"}\n'
            '{"id": "1", "prediction": "y"}\n',
            r"1 id with more than one prediction: 1 \(lines 1, 3\)",
        ),
    ],
)
def test_broken_prediction_files(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        open_model(f"predictions:{file}")


def test_a_function_gets_a_list_of_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_video_model.py").write_text(
        "def answer(frames, question):\n"
        "    if question == 'what is 2?':\n"
        "        return None\n"
        "    if question == 'what is 3?':\n"
        "        raise ValueError('too dark')\n"
        "    return f'{len(frames)} {frames[0].shape} {question}'\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    model = open_model("python:my_video_model:answer")
    frames = np.zeros((8, 4, 6, 3), dtype=np.uint8)
    assert answers(model, [request(key, frames) for key in ("1", "2", "3")]) == [
        ("8 (4, 6, 3) what is 1?", None),
        (None, "my_video_model:answer returned NoneType, not str"),
        (None, "ValueError: too dark"),
    ]


def _tell_pictures(body: dict[str, Any]) -> str | tuple[int, dict[str, str], str]:
    """Size and mean brightness of each picture that was sent; refuses one question."""
    if body["model"] != "looker":
        return 404, {}, json.dumps({"error": {"message": "no such model"}})
    *pictures, text = body["messages"][0]["content"]
    if text["text"] == "what is 2?":
        return 413, {}, json.dumps({"error": {"message": "too many pictures"}})
    seen = []
    for picture in pictures:
        head, data = picture["image_url"]["url"].split(",")
        assert head == "data:image/jpeg;base64"
        image = Image.open(io.BytesIO(base64.b64decode(data)))
        seen.append(f"{image.size} {int(np.asarray(image).mean())}")
    return " / ".join(seen)


def test_an_endpoint_gets_every_frame_in_order(chat_server: Any) -> None:
    chat_server.models = ["looker"]
    chat_server.answer = _tell_pictures
    model = open_model("openai:looker", base_url=chat_server.url)
    model.check([], [])
    frames = np.stack([np.full((20, 2000, 3), 25 * n, dtype=np.uint8) for n in range(8)])
    one, two = answers(model, [request("1", frames), request("2", frames)])
    # 2000×20 pixels are sent as 768×8.
    assert one == (" / ".join(f"(768, 8) {25 * n}" for n in range(8)), None)
    assert two[0] is None
    assert "too many pictures" in str(two[1])
    assert {body["temperature"] for body in chat_server.requests} == {0}
    assert {body["max_tokens"] for body in chat_server.requests} == {8}
    with pytest.raises(UserError, match="did you mean looker"):
        open_model("openai:loker", base_url=chat_server.url).check([], [])


def test_no_endpoint_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UserError, match="no endpoint: give --base-url"):
        open_model("openai:looker").check([], [])
