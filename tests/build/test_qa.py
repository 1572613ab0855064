"""Questions made of captions: a strict schema, one repair, what is dropped is listed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharegptvideo import load_dataset
from sharegptvideo._io import read_jsonl, write_jsonl
from sharegptvideo.build.engines import run_stage
from sharegptvideo.build.model_stage import ModelChoice
from sharegptvideo.build.qa import QaStage, qa_wording, read_captions
from sharegptvideo.cli import app
from sharegptvideo.errors import UserError
from sharegptvideo.judges.protocol import UnreadableError
from tests.support.vlm_scenes import Scene
from tests.support.vlm_server import VlmServer

GOOD = {
    "question": "What does the red dog do at first?",
    "answer": "It jumps over the fence.",
    "kind": "action",
    "difficulty": "easy",
}
CAPTION = "At first a red dog jumps over the fence. Then a girl with a blue hat feeds it."


def captions(root: Path, *texts: str) -> Path:
    """A folder in the release layout with captions."""
    rows = [
        {
            "id": f"c{number}",
            "video": f"v{number}",
            "conversations": [
                {"from": "human", "value": "<video>\nDescribe."},
                {"from": "gpt", "value": text},
            ],
        }
        for number, text in enumerate(texts)
    ]
    folder = root / "video_instruction" / "train" / "pretrain"
    write_jsonl(folder / "video_caption_pretrain.jsonl", rows)
    (root / "splits.json").write_text('{"validation": []}')
    return root


def lines_of(out: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for _, row in read_jsonl(out / "qa.jsonl")}


def build(out: Path, *options: str) -> Any:
    return CliRunner().invoke(app, ["build", "qa", "--out", str(out), *options])


def reply(*questions: dict[str, str]) -> str:
    return json.dumps({"questions": list(questions)})


def test_questions_are_of_their_own_caption_and_load_as_a_dataset(
    vlm_server: VlmServer, tmp_path: Path
) -> None:
    scenes = [Scene(f"{number:010X}") for number in range(30)]
    root = captions(tmp_path / "in", *(scene.caption() for scene in scenes))
    out = tmp_path / "out"
    options = ("--input", str(root), "--model", "openai:vlm", "--base-url", vlm_server.url)
    result = build(out, *options, "--json")
    assert result.exit_code == 0, result.output
    made = lines_of(out)
    kept = 0
    for number, scene in enumerate(scenes):
        row = made[f"c{number}"]
        asked = {each["number"]: each for each in (*row["questions"], *row["dropped"])}
        pairs = [(asked[at]["question"], asked[at]["answer"]) for at in range(3)]
        assert pairs == scene.questions()[:3]
        assert row["caption"] == scene.caption()
        assert row["made"]["parents"] == [f"c{number}"]
        kept += len(row["questions"])
    assert kept > 60
    figures = json.loads(result.stdout)
    assert (figures["n_rows"], figures["n_made"], figures["n_failed"]) == (30, kept, 0)
    assert sum(figures["dropped"].values()) == 90 - kept
    assert vlm_server.report().paid.total() == 30

    rows = load_dataset("qa", data_dir=out)
    assert len(rows) == kept
    first = made["c0"]["questions"][0]
    assert rows[0] == {
        "id": f"c0_{first['number']}",
        "video": "v0",
        "source": None,
        "question": first["question"],
        "answer": first["answer"],
        "caption": scenes[0].caption(),
    }


def test_no_pictures_are_sent_and_the_schema_is(chat_server: Any, tmp_path: Path) -> None:
    root = captions(tmp_path / "in", CAPTION)
    chat_server.answer, chat_server.models = lambda _: reply(GOOD), ["m"]
    options = ("--input", str(root), "--model", "openai:m", "--base-url", chat_server.url)
    result = build(tmp_path / "out", *options, "-n", "1", "--kinds", "action, order")
    assert result.exit_code == 0, result.output
    (body,) = chat_server.requests
    (message,) = body["messages"]
    assert [part["type"] for part in message["content"]] == ["text"]
    assert json.dumps(CAPTION) in message["content"][0]["text"]
    schema = body["response_format"]["json_schema"]["schema"]["properties"]["questions"]
    assert (schema["minItems"], schema["maxItems"]) == (1, 1)
    assert schema["items"]["properties"]["kind"]["enum"] == ["action", "order"]
    (question,) = lines_of(tmp_path / "out")["c0"]["questions"]
    assert question == {"number": 0} | GOOD


def test_questions_with_a_fault_are_dropped_with_their_cause(
    chat_server: Any, tmp_path: Path
) -> None:
    root = captions(tmp_path / "in", CAPTION)
    bad = [
        GOOD | {"question": "What colour is the elephant's trunk?", "answer": "It is green."},
        GOOD | {"question": "At first, what does the red dog do?"},
        GOOD | {"question": "What does the girl with the blue hat wear?", "answer": "A blue hat."},
    ]
    chat_server.answer, chat_server.models = lambda _: reply(GOOD, *bad), ["m"]
    options = ("--input", str(root), "--model", "openai:m", "--base-url", chat_server.url)
    result = build(tmp_path / "out", *options, "-n", "4", "--json")
    assert result.exit_code == 0, result.output
    row = lines_of(tmp_path / "out")["c0"]
    assert [each["number"] for each in row["questions"]] == [0]
    assert [each["gate"] for each in row["dropped"]] == [
        "not-in-caption", "repeats", "gives-answer-away"
    ]  # fmt: skip
    assert all(each["cause"] for each in row["dropped"])
    assert json.loads(result.stdout)["dropped"] == {
        "gives-answer-away": 1, "not-in-caption": 1, "repeats": 1
    }  # fmt: skip
    assert "dropped: not-in-caption (1 of 4 questions; see " in result.stderr


def test_a_bad_reply_is_shown_again_once(chat_server: Any, tmp_path: Path) -> None:
    root = captions(tmp_path / "in", CAPTION, CAPTION + " The end.")

    def answer(body: dict[str, Any]) -> str:
        text = body["messages"][0]["content"][0]["text"]
        repaired = "The end." not in text and "cannot be used" in text
        return reply(GOOD) if repaired else "Sure! ``` no"

    chat_server.answer, chat_server.models = answer, ["m"]
    options = ("--input", str(root), "--model", "openai:m", "--base-url", chat_server.url)
    result = build(tmp_path / "out", *options, "-n", "1")
    assert result.exit_code == 0, result.output
    assert len(chat_server.requests) == 4
    made = lines_of(tmp_path / "out")
    assert [each["question"] for each in made["c0"]["questions"]] == [GOOD["question"]]
    assert made["c1"]["error"] == "the reply cannot be read: it is not one JSON object"
    assert made["c1"]["replies"] == ["Sure! ``` no"] * 2
    assert made["c1"]["questions"] == []
    again = [
        body["messages"][0]["content"][0]["text"]
        for body in chat_server.requests
        if "cannot be used" in body["messages"][0]["content"][0]["text"]
    ]
    assert len(again) == 2
    for text in again:
        assert '"reply": "Sure! \\u0060\\u0060\\u0060 no"' in text
        assert "it is not one JSON object" in text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it is empty"),
        ("[]", "it is not one JSON object"),
        ("{}", 'it is not {"questions": [...]}'),
        ('{"questions": {}}', 'it is not {"questions": [...]}'),
        (json.dumps({"questions": [GOOD], "more": 1}), 'it is not {"questions": [...]}'),
        (reply(), "it has 0 questions, and not 1"),
        (reply(GOOD, GOOD), "it has 2 questions, and not 1"),
        (reply({"question": "a"}), "question 1 does not have question, answer, kind, difficulty"),
        (reply(GOOD | {"more": "x"}), "question 1 does not have"),
        (reply(GOOD | {"answer": 3}), "question 1: its answer is no text"),  # type: ignore[dict-item]
        (reply(GOOD | {"kind": "colour"}), "question 1: its kind is none of action, order"),
        (reply(GOOD | {"difficulty": "Easy"}), "question 1: its difficulty is none of easy"),
    ],
)
def test_a_reply_is_read_by_the_letter(text: str, problem: str) -> None:
    stage = QaStage(ModelChoice("openai:m"), 1)
    with pytest.raises(UnreadableError) as error:
        stage.read(text)
    assert problem in str(error.value)


def test_a_fence_around_the_reply_is_let_pass() -> None:
    stage = QaStage(ModelChoice("openai:m"), 1)
    spaced = reply(GOOD | {"answer": " It\njumps. "})
    assert stage.read(f"```json\n{spaced}\n```") == [{"number": 0} | GOOD | {"answer": "It jumps."}]


def test_settings_out_of_range() -> None:
    choice = ModelChoice("openai:m")
    with pytest.raises(UserError, match="at least 1, got 0"):
        QaStage(choice, 0)
    with pytest.raises(UserError, match="unknown kind of question 'actions'; did you mean action"):
        QaStage(choice, kinds=("actions",))
    with pytest.raises(UserError, match="unknown difficulty 'harder'; did you mean hard"):
        QaStage(choice, difficulty="harder")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda text: text.replace("{material}", ""), "user: has to hold"),
        (lambda text: text.replace("{problem}", ""), "repair: has to hold"),
        (lambda text: text.replace("{reply}", "{relpy}"), "repair: has to hold"),
        (lambda text: text + "\nkind: {}\n", "kind: "),
        (lambda text: text.replace("version: 1", "version: yes"), "version: must be a number"),
    ],
)
def test_a_prompt_file_with_a_mistake(
    tmp_path: Path, change: Callable[[str], str], problem: str
) -> None:
    ours = Path(__file__).parents[2] / "datasets_cards" / "prompts" / "qa.yaml"
    file = tmp_path / "own.yaml"
    file.write_text(change(ours.read_text()))
    with pytest.raises(UserError) as error:
        qa_wording(file)
    assert problem in str(error.value)


def test_a_model_that_only_babbles_is_given_up_after_the_sample(
    vlm_server: VlmServer, tmp_path: Path
) -> None:
    vlm_server.change(faults={"babble": 1.0})
    scenes = [Scene(f"{number:010X}") for number in range(60)]
    root = captions(tmp_path / "in", *(scene.caption() for scene in scenes))
    options = ("--input", str(root), "--model", "openai:vlm", "--base-url", vlm_server.url)
    result = build(tmp_path / "out", *options)
    assert result.exit_code == 1
    assert "for all of the first 20 failed" in result.stderr
    assert "it is not one JSON object" in result.stderr
    assert vlm_server.report().paid.total() == 40  # two a caption
    assert not (tmp_path / "out" / "qa").exists()
    assert not (tmp_path / "out" / "video_instruction").exists()

    # It is asked again once it is repaired.
    vlm_server.change(faults={})
    assert build(tmp_path / "out2", *options, "--no-cache").exit_code == 0


def test_captions_have_to_be_there_and_finished(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        read_captions(tmp_path / "nowhere")
    root = captions(tmp_path / "in", CAPTION)
    assert [row["caption"] for row in read_captions(root, limit=5)] == [CAPTION]
    (root / "captions.jsonl").write_text("")
    (root / "captions.json").write_text('{"settings": {}, "report": null}')
    with pytest.raises(UserError, match="is not finished"):
        read_captions(root)


def test_a_function_is_asked_without_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "asking.py").write_text(
        "import json\n"
        "def ask(frames, prompt):\n"
        "    assert frames == []\n"
        f"    return {reply(GOOD)!r}\n"
    )
    monkeypatch.chdir(tmp_path)
    root = captions(tmp_path / "in", CAPTION)
    stage = QaStage(ModelChoice("python:asking:ask"), 1)
    report = run_stage(stage, read_captions(root), tmp_path / "out")
    assert (report.n_rows, report.n_made) == (1, 1)
