"""A prompt file of one's own: other wordings, other forms of reply, and every mistake in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sharegptvideo._io import read_json, write_jsonl
from sharegptvideo.errors import UserError
from sharegptvideo.eval import judge_predictions
from sharegptvideo.judges import JudgeItem, open_judge
from sharegptvideo.judges.protocol import Protocol, UnreadableError, load_protocol

# The shape of a public benchmark's prompt (its wording here is made up): texts in their places,
# and a reply that is a Python dictionary.
PYTHON_DICT = """\
protocol: official
version: 1
sees: nothing
lowest: 0
highest: 5
reply: python-dict
keys: {correct: pred, score: score}
system: You compare answers.
user: |
  Question: {question}
  Right: {reference}
  Given: {answer}
  Reply like {'pred': 'no', 'score': 1}.
repair: "Not usable: {problem}. Once more."
"""

# The shape of a numbered list at the end of the reply; no system message.
LINES = """\
protocol: caption-grounded
version: 3
sees: caption
max_words: 4
lowest: 1
highest: 10
correct_from: 6
reply: lines
keys: {explanation: Explanation, score: Score}
user: "{description} {question} {reference} {answer}"
repair: "{problem}"
"""

ITEM = JudgeItem("1", "t", "v", "What is it?", "a dog", "A {reference}\n\u202ecat.", "A dog runs.")


def loaded(folder: Path, text: str, name: str = "official") -> Protocol:
    file = folder / "wording.yaml"
    file.write_text(text, encoding="utf-8")
    return load_protocol(name, file)


def test_texts_go_to_their_places_on_one_line_each(tmp_path: Path) -> None:
    system, user = loaded(tmp_path, PYTHON_DICT).messages(ITEM)
    assert system == {"role": "system", "content": "You compare answers."}
    assert user["content"].splitlines() == [
        "Question: What is it?",
        "Right: a dog",
        r"Given: A {reference} \u202ecat.",
        "Reply like {'pred': 'no', 'score': 1}.",
    ]


def test_without_a_system_text_there_is_one_message(tmp_path: Path) -> None:
    (message,) = loaded(tmp_path, LINES, "caption-grounded").messages(ITEM)
    assert message["content"] == r"A dog runs. What is it? a dog A {reference} \u202ecat."


def test_the_judge_asks_in_the_words_of_the_file_and_reads_its_form(
    chat_server: Any, tmp_path: Path
) -> None:
    file = tmp_path / "wording.yaml"
    file.write_text(PYTHON_DICT)
    chat_server.answer = lambda _: "{'pred': 'yes', 'score': 4}"
    judge = open_judge("openai:m", base_url=chat_server.url, protocol="official", prompt_file=file)
    (verdict,) = judge.judge([ITEM])
    assert (verdict.correct, verdict.score) == (True, 4.0)
    (body,) = chat_server.requests
    assert body["messages"][0]["content"] == "You compare answers."
    assert "response_format" not in body  # a schema would force JSON
    assert verdict.judge["prompt_hash"] != load_protocol("official").hash
    assert judge.describe()["prompt_hash"] == verdict.judge["prompt_hash"]


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("{'pred': 'yes', 'score': 4}", (True, 4)),
        ('{"score": 0, "pred": "no"}', (False, 0)),
        ("```python\n{'pred': 'no', 'score': 2}\n```", (False, 2)),
        ("{'pred': 'no', 'score': 4, 'why': 'it\\'s red'}", (False, 4)),
    ],
)
def test_python_dictionaries(tmp_path: Path, reply: str, verdict: tuple[bool, int]) -> None:
    assert loaded(tmp_path, PYTHON_DICT).read(reply)[:2] == verdict


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ("{'pred': 'yes', 'score': 4.8}", "4.8, not a whole number"),
        ("{'pred': 'yes', 'score': '4'}", "not a whole number"),
        ("{'pred': 'yes', 'score': True}", "not a whole number"),
        ("{'pred': 'yes', 'score': 2, 'score': 5}", '"score" twice'),
        ("{'pred': 'yes', **{'score': 5}}", "not one Python dictionary|not all strings"),
        ("{'pred': 'yes', 'score': 2 + 3}", "not one Python dictionary"),
        ("{'pred': 'yes', 'score': len('five!')}", "not one Python dictionary"),
        ("{'pred': 'maybe', 'score': 3}", '"pred" is "maybe"'),
        ("{'pred': 'yes', 'score': {(1,): 2}}", "its score is an object"),
        ("{1: 2}", "keys are not all strings"),
        ("Sure! {'pred': 'yes', 'score': 5}", "not one Python dictionary"),
        ("yes 4", "not one Python dictionary"),
        ("{'pred': 'yes', 'score': " + "-" * 40_000 + "1}", "not one Python dictionary"),
        ("[" * 40_000, "not one Python dictionary"),
        ("{'a': '\x00'}", "not one Python dictionary"),
        ("x" * 60_000, "60000 characters"),
    ],
)
def test_other_dictionaries_are_unreadable(tmp_path: Path, reply: str, problem: str) -> None:
    with pytest.raises(UnreadableError, match=problem):
        loaded(tmp_path, PYTHON_DICT).read(reply)


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("Explanation: right.\nScore: 6", (True, 6, "right.")),
        ("1. Explanation: right\n   and more\n2. Score: 5", (False, 5, "right\n   and more")),
        ("**Score:** 10\n**Explanation**: e", (True, 10, "e")),
        ("score: 1", (False, 1, None)),
        ("Explanation: the time: noon\nScore: 7", (True, 7, "the time: noon")),
    ],
)
def test_lines(tmp_path: Path, reply: str, verdict: tuple[bool, int, str | None]) -> None:
    assert loaded(tmp_path, LINES, "caption-grounded").read(reply) == verdict


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ("Score: 4.8", "not a whole number"),
        ("Score: 4/5", "not a whole number"),
        ("Score: 4\nScore: 5", '"Score" twice'),
        ("Score: 4\nI hope this helps!", "not a whole number"),
        ("Score: 11", "not from 1 to 10"),
        ("Here you are.\nScore: 4", "does not begin with"),
        ("Explanation: none", "Score is null"),
        ("La note est 4", "does not begin with"),
    ],
)
def test_other_lines_are_unreadable(tmp_path: Path, reply: str, problem: str) -> None:
    with pytest.raises(UnreadableError, match=problem):
        loaded(tmp_path, LINES, "caption-grounded").read(reply)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("version: 1", "version: 1\nmax_word: 3", "max_word: Extra inputs"),
        ("keys: {correct: pred, score: score}", "keys: {pred: x}", "keys.pred: Extra inputs"),
        ("version: 1\n", "", "version: Field required"),
        ("version: 1", "version: '1st'", "version: must be a whole number"),
        ("{reference}", "{refrence}", "it holds {question}, {refrence}, {answer}"),
        ("Given: {answer}", "Given: {answer} {material}", "user has to hold {material} once"),
        ("Given: {answer}", "Given: {answer} {answer}", "user has to hold {material} once"),
        ("{question}", "{description}", "it holds {description}"),
        ("{problem}", "a problem", "repair has to hold {problem}"),
        ("highest: 5", "highest: 0", "lowest 0 is not below highest 0"),
        ("highest: 5", "highest: 5\ncorrect_from: 3", "has to be said once"),
        ("keys: {correct: pred, score: score}", "keys: {score: s}", "has to be said once"),
        ("keys: {correct: pred,", "keys: {correct: score,", "keys names one key twice"),
        ("keys: {correct: pred, score: score}", "correct_from: 9", "splits no scores"),
        ("sees: nothing", "sees: frames", "caption-grounded and frames, else nothing"),
        (
            "protocol: official",
            "protocol: caption-grounded",
            "caption-grounded and frames, else nothing",
        ),
        ("version: 1", "version: yes", "version: must be a number"),
        ("lowest: 0", "lowest: off", "lowest: must be a number"),
        ("sees: nothing", "sees: nothing\nmax_characters: on", "max_characters: must be a number"),
        ("highest: 5", "highest: .inf", "line 5: .inf is no number"),
        ("highest: 5", "highest: 5\nhighest: 4", "the key highest stands twice"),
        ("reply: python-dict", "reply: yaml", "reply: Input should be 'json'"),
        ("protocol: official", "protocol: [", "not YAML"),
        (PYTHON_DICT, "- a list", "needs one key: value a line"),
    ],
)
def test_mistakes_in_the_file_are_one_line(tmp_path: Path, old: str, new: str, fault: str) -> None:
    assert old in PYTHON_DICT
    with pytest.raises(UserError) as caught:
        loaded(tmp_path, PYTHON_DICT.replace(old, new))
    line = str(caught.value)
    assert line.startswith(f"{tmp_path / 'wording.yaml'}: ")
    assert fault in line
    assert "\n" not in line


FRAMES = """\
protocol: frames
version: 1
sees: frames
frames: 4
lowest: 1
highest: 5
correct_from: 3
user: "{question} {answer}"
repair: "{problem}"
"""


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("{question}", "{question} {reference}", "each of {question}, {answer} once, which is"),
        ("{answer}", "", "what the judge sees under frames; it holds {question}"),
        ("{question} {answer}", "What?", "it holds none"),
        ("sees: frames\nframes: 4", "sees: caption", "protocol frames needs sees: frames"),
        ("frames: 4\n", "", "frames (how many) belongs to sees: frames"),
        ("protocol: frames", "protocol: caption-grounded", "{question}, {reference}, {answer}"),
    ],
)
def test_a_wording_without_a_reference_has_the_places_of_its_protocol(
    tmp_path: Path, old: str, new: str, fault: str
) -> None:
    (message,) = loaded(tmp_path, FRAMES, "frames").messages(ITEM)
    assert "a dog" not in message["content"]
    assert old in FRAMES
    with pytest.raises(UserError) as caught:
        loaded(tmp_path, FRAMES.replace(old, new), "frames")
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lowest: .*; highestt: Extra"):
        loaded(tmp_path, PYTHON_DICT.replace("lowest: 0\nhighest", "lowest: x\nhighestt"))


def test_a_file_for_the_other_protocol_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="words the protocol official, and the task's is caption"):
        loaded(tmp_path, PYTHON_DICT, "caption-grounded")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere.yaml: cannot be read \(No such file"):
        load_protocol("official", tmp_path / "nowhere.yaml")
    (tmp_path / "latin.yaml").write_bytes("système".encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8"):
        load_protocol("official", tmp_path / "latin.yaml")


def test_a_mended_file_is_read_again(tmp_path: Path) -> None:
    first = loaded(tmp_path, PYTHON_DICT)
    second = loaded(tmp_path, PYTHON_DICT.replace("Once more", "Again"))
    assert first.hash != second.hash


def test_a_task_with_a_wording_of_its_own(
    chat_server: Any, small_release: Any, tmp_path: Path
) -> None:
    """From the task's file to results.json, with a scale that begins at 2."""
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "historic.yaml").write_text(
        "name: historic\ninclude: [grounded]\ntitle: T\nversion: 1\nconfig: msvd_qa\n"
        "citation: none\njudge:\n  prompt_file: wording.yaml\n"
    )
    wording = LINES.replace("lowest: 1", "lowest: 2")
    (tasks / "wording.yaml").write_text(wording)
    rows = [{"id": f"{clip}_{n}", "prediction": "red"} for clip in "abc" for n in (0, 1)]
    write_jsonl(tmp_path / "answers.jsonl", rows[:-1])  # the one that is missing gets the lowest
    chat_server.models = ["m"]
    chat_server.answer = lambda body: (
        "2. Score: 7\n1. Explanation: red it is"
        if "is red from beginning" in body["messages"][0]["content"]
        else "Explanation: no\nScore: 2"
    )

    def run(out: str) -> Any:
        return judge_predictions(
            tmp_path / "answers.jsonl",
            ["historic"],
            "openai:m",
            tmp_path / out,
            data_dir=small_release.folder,
            task_path=tasks,
            base_url=chat_server.url,
        )["tasks"]["historic"]

    figures = run("run")
    assert figures["accuracy"]["value"] == pytest.approx(2 / 6)
    assert figures["score"]["value"] == pytest.approx((2 * 7 + 4 * 2) / 6)
    judge = read_json(tmp_path / "run" / "run.json")["tasks"]["historic"]["judge"]
    assert judge["prompt_version"] == 3
    (tasks / "wording.yaml").write_text(wording.replace("correct_from: 6", "correct_from: 8"))
    with pytest.raises(UserError, match="prompt_hash"):  # other rules, so another run
        run("run")
    (tasks / "wording.yaml").write_text(wording.replace("max_words", "max_wrods"))
    with pytest.raises(UserError, match=r"wording\.yaml: max_wrods: Extra inputs"):
        run("other")
    assert not (tmp_path / "other").exists()


def clear(line: str) -> None:
    assert line
    assert line.isprintable()


WORDS = ("{'pred': 'yes', ", "'score': ", "Score: ", "Explanation: ", "4", "4.8", "}", "\n", "```")
REPLIES = st.one_of(
    st.text(max_size=30),
    st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=8).map("".join),
)


@pytest.mark.parametrize("text", [PYTHON_DICT, LINES])
def test_any_reply_is_a_verdict_or_one_clear_line(tmp_path: Path, text: str) -> None:
    protocol = loaded(tmp_path, text, "official" if text is PYTHON_DICT else "caption-grounded")

    @settings(max_examples=100, deadline=None)
    @given(reply=REPLIES)
    @example(reply="{'pred': 'yes', 'score': " + "9" * 5000 + "}")
    @example(reply="{'pred': 'yes', 'score': 4j, b'x': ...}")
    @example(reply="{'pred': '\\ud800\\d', 'score': '\\ud800'}")
    def holds(reply: str) -> None:
        try:
            _, score, _ = protocol.read(reply)
        except UnreadableError as error:
            clear(str(error))
        else:
            assert protocol.lowest <= score <= protocol.highest

    holds()
