"""The pair rule, on hand-made items and on random ones."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from sharegptvideo import load_dataset
from sharegptvideo._io import write_json, write_jsonl
from sharegptvideo.build import PAIRS_FILE, make_pairs
from sharegptvideo.build.preferences import CAUSES, pair_of
from sharegptvideo.errors import UserError

Item = dict[str, Any]


def answer(text: str, score: float | None, copies: int = 1) -> Item:
    return {
        "text": text,
        "copies": copies,
        "status": "unscored" if score is None else "scored",
        "score": score,
        "reason": None,
        "reply": None,
        "judge": {},
        "tokens": 0,
    }


def item(name: str, *answers: Item, error: str | None = None) -> Item:
    return {
        "id": name,
        "video": f"video_{name}",
        "source": "release",
        "question": "What is it?",
        "answer": "A ball.",
        "caption": "A ball rolls.",
        "error": error,
        "answers": list(answers),
    }


@st.composite
def items(draw: st.DrawFn) -> Item:
    texts = st.sampled_from(["red", "Red!", "a red ball", "A  red ball.", "blue", "", "?", "two"])
    scores = st.none() | st.sampled_from([1.0, 2.0, 2.99, 3.0, 4.5, 5.0])
    drawn = draw(st.lists(st.tuples(texts, scores), max_size=6, unique_by=lambda pair: pair[0]))
    return item(draw(st.text(min_size=1)), *(answer(text, score) for text, score in drawn))


@given(items(), st.integers())
def test_pair_has_one_answer_of_each_kind(made: Item, seed: int) -> None:
    found = pair_of(made, seed=seed)
    offered = {(a["text"], a["score"]) for a in made["answers"]}
    if isinstance(found, str):
        assert found in CAUSES
        return
    assert (found["chosen"], found["chosen_score"]) in offered
    assert (found["rejected"], found["rejected_score"]) in offered
    assert found["rejected_score"] < 3.0 <= found["chosen_score"]
    words = ["".join(filter(str.isalnum, found[side].lower())) for side in ("chosen", "rejected")]
    assert all(words)
    assert words[0] != words[1]


@given(items(), st.integers())
def test_an_item_without_pair_has_no_two_sides(made: Item, seed: int) -> None:
    """Independent statement of the rule: which sides the first scored spelling of each text has."""
    sides: dict[str, bool] = {}
    for one in made["answers"]:
        key = " ".join("".join(c if c.isalnum() else " " for c in one["text"].lower()).split())
        if key and one["score"] is not None:
            sides.setdefault(key, one["score"] >= 3.0)
    assert isinstance(pair_of(made, seed=seed), dict) == (set(sides.values()) == {True, False})


def test_each_cause() -> None:
    good, bad = answer("a ball", 4), answer("a cat", 1)
    assert pair_of(item("a", good, answer("one ball", 3)), seed=0) == "all_acceptable"
    assert pair_of(item("b", bad, answer("a dog", 2.9)), seed=0) == "all_unacceptable"
    assert pair_of(item("c", good), seed=0) == "too_few_scored"
    assert pair_of(item("d", good, answer("x", None)), seed=0) == "too_few_scored"
    assert pair_of(item("e", answer("Yes.", 5), answer("yes", 1)), seed=0) == "too_few_scored"
    assert pair_of(item("f", good, answer(" ", 1)), seed=0) == "too_few_scored"
    assert pair_of(item("g", error="no clip"), seed=0) == "no_candidates"
    assert isinstance(pair_of(item("h", good, bad), seed=0), dict)


def test_draw_is_even_and_depends_on_the_item() -> None:
    """Over 600 items each of 3 × 2 pairs is expected 100 times; 60 to 140 is beyond 4 sigma."""
    answers = [answer(f"good {n}", 4) for n in range(3)] + [answer(f"bad {n}", 2) for n in range(2)]
    pairs = [pair_of(item(str(n), *answers), seed=0) for n in range(600)]
    counts = Counter((p["chosen"], p["rejected"]) for p in pairs if isinstance(p, dict))
    assert len(counts) == 6
    assert all(60 < count < 140 for count in counts.values())
    again = [pair_of(item(str(n), *answers), seed=1) for n in range(600)]
    assert again != pairs


@pytest.fixture
def rewards(tmp_path: Path) -> Path:
    rows = [
        item("1", answer("a ball", 4, copies=3), answer("A ball!", 2), answer("a cat", 1.5)),
        item("2", answer("red", 5), answer("blue", None)),
        item("3", answer("yes", 3), answer("it does", 5)),
        item("4", error="no media found for video_4"),
        item("5", answer("", 1, copies=2), answer("no", 2), answer("never", 1)),
    ]
    write_jsonl(tmp_path / "loop" / "rewards.jsonl", rows)
    return tmp_path / "loop"


def test_report_counted_by_hand(rewards: Path, tmp_path: Path) -> None:
    report = make_pairs(rewards, tmp_path / "pairs", seed=3)
    assert (report.n_items, report.n_pairs) == (5, 1)
    assert report.without_pair == {
        "all_acceptable": 1,
        "all_unacceptable": 1,
        "too_few_scored": 1,
        "no_candidates": 1,
    }
    assert report.n_answers == 5 + 2 + 2 + 0 + 4
    assert report.n_unscored == 1
    assert report.duplicates_removed == 3  # two copies of "a ball", and "A ball!"
    assert report.empty_removed == 2
    assert report.histogram == {"1": 4, "2": 2, "3": 1, "4": 3, "5": 2}
    assert report.mean_score == pytest.approx(
        (4 * 3 + 2 + 1.5 + 5 + 3 + 5 + 1 + 1 + 2 + 1) / 12, abs=1e-12
    )
    assert report.share_acceptable == pytest.approx(6 / 12)
    assert (report.mean_chosen, report.mean_rejected) == (4.0, 1.5)
    written = json.loads((tmp_path / "pairs" / "preferences.json").read_text())
    assert written == report.as_dict()
    lines = (tmp_path / "pairs" / "items_without_pair.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["2", "3", "4", "5"]


def test_pairs_load_as_a_dataset(rewards: Path, tmp_path: Path) -> None:
    make_pairs(rewards, tmp_path / "pairs")
    (row,) = load_dataset("preferences", data_dir=tmp_path / "pairs")
    assert row == {
        "id": "1",
        "video": "video_1",
        "source": "release",
        "prompt": "What is it?",
        "chosen": "a ball",
        "rejected": "a cat",
        "chosen_score": 4.0,
        "rejected_score": 1.5,
        "answer": "A ball.",
        "caption": "A ball rolls.",
    }


def test_each_pair_says_where_it_comes_from(rewards: Path, tmp_path: Path) -> None:
    make_pairs(rewards, tmp_path / "pairs", seed=3, threshold=2.5)
    (pair,) = (json.loads(line) for line in (tmp_path / "pairs" / PAIRS_FILE).open())
    made = pair["made"]
    assert (made["stage"], made["version"], made["parents"]) == ("preferences", 1, ["1"])
    assert (made["threshold"], made["sampling"]["seed"]) == (2.5, 3)
    assert (made["requests"], made["dollars"]) == (0, None)
    (row,) = parquet.read_table(tmp_path / "pairs" / "preferences").to_pylist()
    assert row["made"] == made


def test_every_pair_is_for_training(tmp_path: Path) -> None:
    """The questions come from one split; 400 videos would lose some to a second hold-out."""
    rows = [item(str(n), answer("a ball", 4), answer("a cat", 1)) for n in range(400)]
    write_jsonl(tmp_path / "rewards.jsonl", rows)
    make_pairs(tmp_path / "rewards.jsonl", tmp_path / "pairs")
    assert len(load_dataset("preferences", data_dir=tmp_path / "pairs")) == 400


def test_more_items_leave_the_pairs_as_they_are(tmp_path: Path) -> None:
    answers = [answer(f"good {n}", 4) for n in range(5)] + [answer(f"bad {n}", 2) for n in range(5)]
    for count in (20, 40):
        rows = [item(str(n), *answers) for n in reversed(range(count))]
        write_jsonl(tmp_path / str(count) / "rewards.jsonl", rows)
        make_pairs(tmp_path / str(count), tmp_path / str(count), seed=5)
    few, many = (
        set((tmp_path / name / PAIRS_FILE).read_text().splitlines()) for name in ("20", "40")
    )
    assert len(few) == 20
    assert few < many


def test_threshold(rewards: Path, tmp_path: Path) -> None:
    assert make_pairs(rewards, tmp_path / "a", threshold=4).n_pairs == 2
    assert make_pairs(rewards, tmp_path / "b", threshold=1).n_pairs == 0


def test_unusable_inputs(rewards: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="build rewards"):
        make_pairs(tmp_path, tmp_path / "pairs")
    write_json(rewards / "rewards.json", {"settings": {}, "report": None})
    with pytest.raises(UserError, match="not finished"):
        make_pairs(rewards, tmp_path / "pairs")
    (tmp_path / "rewards.jsonl").write_text('{"id": "1"\n')
    with pytest.raises(UserError, match=r"rewards\.jsonl:1: not JSON"):
        make_pairs(tmp_path / "rewards.jsonl", tmp_path / "pairs")
    (tmp_path / "rewards.jsonl").write_text("")
    with pytest.raises(UserError, match="no scored items"):
        make_pairs(tmp_path / "rewards.jsonl", tmp_path / "pairs")
    assert not (tmp_path / "pairs").exists()


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ('"score": 4', '"score": NaN', "item 1: score must be a number or null, got nan"),
        ('"score": 4', '"score": 1e999', "score must be a number or null, got inf"),
        ('"score": 4', '"score": true', "score must be a number or null, got True"),
        ('"score": 4', '"score": "4"', "score must be a number or null, got '4'"),
        ('"copies": 3', '"copies": 0', "without its text or its copies"),
        ('"question": ', '"q": ', "item 1: no question"),
    ],
)
def test_rewards_that_were_edited_are_one_line(
    tmp_path: Path, old: str, new: str, cause: str
) -> None:
    file = tmp_path / "rewards.jsonl"
    write_jsonl(file, [item("1", answer("a ball", 4, copies=3), answer("a cat", 1))])
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        make_pairs(file, tmp_path / "out")
    assert str(caught.value).startswith(f"{file}: ")
    assert cause in str(caught.value)
    assert not (tmp_path / "out").exists()
