"""One raw row to one schema row: both forms, what is refused and why."""

from __future__ import annotations

from typing import Any

import pytest

from sharegptvideo.data.schema import CONFIGS
from sharegptvideo.data.sources.rows import RowError, convert, source_of


def turns(*pairs: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"from": speaker, "value": value} for speaker, value in pairs]


QA = {
    "id": "a",
    "video": "clip",
    "conversations": turns(("human", "<video>\nWhy?"), ("gpt", "So.")),
}


def qa(**changes: Any) -> dict[str, Any]:
    return convert(CONFIGS["qa"], {**QA, **changes}, None)


def test_qa_row() -> None:
    assert qa() == {
        "id": "a",
        "video": "clip",
        "source": None,
        "question": "Why?",
        "answer": "So.",
        "caption": None,
    }


def test_extra_fields_are_ignored_and_number_ids_become_texts() -> None:
    assert qa(fps=2, id=17, model={"name": "x"}) == {**qa(), "id": "17"}


def test_flat_question_and_answer() -> None:
    row = {"id": "a", "video": "clip", "question": "Why? <video>", "answer": "So.", "caption": "C"}
    assert convert(CONFIGS["qa"], row, None) == {**qa(), "caption": "C"}


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("<video>\nWhy?", "Why?"),
        ("Why?\n<video>", "Why?"),
        ("<video>Why?", "Why?"),
        ("See <video> here", "See here"),
        ("See\n<image>\nhere", "See\nhere"),
        ("<vid<video>eo>", "<vid eo>"),
        ("  kept as it is ", "  kept as it is "),
    ],
)
def test_tags_leave_the_text(text: str, cleaned: str) -> None:
    row = qa(conversations=turns(("human", text), ("gpt", "So.")))
    assert row["question"] == cleaned


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"id": None}, "no 'id'"),
        ({"id": True}, "'id' is true"),
        ({"video": None}, "no 'video'"),
        ({"video": ["a", "b"]}, "'video' is a list"),
        ({"video": "../secret"}, "leads out of its folder"),
        ({"video": "a/../../b"}, "leads out of its folder"),
        ({"video": "a\\..\\b"}, "leads out of its folder"),
        ({"video": "/etc/clip"}, "absolute path"),
        ({"video": "\\\\server\\clip"}, "absolute path"),
        ({"video": "C:\\clip"}, "absolute path"),
        ({"video": "a\0b"}, "zero byte"),
        ({"conversations": None}, "no 'conversations'"),
        ({"conversations": []}, "not a list of turns"),
        ({"conversations": ["Why?"]}, "turn 1 is a text, not an object"),
        ({"conversations": turns(("human", "Why?"))}, "ends without an answer"),
        ({"conversations": turns(("gpt", "So."), ("human", "Why?"))}, "turn 1 is from 'gpt'"),
        ({"conversations": turns(("human", "<video>\n"), ("gpt", "So."))}, "turn 1' is empty"),
        ({"conversations": turns(("human", "Why?"), ("gpt", 3))}, "is a number where a text"),
        ({"conversations": turns(*[("human", "Q"), ("gpt", "A")] * 2)}, "4 turns where one"),
        ({"caption": 5}, "'caption' is a number"),
        ({"caption": "half \ud83d"}, "half a surrogate pair"),
    ],
)
def test_what_breaks_the_schema(changes: dict[str, Any], cause: str) -> None:
    with pytest.raises(RowError) as caught:
        qa(**changes)
    assert cause in str(caught.value)


def test_preferences_in_both_forms() -> None:
    flat = {
        "id": "p",
        "video": "clip",
        "prompt": "<video>\nWhy?",
        "answer": "So.",
        "chosen": "So it is.",
        "rejected": "",
        "chosen_score": 5,
        "rejected_score": 1.5,
    }
    said = {
        "id": "p",
        "video": "clip",
        "conversations": turns(("human", "<video>\nWhy?")),
        "chosen": {"from": "gpt", "value": "So it is."},
        "rejected": {"from": "gpt", "value": ""},
    }
    first = convert(CONFIGS["preferences"], flat, "release")
    second = convert(CONFIGS["preferences"], said, "release")
    assert (first["chosen_score"], first["rejected_score"]) == (5.0, 1.5)
    unscored = {"chosen_score": None, "rejected_score": None, "answer": None}
    assert second == {**first, **unscored}
    assert second["prompt"] == "Why?"


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"chosen": ""}, "'chosen' is empty"),
        ({"chosen": {"from": "human", "value": "x"}}, "'chosen' is from 'human'"),
        ({"rejected": None}, "no 'rejected'"),
        ({"chosen_score": "5"}, "'chosen_score' is a text"),
        ({"chosen_score": True}, "'chosen_score' is true"),
        ({"rejected_score": float("nan")}, "'rejected_score' is nan"),
        ({"conversations": turns(("human", "Q"), ("gpt", "A"))}, "2 turns where one prompt"),
    ],
)
def test_what_breaks_a_preference(changes: dict[str, Any], cause: str) -> None:
    row = {"id": "p", "video": "clip", "prompt": "Q", "chosen": "A", "rejected": "B", **changes}
    with pytest.raises(RowError, match=cause):
        convert(CONFIGS["preferences"], row, "release")


def test_sft_rows_about_a_video_an_image_and_neither() -> None:
    about = turns(("human", "<image>\nQ"), ("gpt", "A"), ("human", "And?"), ("gpt", "B"))
    image = convert(CONFIGS["sft"], {"id": 1, "image": "coco/1.jpg", "conversations": about}, "r")
    assert image == {
        "id": "1",
        "video": None,
        "image": "coco/1.jpg",
        "messages": [
            {"role": "user", "content": "Q"},
            {"role": "assistant", "content": "A"},
            {"role": "user", "content": "And?"},
            {"role": "assistant", "content": "B"},
        ],
    }
    neither = convert(CONFIGS["sft"], {"id": 2, "conversations": about}, "r")
    assert (neither["video"], neither["image"]) == (None, None)
    with pytest.raises(RowError, match="leads out"):
        convert(CONFIGS["sft"], {"id": 3, "image": "../x.jpg", "conversations": about}, "r")


@pytest.mark.parametrize(
    ("raw", "video", "source"),
    [
        ({"source": "mine"}, "test/webvid/x", "mine"),
        ({}, "test/webvid/x", "WebVid"),
        ({}, "VIDAL/abc", "VIDAL"),
        ({}, "test/actnet/x", "ActivityNet"),
        ({}, "v_QOlSCBRmfWY", "ActivityNet"),
        ({}, "clips/v_QOlSCBRmfWY-Scene-012.mp4", "ActivityNet"),
        ({}, "v_ApplyEyeMakeup_g01_c01", None),
        ({}, "1016732470", "WebVid"),
        ({}, "train_300k/1016732470.mp4", "WebVid"),
        ({"source": "mine"}, "1016732470", "mine"),
        ({}, "test/ssv2/1016732470", "SSV2"),
        ({}, "-123", None),
        ({}, "10167 32470", None),
        ({}, "\u0661\u0662", None),
        ({}, "QOlSCBRmfWY", "VIDAL"),
        ({}, "-_lSCBRmfW0.mp4", "VIDAL"),
        # The last character of a YouTube id holds four bits of its six, so it is one of sixteen.
        ({}, "QOlSCBRmfWZ", None),
        ({}, "msrvtt_clip", None),
        ({}, "QOlSCBRmfWYY", None),
        ({}, "webvid_clip", None),
        ({}, "1016732470\n", None),
    ],
)
def test_source_of_the_release(raw: dict[str, str], video: str, source: str | None) -> None:
    assert source_of(raw, video, None) == source


@pytest.mark.parametrize("video", ["1016732470", "QOlSCBRmfWY", "clip"])
def test_a_known_source_is_not_overruled_by_a_form(video: str) -> None:
    assert source_of({}, video, "MSVD") == "MSVD"
