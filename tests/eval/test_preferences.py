"""A judge against people's preferences: figures by hand, files that are none, what it costs."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharegptvideo._io import read_json, read_jsonl, write_json, write_jsonl
from sharegptvideo.cli import app
from sharegptvideo.errors import UserError
from sharegptvideo.eval import compare_with_preferences, read_preferences
from sharegptvideo.judges import open_judge

Row = dict[str, Any]

# id, video, answers, reference, and what two raters say. Exact says: a, b, tie, b, nothing.
PAIRS = [
    ("1", "u", "a dog", "a cat", "a dog", "a", "a"),
    ("2", "u", "red", "blue", "blue", "b", "tie"),
    ("3", "v", "a man", "a man", "a man", "tie", "b"),
    ("4", "w", "yes", "no", "no", "a", "b"),
    ("5", "x", "here, now", "", None, "a", None),
]
PRICES = "date: 2026-01-02\nhosts: {127.0.0.1: {j: {prompt: 1000, completion: 2000}}}\n"


def rows() -> list[Row]:
    return [
        {"id": name, "video": video, "question": f"What, {name}?", "answer_a": a, "answer_b": b,
         "reference": reference, "rater": rater, "choice": choice}
        for name, video, a, b, reference, ann, bob in PAIRS
        for rater, choice in (("ann", ann), ("bob", bob))
        if choice is not None
    ]  # fmt: skip


def as_csv(file: Path) -> Path:
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, list(rows()[0]))
        writer.writeheader()
        writer.writerows(rows())
    return file


def as_jsonl(file: Path, lines: list[Row] | None = None) -> Path:
    write_jsonl(file, rows() if lines is None else lines)
    return file


def invoke(*words: object) -> Any:
    return CliRunner().invoke(app, ["eval", "agreement", *map(str, words)])


def test_the_figures_by_hand(tmp_path: Path) -> None:
    """Eight votes on scored pairs. Equal: ann on 1, 2 and 3, bob on 1 and 4, so 5 of 8.

    Chance: people say a 3, b 3, tie 2 times, the judge a 2, b 4, tie 2: (6 + 12 + 4) / 64; kappa
    (40 − 22) / (64 − 22) = 3/7. Without ties five votes are left, four equal; people a 3, b 2, the
    judge a 2, b 3: chance 12/25, kappa (20 − 12) / (25 − 12) = 8/13.
    """
    preferences = read_preferences([as_jsonl(tmp_path / "p.jsonl")])
    figures = compare_with_preferences(preferences, open_judge("exact")).figures
    assert (figures["n_items"], figures["n_votes"], figures["n_raters"]) == (5, 9, 2)
    assert (figures["n_videos"], figures["n_unscored"]) == (4, 1)
    assert sum(figures["unscored"].values()) == 2
    assert figures["choices"] == {
        "people": {"a": 4, "b": 3, "tie": 2},
        "judge": {"a": 1, "b": 2, "tie": 1},
    }
    whole = figures["all"]
    assert (whole["n"], whole["n_clusters"]) == (8, 3)
    assert whole["agreement"]["value"] == 5 / 8
    assert whole["kappa"]["value"] == pytest.approx(3 / 7)
    filled = {name: count for name, count in whole["table"].items() if count}
    assert filled == {"a a": 2, "a b": 1, "b b": 2, "b tie": 1, "tie b": 1, "tie tie": 1}
    assert (whole["decided"]["n"], whole["decided"]["agreement"]["value"]) == (5, 0.8)
    assert whole["decided"]["kappa"]["value"] == pytest.approx(8 / 13)
    assert [each["agreement"]["value"] for each in figures["raters"].values()] == [0.75, 0.5]
    # The third pair's answers are the same: judged once. No reference: not judged.
    assert figures["cost"] == {
        "n_verdicts": 7, "tokens": 0, "tokens_per_verdict": 0, "dollars": 0,
        "dollars_per_verdict": 0,
    }  # fmt: skip


def test_raters_among_each_other_by_hand(tmp_path: Path) -> None:
    """Four pairs of votes, one equal. Cohen: ann says a 2, b 1, tie 1, bob a 1, b 2, tie 1; chance
    5/16, kappa (4 − 5) / (16 − 5). In both orders each says a 3, b 3, tie 2 of 8: (16 − 22) / 42.
    """
    preferences = read_preferences([as_jsonl(tmp_path / "p.jsonl")])
    between = compare_with_preferences(preferences, open_judge("exact")).figures["between_raters"]
    assert (between["n_items"], between["n"], between["n_clusters"]) == (4, 4, 3)
    assert between["agreement"]["value"] == 0.25
    assert between["kappa"]["value"] == pytest.approx(-1 / 7)
    (pair,) = between["pairs"]
    assert (pair["first"], pair["second"], pair["n"]) == ("ann", "bob", 4)
    assert pair["kappa"]["value"] == pytest.approx(-1 / 11)


def test_intervals_are_by_video(tmp_path: Path) -> None:
    """Twenty votes on one video are worth no more than one; on twenty videos, more."""
    base = rows()[0]
    for videos, narrow in ((1, False), (2, False), (20, True)):
        lines = [
            base | {"id": str(n), "video": f"v{n % videos}", "choice": "ab"[n % 4 == 0]}
            for n in range(20)
        ]
        preferences = read_preferences([as_jsonl(tmp_path / f"{videos}.jsonl", lines)])
        share = compare_with_preferences(preferences, open_judge("exact")).figures["all"]
        ends = share["agreement"]["ci95"]
        assert share["agreement"]["value"] == 0.75
        assert (ends is None) == (videos == 1)
        assert narrow == (ends is not None and ends[1] - ends[0] < 0.5)


def test_csv_and_jsonl_are_one_format_and_files_are_read_as_one(tmp_path: Path) -> None:
    table, lines = as_csv(tmp_path / "p.csv"), as_jsonl(tmp_path / "p.jsonl")
    assert read_preferences([table]).items == read_preferences([lines]).items
    by_rater = [
        as_jsonl(tmp_path / f"{rater}.jsonl", [row for row in rows() if row["rater"] == rater])
        for rater in ("ann", "bob")
    ]
    assert read_preferences(by_rater).items == read_preferences([table]).items


BAD: list[tuple[Row, str]] = [
    ({"choice": "A"}, "p.jsonl:2: choice must be a, b or tie, got 'A'"),
    ({"choice": None}, "p.jsonl:2: choice is empty"),
    ({"video": " "}, "p.jsonl:2: video is empty"),
    ({"question": 3}, "p.jsonl:2: question must be a text, got 3"),
    ({"rater": "ann"}, "p.jsonl:2: a second choice by 'ann' on '1', after that in .*p.jsonl:1"),
    ({"answer_b": "a cow"}, "p.jsonl:2: pair '1' has other texts than in .*p.jsonl:1"),
    ({"reference": "a cat"}, "p.jsonl:2: pair '1' has other texts"),
    ({"when": 1, "where": 2}, "p.jsonl:2: unknown when, where; a row has id, video"),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=lambda value: str(value)[:30])
def test_rows_that_are_none(tmp_path: Path, change: Row, message: str) -> None:
    lines = [rows()[0], rows()[1] | change]
    with pytest.raises(UserError, match=message):
        read_preferences([as_jsonl(tmp_path / "p.jsonl", lines)])


def test_files_that_are_none(tmp_path: Path) -> None:
    table = as_csv(tmp_path / "p.csv")
    text = table.read_text()
    table.write_text(text.replace(",rater,choice", ",person,choice", 1))
    with pytest.raises(UserError, match=r"p.csv:2: no rater, and unknown person; a row has"):
        read_preferences([table])
    table.write_text(text.splitlines()[0] + "\n")
    with pytest.raises(UserError, match="no preference in it"):
        read_preferences([table])
    table.write_text(text + "6,y\n")
    with pytest.raises(UserError, match=r"p.csv:11: needs 8 columns"):
        read_preferences([table])
    with pytest.raises(UserError, match="No such file"):
        read_preferences([tmp_path / "absent.csv"])
    verdicts = as_jsonl(tmp_path / "verdicts.jsonl", [{"id": "1", "correct": True}])
    with pytest.raises(UserError, match="give the run that it is of first"):
        read_preferences([verdicts])


def test_a_judge_without_any_reference_is_refused(tmp_path: Path) -> None:
    lines = [row | {"reference": None} for row in rows()]
    preferences = read_preferences([as_jsonl(tmp_path / "p.jsonl", lines)])
    with pytest.raises(UserError, match="no pair has a reference answer, which judge exact"):
        compare_with_preferences(preferences, open_judge("exact"))


def key_of(file: Path) -> Path:
    """The key of the first two pairs, of which run 1 gave the first answers."""
    items = {
        row["id"]: {
            "task": "t", "id": f"q{row['id']}", "video": row["video"],
            "question": row["question"], "reference": row["reference"], "caption": None,
            "answers": [{"run": 1, "text": row["answer_a"]}, {"run": 0, "text": row["answer_b"]}],
        }
        for row in rows()[:4]
    }  # fmt: skip
    runs = [{"name": name, "model": "m"} for name in ("sft", "dpo")]
    write_json(
        file,
        {"sheet": "s", "kind": "preferences", "seed": 0, "runs": runs, "n_shared": 9,
         "n_same": {"0 1": 7}, "items": items},
    )  # fmt: skip
    return file


def test_a_key_gives_references_and_says_which_run_is_preferred(tmp_path: Path) -> None:
    """Votes: a, a (dpo, twice), b (sft), tie: net (2 − 1) / 4. The judge: a and b, net 0."""
    key = key_of(tmp_path / "key.json")
    bare = [{name: v for name, v in row.items() if name != "reference"} for row in rows()[:4]]
    file = as_jsonl(tmp_path / "p.jsonl", bare)
    (pair,) = compare_with_preferences(
        read_preferences([file], key), open_judge("exact")
    ).figures["runs"]  # fmt: skip
    assert (pair["first"]["name"], pair["second"]["name"]) == ("sft", "dpo")
    assert (pair["n_items"], pair["n_shared"], pair["n_same"]) == (2, 9, 7)
    people, judge = pair["people"], pair["judge"]
    assert (people["first"], people["second"], people["tie"]) == (1, 2, 1)
    assert people["net"]["value"] == 0.25
    assert (judge["first"], judge["second"], judge["net"]["value"]) == (1, 1, 0)


def test_rows_that_do_not_fit_the_key(tmp_path: Path) -> None:
    key, file = key_of(tmp_path / "key.json"), tmp_path / "p.jsonl"
    with pytest.raises(UserError, match=r"p.jsonl:5: '3' is no pair of .*key.json"):
        read_preferences([as_jsonl(file)], key)
    with pytest.raises(UserError, match=r"p.jsonl:1: '1' has other texts in"):
        read_preferences([as_jsonl(file, [rows()[0] | {"answer_a": "x"}])], key)
    write_json(key, read_json(key) | {"kind": "ratings"})
    with pytest.raises(UserError, match="item '1' has not 1 answers"):
        read_preferences([as_jsonl(file)], key)
    write_json(key, {"sheet": "s"})
    with pytest.raises(UserError, match="not the key of a sheet"):
        read_preferences([as_jsonl(file)], key)


def test_a_served_judge_is_paid_once_and_its_price_is_reported(
    chat_server: Any, tmp_path: Path
) -> None:
    """Seven tokens of a prompt and three of an answer: 10 tokens, $0.007 + $0.006 a call.

    Seven answers take eight calls: "yes" has no score that can be read, and is asked about twice.
    """
    chat_server.models = ["j"]
    scores = {"a dog": 5, "a cat": 1, "red": 2, "blue": 4, "a man": 3, "yes": "none", "no": 4}

    def answer(body: dict[str, Any]) -> str:
        asked = re.search(r'"answer": "([^"]*)"', body["messages"][1]["content"])
        assert asked
        return json.dumps({"correct": "yes", "score": scores[asked[1]]})

    chat_server.answer = answer
    (tmp_path / "prices.yaml").write_text(PRICES)
    words = (
        as_csv(tmp_path / "p.csv"), "--judge", "openai:j", "--base-url", chat_server.url,
        "--prices", tmp_path / "prices.yaml", "--no-cache",
        "--out", tmp_path / "out", "--json",
    )  # fmt: skip
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["judge"]["protocol"] == "official"  # no pair has a caption
    assert figures["choices"]["judge"] == {"a": 1, "b": 1, "tie": 1}
    assert figures["n_unscored"] == 2
    assert (figures["cost"]["n_verdicts"], figures["cost"]["tokens"]) == (7, 80)
    assert figures["cost"]["dollars"] == pytest.approx(8 * 0.013)
    assert figures["cost"]["dollars_per_verdict"] == pytest.approx(8 * 0.013 / 7)
    assert len(chat_server.requests) == 8
    again = invoke(*words)
    assert json.loads(again.stdout) == figures == read_json(tmp_path / "out" / "agreement.json")
    assert len(chat_server.requests) == 8


def test_a_judge_that_sees_frames_needs_no_reference(
    chat_server: Any, small_release: Any, tmp_path: Path
) -> None:
    chat_server.models = ["j"]
    chat_server.answer = lambda body: json.dumps(
        {"explanation": "", "score": 5 if '"red"' in str(body).replace("\\", "") else 1}
    )
    base = {name: value for name, value in rows()[0].items() if name != "reference"}
    lines = [
        base | {"id": clip, "video": f"test/msvd/{clip}", "answer_a": "red", "answer_b": "blue"}
        for clip in ("a", "b", "absent")
    ]
    words = (
        as_jsonl(tmp_path / "p.jsonl", lines), "--judge", "openai:j", "--prompt", "frames",
        "--base-url", chat_server.url,
    )  # fmt: skip
    refused = invoke(*words)
    assert refused.exit_code == 2
    assert "needs the clips; give their folder with --media" in refused.stderr
    result = invoke(*words, "--media", small_release.folder, "--json")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert (figures["all"]["n"], figures["all"]["agreement"]["value"]) == (2, 1.0)
    assert figures["unscored"] == {"the clip test/msvd/absent is missing": 2}


def test_the_command_prints_and_writes(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = invoke(as_csv(tmp_path / "p.csv"), "--judge", "exact", "--out", out)
    assert result.exit_code == 0, result.output
    assert "62.5 (" in result.stdout
    assert "Ties: 2 of 9 votes by people, 1 of 4 pairs by the judge" in result.stdout
    assert "left out: 1 pair of 5 with an unscored answer" in result.stderr
    with (out / "votes.csv").open(newline="") as file:
        votes = list(csv.DictReader(file))
    assert Counter(vote["judge"] for vote in votes) == {"a": 2, "b": 4, "tie": 2, "": 1}
    assert (votes[0]["score_a"], votes[0]["score_b"]) == ("5.0", "1.0")
    with (out / "agreement.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert (first["who"], first["n"], first["agreement"]) == ("judge with people", "8", "0.625")
    assert len(list(read_jsonl(out / "judgements.jsonl"))) == 7


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["RUN"], "is one run; name what its verdicts are held against"),
        (["RUN", "p.csv", "--judge", "exact"], "--media are for files of people's"),
        (["p.csv", "--judge", "exakt"], "did you mean exact"),
        (["p.csv", "--judge", "exact", "--prompt", "frames"], "reads texts only"),
        (["p.csv", "--key", "absent.json"], "absent.json"),
    ],
)  # fmt: skip
def test_mistakes_at_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    as_csv(tmp_path / "p.csv")
    (tmp_path / "RUN").mkdir()
    result = invoke(*words)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
