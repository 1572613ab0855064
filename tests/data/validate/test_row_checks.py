"""Each check of rows finds its fault, at its place, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo.data.validate import CHECKS, Report, validate
from sharegptvideo.data.validate.texts import MAX_CHARS
from sharegptvideo.errors import UserError
from tests.support.faulty_rows import findings_of, pair, qa

Release = Callable[[dict[str, list[Any]]], Path]
Parquet = Callable[[str, list[dict[str, Any]]], Path]

QA, DPO = "train/qa/a.jsonl", "train/dpo/a.jsonl"


def _talk(question: str, answer: str) -> list[dict[str, str]]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


def _row(number: int, **columns: Any) -> dict[str, Any]:
    """A good row of `qa` as Parquet has it."""
    return {
        "id": f"q{number}",
        "video": f"clip_{number}",
        "source": "release",
        "question": f"What is {number}?",
        "answer": f"It is {number}.",
        "caption": None,
        **columns,
    }


def test_good_rows_give_no_finding(release: Release) -> None:
    report = validate(release({QA: [qa(1), qa(2)], DPO: [pair(3), pair(4, rejected="")]}))
    assert report.ok
    assert findings_of(report) == []
    assert report.rows == {"qa": {"train": 2}, "preferences": {"train": 2}}
    assert report.videos == 4


def test_broken_rows_stop_nothing_and_are_reported_with_their_lines(release: Release) -> None:
    rows = [
        qa(1),
        '{"id": "q2", "video": "clip',
        "[1, 2]",
        {**qa(4), "video": "../../etc/passwd"},
        qa(5, conversations=_talk("<video>\nWhat?", " ")),
        {k: v for k, v in qa(6).items() if k != "id"},
        qa(7),
    ]
    report = validate(release({QA: rows}))
    assert findings_of(report) == [
        ("schema", "error", "a.jsonl:2"),
        ("schema", "error", "a.jsonl:3"),
        ("schema", "error", "a.jsonl:4"),
        ("schema", "error", "a.jsonl:6"),
        ("empty-text", "error", "a.jsonl:5"),
    ]
    assert report.rows["qa"] == {"train": 2}
    messages = [finding.message for finding in report.findings]
    assert messages[2] == "'video' leads out of its folder ('../../etc/passwd')"
    assert not any("a.jsonl" in message for message in messages)


@pytest.mark.parametrize(
    ("check", "severity", "row"),
    [
        ("no-words", "warning", qa(1, conversations=_talk("<video>\nWhat?", "... !"))),
        ("long-text", "warning", qa(1, conversations=_talk("Q?", "a" * (MAX_CHARS + 1)))),
        ("odd-characters", "warning", qa(1, conversations=_talk("Q?", "caf\ufffd"))),
        ("odd-characters", "warning", qa(1, conversations=_talk("Q?", "a\u0000b"))),
        ("tag-left", "warning", qa(1, conversations=_talk("<video>\nQ?", "In <video> a cat."))),
        ("tag-left", "warning", qa(1, conversations=_talk("<video><video>\nQ?", "A cat."))),
        ("tag-left", "error", qa(1, conversations=_talk("<video>\nQ?", "In <Video> a cat."))),
        ("tag-left", "error", qa(1, conversations=_talk("<video>\nQ?", "In <video_1> a cat."))),
    ],
)
def test_faulty_text(release: Release, check: str, severity: str, row: dict[str, Any]) -> None:
    assert findings_of(validate(release({QA: [row]}))) == [(check, severity, "a.jsonl:1")]


def test_texts_at_the_limits_pass(release: Release) -> None:
    rows = [
        qa(1, conversations=_talk("<video>\nQ?", "a" * MAX_CHARS)),
        qa(2, conversations=_talk("Is a < b > c?\n<video>", "5")),
        qa(3, conversations=_talk("<video>\nВопрос?", "答案\nна две строки\tи табуляция")),
    ]
    assert findings_of(validate(release({QA: rows}))) == []


@pytest.mark.parametrize(
    ("check", "severity", "change"),
    [
        ("equal-sides", "error", {"rejected": " it IS 1. "}),
        ("reversed-scores", "error", {"chosen_score": 1.0, "rejected_score": 4.0}),
        ("equal-scores", "warning", {"chosen_score": 3, "rejected_score": 3}),
    ],
)
def test_faulty_pair(release: Release, check: str, severity: str, change: dict[str, Any]) -> None:
    rows = [pair(0), pair(1, **change), pair(2, chosen_score=None, rejected_score=5)]
    assert findings_of(validate(release({DPO: rows}))) == [(check, severity, "a.jsonl:2")]


def test_ids_and_rows_met_again(release: Release) -> None:
    other = qa(9, id="q1")
    files = {
        "train/qa/a.jsonl": [qa(1), qa(2), other],
        # Word for word in an earlier file, id and all: the reader leaves it out.
        "train/qa/b.jsonl": [qa(2), {**qa(1), "id": "q3"}],
    }
    report = validate(release(files))
    assert findings_of(report) == [
        ("duplicate-id", "warning", "a.jsonl:3"),
        ("repeated-row", "warning", "b.jsonl:1"),
        ("repeated-row", "warning", "b.jsonl:2"),
    ]
    assert [finding.id for finding in report.sorted_findings()] == ["q1", "q2", "q3"]
    assert report.findings[0].message.endswith("a.jsonl:1")


def test_ids_in_parquet_are_errors_within_a_split(parquet: Parquet) -> None:
    parquet("qa/validation", [_row(1, video="other", question="Who?")])
    folder = parquet("qa/train", [_row(1), _row(2), _row(3, id="q1")])
    report = validate(folder)
    place = "train-00000-of-00001.parquet: row 3"
    assert findings_of(report) == [("duplicate-id", "error", place)]
    assert report.findings[0].split == "train"


def test_tags_in_parquet_are_errors_though_our_reader_drops_them(parquet: Parquet) -> None:
    folder = parquet("qa/train", [_row(1), _row(2, question="<video>\nWhat?")])
    assert findings_of(validate(folder)) == [
        ("tag-left", "error", "train-00000-of-00001.parquet: row 2")
    ]


def test_conflicting_answers_are_reported_with_both(release: Release) -> None:
    rows = [
        qa(1, "v", conversations=_talk("<video>\nWhat is the cat's colour?", "A black one.")),
        qa(2, "v", conversations=_talk("what is the cat's colour", "black one")),
        qa(3, "w", conversations=_talk("What is the cat's colour?", "red")),
        qa(4, "v", conversations=_talk("What is the cat's colour ?", "White.")),
    ]
    report = validate(release({QA: rows}))
    assert findings_of(report) == [("conflicting-answers", "warning", "a.jsonl:1")]
    message = report.findings[0].message
    assert "'A black one.' at" in message
    assert "'White.' at" in message
    assert "on v:" in message
    assert "red" not in message


def test_all_are_counted_and_the_first_listed(release: Release) -> None:
    rows: list[Any] = [pair(n, rejected=f"It is {n}.") for n in range(50)]
    rows += [qa(n) for n in range(50, 80)]  # no pairs: 30 broken rows
    report = validate(release({DPO: rows}))
    assert report.count("equal-sides") == 50
    assert report.count("schema", "error") == 30
    assert report.errors() == 80
    assert [place for check, _, place in findings_of(report) if check == "equal-sides"] == [
        f"a.jsonl:{n}" for n in range(1, 21)
    ]


def test_check_left_out_is_not_counted_and_said_so(release: Release) -> None:
    folder = release({DPO: [pair(1, rejected="It is 1.")]})
    report = validate(folder, ignore=["equal-sides"])
    assert report.ok
    assert report.skipped["equal-sides"] == "left out as asked"
    with pytest.raises(UserError, match="unknown check 'equal_sides'; did you mean equal-sides"):
        validate(folder, ignore=["equal_sides"])


def test_files_that_nothing_reads(release: Release, parquet: Parquet) -> None:
    folder = release(
        {
            QA: [qa(1)],
            "train/dpoo/a.jsonl": ["{}"],
            "train/pretrain/image_caption_pretrain.jsonl": [],
        }
    )
    assert findings_of(validate(folder)) == [("unread-file", "warning", "a.jsonl")]
    parquet("qa/trial", [_row(1)])
    report = validate(parquet("qa/train", [_row(1)]))
    assert findings_of(report) == [("unread-file", "warning", "trial-00000-of-00001.parquet")]


def test_report_names_every_check_in_plain_json(release: Release) -> None:
    report = validate(release({QA: [qa(1), "{"]}))
    figures = report.as_dict()
    assert list(figures["checks"]) == list(CHECKS)
    assert figures["checks"]["schema"]["errors"] == figures["errors"] == 1
    assert (
        figures["checks"]["leak-name"]["skipped"]
        == "there are no test rows; --against FOLDER has some"
    )
    assert figures["findings"][0] == {
        "check": "schema",
        "severity": "error",
        "message": figures["findings"][0]["message"],
        "config": "qa",
        "split": None,
        "id": None,
        "where": figures["findings"][0]["where"],
    }
    assert isinstance(report, Report)
