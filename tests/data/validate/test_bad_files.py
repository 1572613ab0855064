"""Files that cannot be read, or not to their end: each one line, and the others are still read."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sharegptvideo.data.schema import CONFIGS
from sharegptvideo.data.sources.rows import RowError, convert
from sharegptvideo.data.validate import validate
from sharegptvideo.data.validate.texts import row_findings
from tests.support.faulty_rows import findings_of, qa

Release = Callable[[dict[str, list[Any]]], Path]
Parquet = Callable[[str, list[dict[str, Any]]], Path]


def _second(folder: Path, content: bytes, name: str = "b.jsonl") -> Path:
    (folder / "video_instruction" / "train" / "qa" / name).write_bytes(content)
    return folder


@pytest.fixture
def folder(release: Release) -> Path:
    """A good file; the tests put a bad one beside it."""
    return release({"train/qa/a.jsonl": [qa(1)]})


def _line(number: int) -> bytes:
    return json.dumps(qa(number)).encode() + b"\n"


def test_truncated_gzip(folder: Path) -> None:
    packed = gzip.compress(b"".join(_line(n) for n in range(2, 20_000)))
    report = validate(_second(folder, packed[: len(packed) // 2], "b.jsonl.gz"))
    assert findings_of(report) == [("file", "error", "b.jsonl.gz")]
    assert "gzip data cut short; fetch the file again" in report.findings[0].message
    assert report.rows["qa"]["train"] > 1  # what stands before the cut was checked


def test_utf16(folder: Path) -> None:
    report = validate(_second(folder, _line(2).decode().encode("utf-16")))
    # Two lines, as the byte of the line feed cuts them.
    assert {check for check, _, _ in findings_of(report)} == {"schema"}
    assert report.findings[0].message == "UTF-16 text; save the file as UTF-8"
    assert report.rows["qa"] == {"train": 1}


def test_byte_order_mark_and_carriage_returns_are_no_faults(folder: Path) -> None:
    report = validate(_second(folder, b"\xef\xbb\xbf" + _line(2).replace(b"\n", b"\r\n")))
    assert findings_of(report) == []
    assert report.rows["qa"] == {"train": 2}


def test_last_line_cut_in_half(folder: Path) -> None:
    report = validate(_second(folder, _line(2) + _line(3)[:40]))
    assert findings_of(report) == [("schema", "error", "b.jsonl:2")]
    assert report.findings[0].message.startswith("not JSON (")


def test_damaged_parquet_and_missing_column(parquet: Parquet) -> None:
    root = parquet("qa/train", [{"id": "1", "video": "v"}])
    (root / "captions").mkdir()
    (root / "captions" / "train-00000-of-00001.parquet").write_bytes(b"PAR1 no more")
    report = validate(root)
    assert findings_of(report) == [
        ("file", "error", "train-00000-of-00001.parquet"),
        ("file", "error", "train-00000-of-00001.parquet"),
    ]
    damaged, short = (finding.message for finding in report.findings)
    assert damaged.startswith("not a readable Parquet file (")
    assert short == "no column source, question, answer, caption"


def test_parquet_page_damaged_in_the_middle(parquet: Parquet) -> None:
    columns = {"source": "s", "question": "Q?", "answer": "A", "caption": "c"}
    rows = [{"id": str(n), "video": f"v{n}", **columns} for n in range(5000)]
    root = parquet("qa/train", rows)
    path = next(root.glob("qa/*"))
    content = bytearray(path.read_bytes())
    content[4:3000] = bytes(2996)
    path.write_bytes(content)
    assert [check for check, _, _ in findings_of(validate(root))] == ["file"]


def test_broken_split_list(folder: Path) -> None:
    (folder / "splits.json").write_text("[1]")
    report = validate(folder)
    assert findings_of(report)[0][:2] == ("file", "error")
    assert 'expected {"validation": [stem, ...]}' in report.findings[0].message


@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(content=st.binary(max_size=400))
def test_any_bytes_give_a_report(folder: Path, content: bytes) -> None:
    report = validate(_second(folder, content))
    assert report.rows["qa"]["train"] >= 1
    assert report.ok or all(finding.where for finding in report.findings)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = st.sampled_from(
    [
        *("id", "video", "prompt", "chosen", "rejected", "question", "answer", "caption"),
        *("conversations", "messages", "chosen_score", "rejected_score"),
    ]
)
_TEXT = st.text(st.sampled_from("<video>/image \n\x00é."), min_size=1)
_TALK = st.fixed_dictionaries({"from": st.sampled_from(["human", "gpt"]), "value": _TEXT})


@settings(max_examples=100, deadline=None)
@given(raw=st.dictionaries(_FIELDS, _TEXT | _JSON | st.lists(_TALK, max_size=3)))
@example(raw={"id": "a", "video": "b", "prompt": "c", "caption": "d", "messages": "e"})
@example(raw={"id": "a", "video": "b", "prompt": "c", "caption": "d", "messages": ["e", 1]})
def test_any_row_that_is_read_can_be_checked(raw: dict[str, Any]) -> None:
    for config in CONFIGS.values():
        try:
            row = convert(config, raw, None)
        except RowError:
            continue
        for cleaned in (False, True):
            for check, message, _ in row_findings(config, raw, row, cleaned=cleaned, max_chars=5):
                assert check
                assert "\n" not in message
