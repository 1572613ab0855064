"""Rows as tables are the rows that reading line by line gives, whatever stands in the files."""

from __future__ import annotations

import gzip
import io
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sharegptvideo._io import numbered_lines, open_lines, parse_row
from sharegptvideo.data.schema import CONFIGS, features
from sharegptvideo.data.sources import ReadReport, SplitRule, held_configs, open_source
from sharegptvideo.data.sources.columns import arrow_schema, checked_batch, converted_block
from sharegptvideo.data.sources.release import FOLDER
from sharegptvideo.data.sources.rows import RowError, check, convert
from sharegptvideo.data.sources.tables import BLOCK_BYTES, LineFile, read_tables
from sharegptvideo.errors import UserError

RULE = SplitRule()
Outcome = tuple[Any, list[str], list[str]]


def files_of(*contents: bytes) -> list[LineFile]:
    return [
        LineFile(f"f{number}", lambda content=content: io.BytesIO(content))
        for number, content in enumerate(contents)
    ]


def by_line(name: str, contents: list[bytes], on_error: str) -> Outcome:
    """What the files hold, one line after the other: the rules in plain words."""
    config = CONFIGS[name]
    found: dict[str, list[Any]] = {split: [] for split in config.released}
    skipped, repeated = [], []
    ids: set[str] = set()
    earlier: set[str] = set()
    for file, content in enumerate(contents):
        mine = set()
        for number, line in enumerate(io.BytesIO(content), start=1):
            if not line.strip():
                continue
            where = f"f{file}:{number}"
            try:
                row = convert(config, parse_row(f"f{file}", number, line, finite=True), None)
            except RowError as error:
                fix = 'fix the row, or pass on_error="skip" to go on without it'
                if on_error == "raise":
                    return str(UserError(f"{where}: {error}; {fix}")), [], []
                skipped.append(f"{where}: {error}")
                continue
            except UserError as error:
                if on_error == "raise":
                    return str(error), [], []
                skipped.append(str(error))
                continue
            key = repr(list(map(str, row.values())))
            if key in earlier:
                repeated.append(where)
                continue
            mine.add(key)
            names = [row["id"], *(f"{row['id']}#{count}" for count in range(2, 100))]
            row["id"] = next(candidate for candidate in names if candidate not in ids)
            ids.add(row["id"])
            about = row.get("video") or row.get("image") or row["id"]
            found["test" if config.is_task else RULE.split_of(about)].append(row)
        earlier |= mine
    return found, skipped, repeated


def as_tables(name: str, contents: list[bytes], on_error: str) -> Outcome:
    report = ReadReport()
    found: dict[str, list[Any]] = {split: [] for split in CONFIGS[name].released}
    config = CONFIGS[name]
    try:
        read = read_tables(config, files_of(*contents), RULE, None, on_error, report)
        for split, table in read:
            found[split] += table.to_pylist()
    except UserError as error:
        return str(error), [], []
    return found, report.skipped, report.repeated


def same(name: str, *contents: bytes) -> Outcome:
    """What both give, for both ways to treat a broken row."""
    raised = by_line(name, list(contents), "raise")
    assert as_tables(name, list(contents), "raise") == raised
    assert as_tables(name, list(contents), "skip") == by_line(name, list(contents), "skip")
    return raised


def test_real_rows(shared_data: Path) -> None:
    root = shared_data / "release"
    for config in held_configs(root):
        source = open_source(config, root)
        found = defaultdict(list)
        for split, table in source.tables(config, source.splits(config), "raise", ReadReport()):
            found[split] += table.to_pylist()
        files = [path.read_bytes() for path in sorted((root / FOLDER).glob(config.file))]
        assert dict(found) == {
            split: rows for split, rows in by_line(config.name, files, "raise")[0].items() if rows
        }


def test_fast_path_is_taken_for_the_release(shared_data: Path) -> None:
    folder = shared_data / "release" / "video_instruction"
    for name in ("captions", "qa", "sft", "webvid_qa", "tgif_qa_official"):
        for path in folder.glob(CONFIGS[name].file):
            assert converted_block(CONFIGS[name], path.read_bytes(), None) is not None


def qa(number: int, **fields: Any) -> dict[str, Any]:
    turns = [("human", f"<video>\nWhat is {number}?"), ("gpt", f"It is {number}.")]
    row = {"id": f"q{number}", "video": f"clip_{number}"}
    return {**row, "conversations": [{"from": f, "value": v} for f, v in turns], **fields}


def lines(*rows: object, end: str = "\n") -> bytes:
    return "".join((r if isinstance(r, str) else json.dumps(r)) + end for r in rows).encode()


def turns(*said: Any) -> dict[str, Any]:
    people = ("human", "gpt")
    return {"conversations": [{"from": people[n % 2], "value": s} for n, s in enumerate(said)]}


ODD = {
    "id as a number": lines(qa(1, id=7)),
    "ids twice": lines(qa(1), qa(1, video="x"), qa(1, video="y"), qa(2, id="q1#2")),
    # By the hash of their ids, the second is in another split than the first.
    "about no medium, ids twice": lines(*[{"id": "t74", **turns("a", "b")}] * 2),
    "extra fields": lines(qa(1, extra={"a": [1, None]}, conversation_id=3)),
    "climbs out": lines(qa(1), qa(2, video="a/../b")),
    "absolute": lines(qa(1, video="/etc/passwd")),
    "drive": lines(qa(1, video="C:clip")),
    "dots in a name": lines(qa(1, video="a..b"), qa(2, video="..."), qa(3, video="a/...")),
    "zero byte": lines(qa(1, video="a\0b")),
    "sources": lines(
        *(qa(n, video=v) for n, v in enumerate(["test/webvid/1", "MSVD", "v_abcdefghijk", "v_x"]))
    ),
    "forms of names": lines(
        *(
            qa(n, video=v)
            for n, v in enumerate(
                [
                    *("1016732470", "10167 2470", "1\n", "clips/12", "12.mp4", "\u0661\u0662"),
                    *("QOlSCBRmfWY", "QOlSCBRmfWZ", "QOlSCBRmfWY.mp4", "msrvtt_clip", "MSVD.avi"),
                ]
            )
        )
    ),
    "own source": lines(qa(1, source="Mine"), qa(2, source="Thine")),
    "own source at times": lines(qa(1, source="Mine"), qa(2)),
    "blank caption": lines(qa(1, caption="")),
    "caption of spaces": lines(qa(1, caption="  ")),
    "captions at times": lines(qa(1, caption="A <video> cat."), qa(2), qa(3, caption="A dog.")),
    "no-break space": lines(qa(1), qa(2, **turns("\u00a0", "b"))),
    "tag alone": lines(qa(1, **turns("<video>", "b"))),
    "tags within": lines(qa(1, **turns("a <image>\n<video> b", "c<video>d"))),
    "three turns": lines(qa(1, **turns("a", "b", "c"))),
    "four turns": lines(qa(1, **turns("a", "b", "c", "d"))),
    "no turns": lines(qa(1, conversations=[])),
    "turns not listed": lines(qa(1, conversations=None)),
    "turn of null": lines(qa(1, conversations=[None, None])),
    "wrong speaker": lines(qa(1, conversations=[{"from": "gpt", "value": "a"}] * 2)),
    "content of null": lines(qa(1, **turns("a", None))),
    "content a number": lines(qa(1, **turns("a", 3))),
    "flat": lines({"id": "1", "video": "v", "question": "q?", "answer": "a"}),
    "half a line": lines(qa(1)) + lines(qa(2))[:30],
    "no end of line": lines(qa(1), qa(2))[:-1],
    "blank lines": lines("", qa(1), "  ", qa(2), ""),
    "CRLF": lines(qa(1), qa(2), end="\r\n"),
    "CR within": lines(qa(1), qa(2), end="\r"),
    "BOM": "\ufeff".encode() + lines(qa(1), qa(2)),
    "UTF-16": lines(qa(1)).decode().encode("utf-16"),
    "not UTF-8": lines(qa(1))
    + lines(qa(2, **turns("a", "caf\u00e9"))).replace(b"u00e9", b"")
    + b"\xff\n",
    "half a surrogate": lines(qa(1, **turns("a", "\ud800"))),
    "raw byte": lines(qa(1)).replace(b"It is", b"It\xe9is"),
    "control character": lines(qa(1)).replace(b"It is", b"It\x01is"),
    "key twice": lines(qa(1)).replace(b'"video"', b'"video": "z", "video"'),
    "NaN beside": lines(qa(1, more=float("nan"))),
    "two on a line": lines(json.dumps(qa(1)) + json.dumps(qa(2))),
    "two on a line, one on two": lines(
        json.dumps(qa(1)) + json.dumps(qa(2))[:-1], ', "x": {"y": 1}}'
    ),
    "two on a line, one on two, braces": lines(
        json.dumps(qa(1)) + '{"x": {"y": 1}', json.dumps(qa(2))
    ),
    "a list": lines("[1]", qa(1)),
    "video null": lines(qa(1, video=None)),
    "id blank": lines(qa(1, id=" ")),
    "nothing": b"",
    "only ends": b"\n\n",
}


@pytest.mark.parametrize("case", ODD)
@pytest.mark.parametrize("name", ["qa", "sft", "captions", "msvd_qa"])
def test_odd_lines(name: str, case: str) -> None:
    same(name, ODD[case])


def test_repeated_rows_of_a_later_file() -> None:
    first, second = lines(qa(1), qa(2), qa(2)), lines(qa(2), qa(3), qa(2, video="other"))
    found, _, repeated = same("qa", first, second)
    rows = found["train"] + found["validation"]
    assert sorted(row["id"] for row in rows) == ["q1", "q2", "q2#2", "q2#3", "q3"]
    assert repeated == ["f1:1"]


def test_lines_are_counted_over_blocks() -> None:
    """The broken line is in the third block of 2 MiB, or a later one."""
    before = [qa(n, extra="x" * 100_000) for n in range(50)]
    content = lines(*before, qa(50, video="../x"), *(qa(n) for n in range(9)))
    assert len(lines(*before)) > 2 * BLOCK_BYTES
    assert "f0:51: 'video' leads out" in same("qa", content)[0]


def test_gzip_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "train" / "qa" / "a.jsonl.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(lines(*(qa(n) for n in range(9))), mtime=0)[:-20])
    source = open_source(CONFIGS["qa"], tmp_path)
    with pytest.raises(UserError) as by_row, open_lines(path) as file:
        list(numbered_lines(path, file))
    with pytest.raises(UserError) as by_table:
        list(source.tables(CONFIGS["qa"], ["train"], "raise", ReadReport()))
    assert str(by_table.value) == str(by_row.value)
    assert "gzip data cut short" in str(by_row.value)


texts = st.one_of(st.sampled_from(["", " ", "<video>", "\u2003", "../a", "a/b", "v_"]), st.text())
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=5,
)
speakers = st.sampled_from(["human", "gpt", "user", "assistant", "system"])
conversations = st.one_of(
    st.lists(texts, min_size=1, max_size=4).map(lambda said: turns(*said)["conversations"]),
    st.lists(st.fixed_dictionaries({"from": speakers, "value": texts}), max_size=3),
    values,
)
rows_ = st.fixed_dictionaries(
    {"id": st.one_of(texts, st.integers()), "video": texts, "conversations": conversations},
    optional={"source": values, "caption": values, "image": texts, "more": values},
)
some_lines = st.one_of(rows_.map(json.dumps), rows_.map(json.dumps), st.text(), st.just(""))


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["qa", "sft", "captions", "preferences", "webvid_qa"]),
    st.lists(st.lists(some_lines, max_size=4), min_size=1, max_size=2),
)
def test_any_lines(name: str, contents: list[list[str]]) -> None:
    same(name, *("\n".join(part).encode("utf-8", "surrogatepass") for part in contents))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
@example(b'"')
def test_any_bytes(content: bytes) -> None:
    same("qa", content)


@pytest.mark.parametrize("name", CONFIGS)
def test_arrow_types_are_those_of_the_features(name: str) -> None:
    assert arrow_schema(CONFIGS[name]).equals(features(name).arrow_schema)


cells = st.one_of(st.none(), texts)
scores = st.one_of(st.none(), st.floats(), st.just(5.0))
message = st.fixed_dictionaries({"role": st.one_of(st.none(), speakers), "content": cells})
talk = st.one_of(
    st.lists(texts, max_size=4).map(
        lambda said: [
            {"role": ("user", "assistant")[n % 2], "content": s} for n, s in enumerate(said)
        ]
    ),
    st.none(),
    st.lists(message, max_size=2),
)


@st.composite
def batches(draw: st.DrawFn) -> tuple[str, pa.RecordBatch]:
    name = draw(st.sampled_from(["sft", "preferences", "captions", "msvd_qa"]))
    schema = arrow_schema(CONFIGS[name])
    made = {pa.string(): cells, pa.float64(): scores}
    row = st.fixed_dictionaries({field.name: made.get(field.type, talk) for field in schema})
    rows = draw(st.lists(row, min_size=1, max_size=4))
    return name, pa.RecordBatch.from_pylist(rows, schema=schema)


@settings(max_examples=150, deadline=None)
@given(batches())
def test_checked_batch_is_the_rows_checked(drawn: tuple[str, pa.RecordBatch]) -> None:
    name, batch = drawn
    table = checked_batch(CONFIGS[name], batch.slice(0))
    try:
        rows = [check(CONFIGS[name], raw) for raw in batch.to_pylist()]
    except RowError:
        assert table is None
    else:
        assert table is None or table.to_pylist() == rows


def test_checked_batch_takes_good_rows(shared_data: Path, tmp_path: Path) -> None:
    for config in held_configs(shared_data / "release"):
        source = open_source(config, shared_data / "release")
        tables = source.tables(config, source.splits(config)[:1], "raise", ReadReport())
        rows = [row for _, table in tables for row in table.to_pylist()]
        pq.write_table(pa.Table.from_pylist(rows, schema=arrow_schema(config)), tmp_path / "t")
        for batch in pq.ParquetFile(tmp_path / "t").iter_batches(3):
            table = checked_batch(config, batch)
            assert table is not None
            rows, found = rows[len(table) :], rows[: len(table)]
            assert table.to_pylist() == found
