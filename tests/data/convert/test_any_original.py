"""Any bytes in: rows of the schema out, or one clear line. For every reader of originals."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sharegptvideo.data.convert import convert
from sharegptvideo.data.schema import CONFIGS
from sharegptvideo.data.sources.original_rows import (
    read_activitynet,
    read_msrvtt,
    read_msvd,
    read_msvd_mapping,
    read_tgif_frameqa,
    read_video_chatgpt,
    tgif_entries,
    tgif_row,
)
from sharegptvideo.data.sources.original_sets import ORIGINAL_SETS, split_of_file
from sharegptvideo.data.sources.plain import read_captions, read_plain
from sharegptvideo.errors import UserError

Rows = Iterator[dict[str, Any]]

TASK = {"id", "video", "question", "answer", "caption", "question_type"}
NAMES = (
    *("id", "question_id", "video_id", "video_name", "video", "question", "answer", "type"),
    *("q", "a", "Q", "A", "Q1", "Q2", "gif_name", "vid_id", "caption", "description"),
    *("a1", "a2", "a3", "a4", "a5", "source", "prompt", "chosen", "rejected", "chosen_score"),
    *("messages", "conversations"),
)

_leaf = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["1451", "vid1", "v_1QIUV7WYKXg", "ACTION1", "..", "/x", "0", "<video>"]),
)
_json = st.recursive(
    _leaf,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(NAMES), inner, max_size=6)
    ),
    max_leaves=12,
)
_entries = st.lists(st.dictionaries(st.sampled_from(NAMES), _leaf, max_size=10), max_size=4)
_cells = st.lists(
    st.lists(st.one_of(st.sampled_from(NAMES), st.text(max_size=6)), min_size=1, max_size=9),
    max_size=5,
)


def _table(cells: list[list[str]], delimiter: str) -> bytes:
    text = "\n".join(delimiter.join(line) for line in cells)
    return text.encode("utf-8", "surrogatepass")


CONTENT = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")),
    _json.map(lambda value: json.dumps(value).encode()),
    _entries.map(lambda value: json.dumps(value).encode()),
    _entries.map(lambda rows: b"\n".join(json.dumps(row).encode() for row in rows)),
    _cells.map(lambda cells: _table(cells, "\t")),
    _cells.map(lambda cells: _table(cells, ",")),
    # As a transfer that broke off, and as other systems write text.
    st.tuples(_entries, st.integers(0, 60)).map(lambda v: json.dumps(v[0]).encode()[: v[1]]),
    _entries.map(lambda value: json.dumps(value).encode("utf-16")),
    _entries.map(lambda value: b"\xef\xbb\xbf" + json.dumps(value).encode()),
    st.binary(max_size=60).map(lambda tail: b"\x1f\x8b\x08\0" + tail),
    st.just(b"[" * 5000),
    st.just(b'[{"id": ' + b"9" * 5000 + b"}]"),
)


def any_tgif(path: Path) -> Rows:
    for where, entry in tgif_entries(path):
        with contextlib.suppress(ValueError):  # RowError: the caller knows the line
            yield tgif_row(entry)
        assert where.startswith(f"{path}:")


def pair(path: Path) -> Rows:
    answers = path.with_name("test_a.json")
    answers.write_bytes(path.read_bytes())
    return read_activitynet(path, answers)


READERS: dict[str, tuple[str, Callable[[Path], Rows]]] = {
    "msvd": ("test_qa.json", read_msvd),
    "msrvtt": ("test_qa.json", read_msrvtt),
    "tgif frameqa": ("Test_frameqa_question.csv", read_tgif_frameqa),
    "tgif": ("Test_action_question.csv", any_tgif),
    "activitynet": ("test_q.json", pair),
    "video-chatgpt": ("generic_qa.json", read_video_chatgpt),
    **{
        f"plain {config} {ending}": (
            f"my.{ending}",
            lambda path, config=config: read_plain(path, CONFIGS[config]),  # type: ignore[misc]  # a default binds it
        )
        for config, ending in (
            ("qa", "csv"),
            ("captions", "tsv"),
            ("preferences", "jsonl"),
            ("sft", "json"),
            ("sft", "csv"),
            ("msvd_qa", "jsonl"),
        )
    },
}

quick = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def outcome(call: Callable[[], Any]) -> Any:
    """What a call gives, or the one line that it is refused with, as the error itself."""
    try:
        return call()
    except UserError as error:
        if not str(error) or "\n" in str(error):
            raise AssertionError(f"not one line: {error}") from error
        return error


@pytest.mark.parametrize("name", READERS)
@quick
@given(content=CONTENT)
def test_rows_or_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    file, read = READERS[name]
    path = tmp_path / file
    path.write_bytes(content)
    rows = outcome(lambda: list(read(path)))
    if isinstance(rows, UserError):
        assert str(tmp_path) in str(rows)
        return
    for row in rows:
        if not name.startswith("plain"):
            assert set(row) == TASK
        assert all(row[key] is None or row[key] for key in row if key != "rejected")


@quick
@given(content=CONTENT)
def test_mappings_and_captions(tmp_path: Path, content: bytes) -> None:
    for name, read in (
        ("mapping.txt", read_msvd_mapping),
        ("c.csv", lambda path: read_captions([path])),
        ("c.jsonl", lambda path: read_captions([path])),
    ):
        (tmp_path / name).write_bytes(content)
        found = outcome(functools.partial(read, tmp_path / name))
        if isinstance(found, UserError):
            assert str(tmp_path / name) in str(found)
        else:
            assert all(isinstance(key, str) and value for key, value in found.items())


@settings(parent=quick, max_examples=25)
@given(content=CONTENT, source=st.sampled_from(sorted(ORIGINAL_SETS)))
def test_convert_writes_all_or_nothing(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, source: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    name = {
        "tgif-qa": "Test_count_question.csv",
        "activitynet-qa": "test_q.json",
        "video-chatgpt": "generic_qa.json",
        "plain": "my_test.jsonl",
    }.get(source, "test_qa.json")
    (folder / name).write_bytes(content)
    (folder / "test_a.json").write_bytes(content)
    to = folder / "out"
    options = {"config": "msvd_qa_official", "on_error": "skip"}
    done = outcome(lambda: convert(source, [folder / name], to, **options))  # type: ignore[arg-type]  # texts all of them
    if isinstance(done, UserError):
        assert not to.exists()
    else:
        assert done.splits["test"].rows > 0
        assert [path.name for path in to.iterdir()] == ["msvd_qa_official"]


@given(name=st.text(alphabet="traintesvaldqo_-. T0", min_size=1), asked=st.none() | st.text())
@settings(parent=quick)
def test_any_name_is_a_split_or_one_line(name: str, asked: str | None) -> None:
    for original in ORIGINAL_SETS.values():
        split = outcome(functools.partial(split_of_file, Path(name), original, asked))
        assert (
            isinstance(split, UserError)
            or split in ("train", "validation", "test")
            or split == asked
        )
