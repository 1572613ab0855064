"""The fake video model that other tests rest on, asked by the real client."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sharegptvideo.endpoint import CallFailedError, ChatClient, in_parallel
from tests.support.vlm_scenes import Scene, code_of, fill
from tests.support.vlm_server import TRANSPORT, VlmServer, VlmSettings, running_vlm_server

QUESTIONS = {
    "type": "object",
    "properties": {
        "questions": {
            "type": "array",
            "minItems": 3,
            "maxItems": 3,
            "items": {"$ref": "#/$defs/Pair"},
        }
    },
    "$defs": {
        "Pair": {
            "type": "object",
            "properties": {
                "question": {"type": "string"},
                "answer": {"type": "string"},
                "kind": {"enum": ["order", "place"]},
            },
        }
    },
}


def picture(name: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{name}"}}


def ask(server: VlmServer, contents: list[Any], **options: Any) -> list[str]:
    """The answers, "failed" for a call that failed after all attempts."""
    client = ChatClient("vlm", base_url=server.url, first_wait=0.01, timeout=5)

    async def call(number: int) -> str:
        try:
            message = {"role": "user", "content": contents[number]}
            return (await client.complete([message], **options)).text
        except CallFailedError:
            return "failed"

    done = dict(in_parallel(call, range(len(contents)), width=16, finish=client.close))
    return [done[number] for number in range(len(contents))]


def test_captions_follow_from_the_pictures(vlm_server: VlmServer) -> None:
    words = {"type": "text", "text": "Describe the clip."}
    clips = [["a", "b"], ["b", "a"], ["a", "b"], ["c"]]
    captions = ask(vlm_server, [[*map(picture, clip), words] for clip in clips])
    assert captions[0] == captions[2]
    assert len(set(captions)) == 3
    code = code_of([picture(name)["image_url"]["url"] for name in "ab"])
    assert captions[0] == Scene(code).caption()
    assert captions[0].endswith(f"a sign reads {code}.")
    report = vlm_server.report()
    assert (report.asked.total(), len(report.paid), report.repeats) == (4, 3, 1)


def test_questions_follow_from_the_caption(vlm_server: VlmServer) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "qa", "schema": QUESTIONS}}
    scenes = [Scene(code_of([name])) for name in "ab"]
    texts = [f"Ask about this: {scene.caption()}" for scene in scenes]
    for scene, text in zip(scenes, ask(vlm_server, texts, response_format=form), strict=True):
        said = json.loads(text)
        assert said == fill(QUESTIONS, scene)
        pairs = [(each["question"], each["answer"]) for each in said["questions"]]
        assert pairs == scene.questions()[:3]
        assert {each["kind"] for each in said["questions"]} <= {"order", "place"}


def test_faults_meet_their_share_and_end_with_the_truth() -> None:
    faults = dict.fromkeys(TRANSPORT, 0.05)
    settings = VlmSettings(seed=1, faults=faults, retry_after_s=0.01, slow_s=0.05)
    with running_vlm_server(settings) as server:
        texts = [f"What is {number}?" for number in range(300)]
        answers = ask(server, texts)
        report = server.report()
        server.change(faults={})
        assert ask(server, texts) == answers
    assert "failed" not in answers
    assert len(set(answers)) == 300
    assert report.repeats == 0
    assert report.met.keys() == set(TRANSPORT)
    # 35 % of some 434 attempts: 152, give or take four deviations of 10.
    assert report.asked.total() - 300 + report.met["slow"] == report.met.total()
    assert 112 <= report.met.total() <= 192


@pytest.mark.parametrize(
    ("kind", "begins"), [("babble", "the of and"), ("refusal", "I'm sorry"), ("invalid_json", "{")]
)
def test_what_is_said_can_be_bad(kind: str, begins: str) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "qa", "schema": QUESTIONS}}
    with running_vlm_server(VlmSettings(faults={kind: 0.5})) as server:
        texts = [f"Ask about this: {Scene(code_of([str(n)])).caption()}" for n in range(40)]
        answers = ask(server, texts, response_format=form)
        assert ask(server, texts, response_format=form) == answers
    bad = []
    for text in answers:
        try:
            json.loads(text)
        except ValueError:
            bad.append(text)
    assert 8 <= len(bad) <= 32
    assert all(text.startswith(begins) for text in bad)
