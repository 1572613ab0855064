"""Settings beside the task's: which there are, which a model obeys, and what they change."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sharegptvideo._io import write_jsonl
from sharegptvideo.endpoint import EndpointOptions
from sharegptvideo.errors import UserError
from sharegptvideo.models import AnswerSettings, Request, SamplingParams, build_tiny, open_model
from sharegptvideo.models.sampling import choose
from sharegptvideo.models.settings import parse_generation
from tests.support.training_fixtures import TEXTS


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["temperatur=1"], "unknown generation setting 'temperatur'; did you mean temperature"),
        (["num_beams=4"], r"unknown generation setting 'num_beams'.*known: max_new_tokens, rep"),
        (["temperature"], "--generation temperature: write NAME=NUMBER, as temperature=0.7"),
        (["top_k=3.5"], "--generation top_k: must be a whole number, got '3.5'"),
        (["top_p=x"], "--generation top_p: must be a number, got 'x'"),
        (["top_k=1", "top_k=2"], "--generation top_k: given twice"),
    ],
)
def test_generation_that_cannot_be_read_is_one_line(texts: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        parse_generation(texts)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"frames": 0}, "frames must be at least 1, got 0"),
        ({"max_pixels": -3}, "max_pixels must be at least 1, got -3"),
        ({"dtype": "float8"}, "unknown dtype 'float8'; did you mean float"),
        ({"system": "  "}, "the system text is empty"),
        ({"generation": {"temperature": float("nan")}}, "temperature must be at least 0, got nan"),
        ({"generation": {"temperature": 1.0, "top_p": 0.0}}, "top_p must be above 0"),
        ({"generation": {"repetition_penalty": 0.0}}, "repetition_penalty must be above 0"),
        ({"generation": {"top_k": 2.0}}, "top_k must be a whole number, got 2.0"),
        ({"generation": {"top_k": 0, "temperature": 1.0}}, "top_k must be at least 1, got 0"),
        ({"generation": {"seed": 4, "top_p": 0.9}}, "seed, top_p: without effect at temperature 0"),
    ],
)
def test_a_setting_out_of_range_is_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        AnswerSettings(**given)


def test_top_k_draws_from_the_likeliest() -> None:
    # Shares 0.5, 0.3, 0.2 in another order: of the two likeliest the first has 5/8.
    logits = torch.tensor([[0.2, 0.5, 0.3]]).log()
    params = SamplingParams(temperature=1.0, top_k=2)
    for drawn, token in ((0.0, 1), (0.62, 1), (0.63, 2), (0.999, 2)):
        numbers = torch.tensor([drawn], dtype=torch.float64)
        assert choose(logits, params, numbers).tolist() == [token]
    # Of these two top_p=0.6 leaves the first alone, which has 0.5 of all: top_k comes before.
    params = SamplingParams(temperature=1.0, top_k=2, top_p=0.6)
    assert choose(logits, params, torch.tensor([0.999], dtype=torch.float64)).tolist() == [1]


def test_a_model_refuses_what_it_cannot_obey(tiny: Path, tmp_path: Path) -> None:
    answers = tmp_path / "answers.jsonl"
    write_jsonl(answers, [{"id": "a", "prediction": "red"}])
    (tmp_path / "blind.py").write_text("def answer(frames, question):\n    return 'red'\n")
    greedy = {"max_new_tokens": 4}
    for spec, given, message in (
        (f"hf:{tiny}", {"max_pixels": 9}, r"cannot obey --max-pixels; takes --dtype, --frames, -"),
        (f"hf:{tiny}", {"generation": {"repetition_penalty": 1.1}}, "obey --generation repetition"),
        (
            f"predictions:{answers}",
            {"system": "Be brief."},
            "cannot obey --system; takes none: its",
        ),
        (f"predictions:{answers}", {"generation": greedy}, "cannot obey --generation max_new_tok"),
        ("python:json:loads", {"dtype": "float16"}, "cannot obey --dtype; takes --frames$"),
        ("openai:seer", {"dtype": "float16"}, "cannot obey --dtype; takes --frames, --generation"),
    ):
        with pytest.raises(UserError, match=message):
            open_model(spec, settings=AnswerSettings(**given))


def test_llava_hound_takes_no_more_frames_than_it_has_times_for(tmp_path: Path) -> None:
    build_tiny(TEXTS, tmp_path / "hound", seed=3, size="tiny", architecture="llava_hound")
    spec = f"hf:{tmp_path / 'hound'}"
    most = open_model(spec).most_frames
    assert most
    open_model(spec, settings=AnswerSettings(frames=most))
    with pytest.raises(UserError, match=f"takes {most} frames of a clip at most, and --frames is"):
        open_model(spec, settings=AnswerSettings(frames=most + 1))


def test_a_system_text_stands_before_the_question(tiny: Path) -> None:
    plain = open_model(f"hf:{tiny}")
    system = "red blue"  # words that the tiny tokenizer knows
    model = open_model(f"hf:{tiny}", settings=AnswerSettings(system=system, dtype="bfloat16"))
    assert model.render("Red?") == plain.render("Red?").replace("USER:", f"{system} USER:")
    described = model.describe()
    assert (described["system"], described["dtype"]) == (system, "bfloat16")
    assert described.keys() - plain.describe().keys() == {"dtype", "system"}
    frames = np.zeros((4, 20, 24, 3), dtype=np.uint8)
    (answer,) = model.generate([Request("Red?", frames)], SamplingParams(max_new_tokens=2))
    assert answer.error is None
    assert model.model.dtype is torch.bfloat16


def test_a_template_without_a_system_text_is_refused(tiny: Path, tmp_path: Path) -> None:
    deaf = tmp_path / "deaf"
    deaf.mkdir()
    for file in tiny.iterdir():
        (deaf / file.name).symlink_to(file)
    (deaf / "chat_template.jinja").unlink()
    text = (tiny / "chat_template.jinja").read_text()
    kept = text.replace("{{ message['content'] + ' ' }}", "", 1)
    assert kept != text
    (deaf / "chat_template.jinja").write_text(kept)
    open_model(f"hf:{deaf}")
    with pytest.raises(UserError, match="its chat template has no place for a system text"):
        open_model(f"hf:{deaf}", settings=AnswerSettings(system="Be brief."))


def served(server: Any, **given: Any) -> Any:
    return open_model(
        "openai:seer",
        base_url=server.url,
        options=EndpointOptions(cache=False),
        send="pictures",
        settings=AnswerSettings(**given),
    )


def test_a_served_model_is_sent_the_settings(chat_server: Any) -> None:
    chat_server.answer = lambda _: "red"
    generation = {"temperature": 0.5, "top_k": 7, "repetition_penalty": 1.2, "seed": 3}
    model = served(chat_server, system="Be brief.", max_pixels=3000, generation=generation)
    model.check([], [])
    frames = np.zeros((1, 60, 100, 3), dtype=np.uint8)
    params = model.settings.params(9)
    (answer,) = model.generate([Request("Red?", frames)], params)
    assert answer.text == "red"
    trial, body = chat_server.requests[-2:]
    assert (trial["temperature"], trial["top_k"], trial["max_tokens"]) == (0.5, 7, 1)
    assert {name: body[name] for name in ("temperature", "top_p", "top_k", "max_tokens")} == {
        "temperature": 0.5, "top_p": 1.0, "top_k": 7, "max_tokens": 9
    }  # fmt: skip
    assert body["repetition_penalty"] == 1.2
    system, user = body["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    data = user["content"][0]["image_url"]["url"].partition(",")[2]
    # 100×60 is twice 3,000 pixels: the sides shrink by the root of two, rounded down.
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (70, 42)
    described = model.describe()
    assert (described["system"], described["max_pixels"]) == ("Be brief.", 3000)
    assert model.render("Red?") == "Be brief.\n\nRed?"


@pytest.mark.parametrize("what", ["top_k is not supported", "unknown field"])
def test_a_setting_that_the_server_refuses_is_one_line(chat_server: Any, what: str) -> None:
    def answer(body: dict[str, Any]) -> Any:
        if "top_k" in body:
            return 400, {}, json.dumps({"error": {"message": what}})
        return "red"

    chat_server.answer = answer
    model = served(chat_server, generation={"temperature": 0.5, "top_k": 7})
    with pytest.raises(UserError, match="openai:seer: cannot be asked with --generation: ") as e:
        model.check([], [])
    assert ("refuses top_k" if "top_k" in what else "unknown field") in str(e.value)
