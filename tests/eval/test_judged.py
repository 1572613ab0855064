"""Descriptions judged by claims and Video-ChatGPT's aspects: files as published, a served judge."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharegptvideo._io import read_json, write_json, write_jsonl
from sharegptvideo.cli import app
from sharegptvideo.errors import UserError
from sharegptvideo.eval import judge_predictions, load_task, run_evaluation
from sharegptvideo.eval.comparison import scored_outcomes
from sharegptvideo.eval.tasks import load_questions, named_tasks, parse_task
from tests.support.made_captions import WORLD_CAPTIONS

CAPTIONING, ASPECTS = "video_detailed_caption", "video_chatgpt_"
# As a line of VDC_1k.jsonl: a clip with its captions of five kinds.
VDC = [
    {
        "video_id": f"clip{at}",
        "video_name": f"clip{at}.mp4",
        "short_caption": "Short.",
        "background_caption": "Ground.",
        "main_object_caption": "Thing.",
        "camera_caption": "Still.",
        "detailed_caption": text,
    }
    for at, text in enumerate(["A dog runs. It barks.", "A cat sleeps.", "A man cooks rice."])
]
GENERIC = [
    {"Q": "What happens?", "A": "A man cooks rice.", "video_name": "v_a"},
    {"Q": "Where is it?", "A": "In a kitchen.", "video_name": "v_a"},
    {"Q": "What happens?", "A": "A dog runs.", "video_name": "v_b"},
]
TEMPORAL = [{"Q": "What is first?", "A": "He washes rice.", "video_name": "v_a"}]
CONSISTENCY = [
    {"Q1": "What is he doing?", "Q2": "Which work?", "A": "He cooks.", "video_name": "v_a"},
    {"Q1": "Who runs?", "Q2": "What is running?", "A": "A dog.", "video_name": "v_b"},
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    home = tmp_path / "data"
    write_jsonl(home / "VDC_1k.jsonl", VDC)
    for name, rows in (("generic", GENERIC), ("temporal", TEMPORAL), ("consistency", CONSISTENCY)):
        write_json(home / f"{name}_qa.json", rows)
    return home


@pytest.fixture
def judge_server(chat_server: Any) -> Any:
    """A server that lists the model `m`, so that it is not asked a first question to see it."""
    chat_server.models = ["m"]
    return chat_server


def material(body: dict[str, Any]) -> dict[str, str]:
    """What the judge was shown."""
    blocks = re.findall(r"```json\n(.*?)\n```", body["messages"][1]["content"], re.DOTALL)
    found: dict[str, str] = json.loads(blocks[0])
    return found


def claims(supported: str, covered: str) -> str:
    """A reply with a claim for each letter, y or n."""
    flags = {"y": "yes", "n": "no"}
    return json.dumps(
        {
            "claims": [
                {"claim": f"{at}", "supported": flags[each]} for at, each in enumerate(supported)
            ],
            "reference_claims": [
                {"claim": f"{at}", "covered": flags[each]} for at, each in enumerate(covered)
            ],
        }
    )


def predictions(file: Path, rows: dict[str, str]) -> Path:
    write_jsonl(file, [{"id": key, "prediction": text} for key, text in rows.items()])
    return file


def test_descriptions_are_scored_by_hand(judge_server: Any, data: Path, tmp_path: Path) -> None:
    """Shares of the clips: 3/4 and 1/2, F1 3/5; 1 and 1/4, F1 2/5; no answer, 0 in all three."""
    replies = {
        "A dog runs. It barks.": claims("ynyy", "ynyn"),
        "A cat sleeps.": claims("y", "ynnn"),
    }
    judge_server.answer = lambda body: replies[material(body)["reference"]]
    file = predictions(tmp_path / "p.jsonl", {"clip0.mp4": "A dog.", "clip1.mp4": "A cat."})
    arguments = {"judge": "openai:m", "base_url": judge_server.url, "data_dir": data}
    results = judge_predictions(file, [CAPTIONING], out=tmp_path / "run", **arguments)
    found = results["tasks"][CAPTIONING]
    assert (found["headline"], found["chance"]) == ("f1", None)
    for name, values in {
        "f1": (3 / 5, 2 / 5, 0),
        "claim_precision": (3 / 4, 1, 0),
        "claim_recall": (1 / 2, 1 / 4, 0),
    }.items():
        mean = sum(values) / 3
        # The sandwich of three clusters of one: sqrt(3/2 * sum of squares / 9).
        se = math.sqrt(3 / 2 * sum((value - mean) ** 2 for value in values) / 9)
        assert found[name]["value"] == pytest.approx(mean, abs=1e-12)
        assert found[name]["se"] == pytest.approx(se, abs=1e-12)
        assert found[name]["n"] == 3
    assert found["f1"]["se"] == pytest.approx(0.17638342073763938)  # by hand: sqrt(0.28 / 9)
    assert found["claims"] == {"claimed": 5, "supported": 4, "expected": 8, "covered": 3}
    assert (found["n"], found["n_failed"], found["n_scored"], found["coverage"]) == (3, 1, 2, 1)
    assert found["accuracy"]["value"] is None  # neither right nor wrong
    assert (found["accuracy_bounds"], found["paper_accuracy"]) == (None, None)
    assert (found["score"], found["minimum_detectable_difference"]) == (found["f1"], None)
    # Nothing is asked twice; the counts come from the verdicts that are there.
    asked = len(judge_server.requests)
    again = judge_predictions(file, [CAPTIONING], out=tmp_path / "run", **arguments)
    assert again == results
    assert len(judge_server.requests) == asked


def test_what_cannot_be_counted_is_unscored(judge_server: Any, data: Path, tmp_path: Path) -> None:
    replies = {"A dog.": claims("y", "yn"), "A cat.": "Quite good!", "Rice.": claims("", "n")}
    judge_server.answer = lambda body: replies[material(body)["answer"]]
    said = {f"clip{at}.mp4": text for at, text in enumerate(replies)}
    found = judge_predictions(
        predictions(tmp_path / "p.jsonl", said),
        [CAPTIONING],
        "openai:m",
        tmp_path / "run",
        data_dir=data,
        base_url=judge_server.url,
    )["tasks"][CAPTIONING]
    assert (found["n_scored"], found["n_unscored"], found["n_failed"]) == (2, 1, 0)
    assert found["coverage"] == 2 / 3
    # The third claims nothing: 0, and not left out.
    assert found["f1"]["value"] == pytest.approx((2 / 3 + 0) / 2)
    assert found["f1"]["n"] == 2
    assert found["unscored"] == {"the reply cannot be read: it is not one JSON object": 1}


def test_the_model_is_asked_to_describe_and_nothing_else(data: Path) -> None:
    task = load_task(CAPTIONING)
    questions = load_questions(task, data)
    assert [(q.id, q.video, q.answer) for q in questions] == [
        (row["video_name"], row["video_name"], row["detailed_caption"]) for row in VDC
    ]
    assert {task.render(q.question) for q in questions} == {task.prompt}
    assert all(q.caption is None for q in questions)


def test_captions_of_a_test_set_are_one_a_clip(tmp_path: Path) -> None:
    rows = [
        {"id": f"{clip}_{at}", "video": f"test/{clip}", "question": "Q?", "answer": "A."}
        | {"caption": f"About {clip}."}
        for clip in ("x", "y")
        for at in range(2)
    ]
    file = tmp_path / "video_instruction" / "test" / "msrvtt.qa.jsonl"
    write_jsonl(file, rows)
    questions = load_questions(load_task("msrvtt_captions"), tmp_path)
    assert [(q.id, q.answer) for q in questions] == [
        ("test/x", "About x."), ("test/y", "About y."),
    ]  # fmt: skip
    write_jsonl(file, [*rows, rows[0] | {"id": "z", "video": "test/z", "caption": None}])
    with pytest.raises(UserError, match="task msrvtt_captions: z has no caption to compare with"):
        load_questions(load_task("msrvtt_captions"), tmp_path)


def test_the_rendered_world_is_judged_offline(tmp_path: Path) -> None:
    """One sentence on two clips with 8 and 13 facts. One object, dark: 2 of 2 hold of the first.

    F1 by hand: of 1 and 2/8, 2/5; of the second, where there are two objects, of 1/2 and 1/13,
    2/15.
    """
    rows = [
        {"id": f"{at}", "video": f"w{at}", "question": "Q?", "answer": "A.", "caption": caption}
        for at, caption in enumerate(WORLD_CAPTIONS)
    ]
    write_jsonl(tmp_path / "video_instruction" / "test" / "synthetic.qa.jsonl", rows)
    said = "There is one object on a dark background."
    file = predictions(tmp_path / "p.jsonl", {"w0": said, "w1": said})
    command = ["eval", "run", "--model", f"predictions:{file}", "--task", "synthetic_captions"]
    command += ["--data-dir", str(tmp_path), "--out", str(tmp_path / "run"), "--json"]
    for more in ([], ["--judge", "answer-match", "--out", str(tmp_path / "again")]):
        found = CliRunner().invoke(app, [*command, *more])
        assert found.exit_code == 0, found.output
        figures = json.loads(found.stdout.splitlines()[-1])["tasks"]["synthetic_captions"]
        assert figures["f1"]["value"] == pytest.approx((2 / 5 + 2 / 15) / 2)
        assert figures["claims"] == {"claimed": 4, "supported": 3, "expected": 21, "covered": 3}
    run = read_json(tmp_path / "run" / "run.json")["tasks"]["synthetic_captions"]
    assert (run["judge"]["name"], run["protocol"]) == ("claim-match", "claims")
    both = [str(tmp_path / "run"), str(tmp_path / "again")]
    refused = CliRunner().invoke(app, ["eval", "agreement", *both])
    assert (refused.exit_code, "counts the claims of descriptions" in refused.stderr) == (2, True)


@pytest.mark.parametrize("protocol", ["claims", "consistency"])
def test_attacks_are_on_single_answers(protocol: str) -> None:
    judge = ["--judge", "openai:m", "--base-url", "http://127.0.0.1:1/v1"]
    found = CliRunner().invoke(app, ["eval", "attack", *judge, "--protocol", protocol])
    assert (found.exit_code, "attacks are on single answers" in found.stderr) == (2, True)


SAID = {
    "generic_qa-1": "He cooks.",
    "generic_qa-2": "In a kitchen.",
    "generic_qa-3": "A cat.",
    "temporal_qa-1": "He washes it.",
    "consistency_qa-1-1": "He cooks.",
    "consistency_qa-1-2": "He sleeps.",
    "consistency_qa-2-1": "A dog.",
    "consistency_qa-2-2": "A dog.",
}
ASPECT_WORDS = {
    "correctness": "whether what they say is true",
    "detail": "how complete and how specific",
    "context": "what the video as a whole is about",
    "temporal": "the order of events",
    "consistency": "the answers to two questions",
}


def test_the_group_of_aspects_asks_each_in_its_own_words(
    judge_server: Any, data: Path, tmp_path: Path
) -> None:
    """Scores by hand: correctness 5, 3, 0; the others 4 but 1 where two answers differ."""
    system: dict[str, list[str]] = {}

    def answer(body: dict[str, Any]) -> str:
        shown = material(body)
        name = next(n for n, words in ASPECT_WORDS.items() if words in str(body["messages"][0]))
        system.setdefault(name, []).append(shown["question"])
        score = 4
        if name == "correctness":
            score = {"He cooks.": 5, "In a kitchen.": 3, "A cat.": 0}[shown["answer"]]
        if name == "consistency" and shown["answer"] != shown["other_answer"]:
            score = 1
        return json.dumps({"explanation": "so", "score": score})

    judge_server.answer = answer
    file = predictions(tmp_path / "p.jsonl", SAID)
    command = ["eval", "judge", "--predictions", str(file), "--task", "aspects", "--judge"]
    command += ["openai:m", "--base-url", judge_server.url, "--data-dir", str(data)]
    found = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "run"), "--no-cache"])
    assert found.exit_code == 0, found.output
    tasks = read_json(tmp_path / "run" / "results.json")["tasks"]
    assert sorted(tasks) == named_tasks(["aspects"])
    assert {name: len(asked) for name, asked in system.items()} == {
        "correctness": 3, "detail": 3, "context": 3, "temporal": 1, "consistency": 4,
    }  # fmt: skip
    assert {figures["headline"] for figures in tasks.values()} == {"score"}
    assert "by question type" not in found.stderr  # a file's questions are all of one
    right = tasks[ASPECTS + "correctness"]
    assert right["score"]["value"] == pytest.approx(8 / 3)
    # Two videos, 5 and 3 of one, 0 of the other: m = 8/3, sums of residuals 8/3 and -8/3.
    assert right["score"]["se"] == pytest.approx(math.sqrt(2 * 2 * (8 / 3) ** 2) / 3)
    assert right["accuracy"]["value"] == 2 / 3  # scores from 3 on
    both = tasks[ASPECTS + "consistency"]
    assert (both["n"], both["score"]["value"]) == (4, (1 + 1 + 4 + 4) / 4)
    assert tasks[ASPECTS + "temporal"]["score"]["value"] == 4
    run = read_json(tmp_path / "run" / "run.json")["tasks"]
    assert {name.removeprefix(ASPECTS): each["protocol"] for name, each in run.items()} == {
        name: name for name in ASPECT_WORDS
    }


def test_two_answers_stand_beside_each_other_in_both_orders(
    judge_server: Any, data: Path, tmp_path: Path
) -> None:
    judge_server.answer = lambda _: '{"explanation": "", "score": 5}'
    file = predictions(tmp_path / "p.jsonl", SAID)
    judge_predictions(
        file,
        [ASPECTS + "consistency"],
        "openai:m",
        tmp_path / "run",
        data_dir=data,
        base_url=judge_server.url,
        limit=2,
    )
    shown = [material(body) for body in judge_server.requests]
    assert sorted((s["question"], s["answer"], s["other_question"], s["other_answer"])
                  for s in shown) == [
        ("What is he doing?", "He cooks.", "Which work?", "He sleeps."),
        ("Which work?", "He sleeps.", "What is he doing?", "He cooks."),
    ]  # fmt: skip


def test_an_answer_whose_other_is_missing_scores_0(
    judge_server: Any, data: Path, tmp_path: Path
) -> None:
    judge_server.answer = lambda _: '{"explanation": "", "score": 5}'
    left = {key: text for key, text in SAID.items() if key != "consistency_qa-1-2"}
    found = judge_predictions(
        predictions(tmp_path / "p.jsonl", left),
        [ASPECTS + "consistency"],
        "openai:m",
        tmp_path / "run",
        data_dir=data,
        base_url=judge_server.url,
    )["tasks"][ASPECTS + "consistency"]
    assert len(judge_server.requests) == 2  # the whole pair alone was judged
    assert (found["n"], found["n_failed"], found["n_scored"]) == (4, 2, 2)
    assert found["score"]["value"] == (0 + 0 + 5 + 5) / 4
    assert found["failures"]["the other question of its pair has no answer"] == 1
    compared = scored_outcomes(tmp_path / "run")[ASPECTS + "consistency"]
    assert [score for _, score in compared.values()] == [0, 0, 5, 5]


@pytest.mark.parametrize(
    ("task", "judge", "cause"),
    [
        (ASPECTS + "detail", "answer-match", "does not read detail, which needs a language model"),
        (CAPTIONING, "answer-match", "does not read claims, which needs a language model"),
        (CAPTIONING, None, "does not read claims, which needs a language model"),
        (CAPTIONING, "panel:claim-match,openai:m", "claim-match does not read claims"),
        ("synthetic_captions", "exact", "leave --judge out for claim-match"),
        ("msvd_qa", "claim-match", "claim-match does not read answers of form open"),
    ],
)
def test_rules_do_not_judge_what_they_cannot_read(
    data: Path, tmp_path: Path, task: str, judge: str | None, cause: str
) -> None:
    file = predictions(tmp_path / "p.jsonl", {"clip0.mp4": "A dog."})
    with pytest.raises(UserError, match=cause):
        run_evaluation(f"predictions:{file}", [task], judge, tmp_path / "run", data_dir=data)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("task", "prompt"),
    [(CAPTIONING, "official"), ("msvd_qa", "claims"), (ASPECTS + "detail", "context")],
)
def test_prompts_are_not_exchanged_for_other_kinds(
    data: Path, tmp_path: Path, task: str, prompt: str
) -> None:
    file = predictions(tmp_path / "p.jsonl", {"clip0.mp4": "A dog."})
    with pytest.raises(UserError, match=f"the prompt {prompt} is for {prompt}; leave --prompt out"):
        judge_predictions(
            file, [task], "openai:m", tmp_path / "run",
            data_dir=data, base_url="http://127.0.0.1:1/v1", prompt=prompt,
        )  # fmt: skip


OWN = """\
name: mine
title: Mine
version: 1
config: null
split: test
form: description
protocol: claims
prompt: Describe it.
frames: 8
max_new_tokens: 8
source: mine
citation: mine
annotations:
  reader: captions
  questions: [mine.jsonl]
"""


def test_a_task_of_ones_own_captions(tmp_path: Path) -> None:
    assert parse_task(OWN, "mine").form == "description"
    write_jsonl(tmp_path / "mine.jsonl", [{"video": "a.mp4", "caption": "A."}, {"video": "b.mp4"}])
    with pytest.raises(UserError, match=r"mine\.jsonl:2: no caption or description or detailed_c"):
        load_questions(parse_task(OWN, "mine"), tmp_path)
    for faulty, cause in (
        (OWN.replace("Describe it.", '"{question}"'), "the prompt is all that is asked, without"),
        (OWN.replace("protocol: claims", "protocol: official"), "needs {question} exactly once"),
        (OWN.replace("form: description\n", ""), "form: description and protocol: claims"),
        (OWN.replace("reader: captions", "reader: video-chatgpt"), "files that the reader capt"),
    ):
        with pytest.raises(UserError, match=re.escape(cause)):
            parse_task(faulty, "mine")
