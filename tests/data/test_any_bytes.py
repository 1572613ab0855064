"""Every parser gives rows or one clear line, whatever the bytes: properties, drawn by hypothesis.

Bytes are drawn in three ways: at random, as JSON of any shape, and as good input that was cut,
overwritten or re-encoded, since random bytes alone rarely get past the first character.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from sharegptvideo import read_rows
from sharegptvideo._io import KeyedLog, dumps, parse_row, read_json, read_jsonl
from sharegptvideo.data.schema import CONFIGS
from sharegptvideo.data.sources import DataWarning, SplitRule
from sharegptvideo.data.sources.columns import (
    arrow_schema,
    checked_batch,
    converted_block,
    convertible,
)
from sharegptvideo.data.sources.rows import RowError, check, convert
from sharegptvideo.errors import UserError
from sharegptvideo.eval.tasks import parse_task
from sharegptvideo.judges.base import Claims
from sharegptvideo.judges.protocol import PROTOCOLS, UnreadableError, load_protocol
from sharegptvideo.media import MediaError, MediaFolder
from sharegptvideo.models.predictions import PredictionsModel
from sharegptvideo.training import load_recipe
from tests.support.drawing import ANY_LINES, LINES, ROWS, SHARD_ROWS, TEXTS, VALUES, as_json, spoilt

Row = dict[str, Any]

drawn = settings(max_examples=50, deadline=None)

NAMES = ("captions", "qa", "sft", "preferences", "msvd_qa")
CONFIG = st.sampled_from([CONFIGS[name] for name in NAMES])


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """One folder for all examples of a test: hypothesis draws hundreds."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def clear(error: UserError | RowError | UnreadableError) -> str:
    """The error's text, which has to be one line that any terminal can show."""
    line = str(error)
    assert line
    assert "\n" not in line
    line.encode()
    return line


def outcome(read: Callable[[], Any]) -> Any:
    """What `read` gives, or the line that it refuses with."""
    try:
        return read()
    except UserError as error:
        return clear(error)


@given(line=st.binary(max_size=40) | spoilt(ROWS.map(as_json)), number=st.integers(1, 9))
@example(line=b'{"a": ' + b"9" * 5000 + b"}", number=1)
@example(line=b'{"a": ' + b"[" * 100_000, number=1)
@example(line="{}".encode("utf-16-le"), number=2)
@drawn
def test_a_line(line: bytes, number: int) -> None:
    row = outcome(lambda: parse_row("rows.jsonl", number, line))
    assert isinstance(row, dict) or row.startswith(f"rows.jsonl:{number}: ")


@given(content=ANY_LINES)
@drawn
def test_a_file_of_lines(folder: Path, content: bytes) -> None:
    path = folder / "rows.jsonl"
    path.write_bytes(content)
    rows = outcome(lambda: list(read_jsonl(path)))
    if isinstance(rows, str):
        assert rows.startswith(f"{path}:")
    else:
        assert all(isinstance(row, dict) for _, row in rows)


@given(content=st.binary(max_size=40) | spoilt(VALUES.map(as_json)))
@example(content=b"9" * 5000)
@example(content=b"[" * 100_000)
@drawn
def test_a_json_file_and_a_list_of_splits(folder: Path, content: bytes) -> None:
    path = folder / "splits.json"
    path.write_bytes(content)
    outcome(lambda: read_json(path))
    rule = outcome(lambda: SplitRule.of(folder))
    assert isinstance(rule, SplitRule) or rule.startswith(f"{path}:")


@given(config=CONFIG, raw=ROWS)
@drawn
def test_a_row_of_the_release(config: Any, raw: Row) -> None:
    try:
        row = convert(config, raw, None)
    except RowError as error:
        clear(error)
        return
    # What is accepted is of the schema, fits Arrow and is accepted as Parquet's row too.
    assert check(config, row) == row
    table = pa.Table.from_pylist([row], schema=arrow_schema(config))
    assert table.to_pylist() == [row]


@given(config=CONFIG, raw=SHARD_ROWS)
@drawn
def test_a_row_of_parquet(config: Any, raw: Row) -> None:
    try:
        row = check(config, raw)
    except RowError as error:
        clear(error)
    else:
        assert tuple(row) == config.columns


@given(
    config=CONFIG.filter(convertible),
    rows=st.lists(ROWS, min_size=1, max_size=3),
    extra=st.just(b"") | LINES,
)
@drawn
def test_blocks_and_single_lines_agree(config: Any, rows: list[Row], extra: bytes) -> None:
    """The reader of blocks takes nothing that the reader of lines refuses or reads otherwise."""
    block = b"".join(as_json(row) + b"\n" for row in rows) + extra
    table = converted_block(config, block, None)
    if table is None:
        return
    lines = [parse_row("x", number, line) for number, line in enumerate(block.splitlines(), 1)]
    assert table.to_pylist() == [convert(config, line, None) for line in lines]


@given(config=CONFIG, rows=st.lists(SHARD_ROWS, min_size=1, max_size=3))
@drawn
def test_batches_and_single_rows_agree(config: Any, rows: list[Row]) -> None:
    try:
        batch = pa.RecordBatch.from_pylist(
            [{name: row.get(name) for name in config.columns} for row in rows],
            schema=arrow_schema(config),
        )
    except (pa.ArrowException, TypeError, UnicodeEncodeError, OverflowError):
        assume(False)
    table = checked_batch(config, batch)
    if table is not None:
        assert table.to_pylist() == [check(config, row) for row in batch.to_pylist()]


@given(name=st.sampled_from(NAMES), content=ANY_LINES)
@drawn
def test_a_release(folder: Path, name: str, content: bytes) -> None:
    path = folder / "video_instruction" / CONFIGS[name].file.replace("*", "a")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    (folder / "splits.json").unlink(missing_ok=True)
    split = CONFIGS[name].released[0]
    found = outcome(lambda: list(read_rows(name, folder, split)))
    if isinstance(found, str):
        assert found.startswith(f"{path}:")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        kept = outcome(lambda: list(read_rows(name, folder, split, on_error="skip")))
    if isinstance(kept, str):
        assert "gzip data" in kept, "only what cannot be counted is not skipped"
    elif not isinstance(found, str):
        assert kept == found


@pytest.fixture(scope="module")
def shard(folder: Path) -> bytes:
    """A good Parquet file of captions."""
    row = {name: [f"{name} {n}" for n in range(40)] for name in CONFIGS["captions"].columns}
    path = folder / "good.parquet"
    pq.write_table(pa.table(row), path, row_group_size=20, compression="zstd")
    return path.read_bytes()


@given(data=st.data())
@drawn
def test_parquet(folder: Path, shard: bytes, data: st.DataObject) -> None:
    root = folder / "shards"
    path = root / "captions" / "train-00000-of-00001.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.draw(st.binary(max_size=20) | spoilt(st.just(shard))))
    found = outcome(lambda: list(read_rows("captions", root)))
    if isinstance(found, str):
        assert found.startswith(f"{path}: ")
    else:
        assert all(tuple(row) == CONFIGS["captions"].columns for row in found)


@given(content=ANY_LINES)
@example(content=b'{"id": "a"}\n{"id": "b"')
@example(content=b'{"id": "a"}\n{"id": "b"}')
@example(content=b'{"id": "a"}\n\0\0\0')
@example(content=b"a note of the user's")
@drawn
def test_a_log(folder: Path, content: bytes) -> None:
    """It opens with the whole rows that are there and goes on, or leaves the file as it is."""
    path = folder / "log.jsonl"
    path.write_bytes(content)
    try:
        log = KeyedLog(path)
    except UserError as error:
        clear(error)
        assert path.read_bytes() == content
        return
    with log:
        before = dict(log.rows)
        log.append({"id": "new", "said": "half \ud83d"})
    with KeyedLog(path) as again:
        assert again.rows == before | {"new": {"id": "new", "said": "half \ud83d"}}


@given(value=VALUES)
@drawn
def test_a_written_line_reads_back(value: Any) -> None:
    try:
        line = dumps({"value": value})
    except ValueError:  # NaN and the infinities, which are no JSON
        assume(False)
    assert "\n" not in line
    assert parse_row("x", 1, line.encode()) == {"value": value}


@given(stem=TEXTS)
@drawn
def test_a_stem(folder: Path, stem: str) -> None:
    media = folder / "media"
    if not media.exists():
        media.mkdir()
        (media / "clip.mp4").touch()
    try:
        found = MediaFolder(media).resolve(stem)
    except MediaError as error:
        clear(error)
        raw = {"id": "a", "video": stem, "prompt": "Q", "caption": "A"}
        with pytest.raises(RowError):  # no reader gives a row whose clip cannot be looked for
            convert(CONFIGS["captions"], raw, None)
    else:
        assert found in (None, media / "clip.mp4")


NAMED = st.sampled_from(
    [
        *("stage", "sft", "dpo", "model", "data", "name", "optimisation", "lora", "- a", "&a [*a]"),
        *("2001-99-99", "!!int x", "{[]: 1}", '"\\ud83d"', '"a\\nb": 1', ": :", "\t", "key: value"),
        *("[" * 9, "x: " * 20, "1: 2", "version", "prompt", "<<: 1", "0x", "!!python/name:os"),
    ]
)
YAML = st.lists(NAMED | TEXTS, max_size=5).map(lambda parts: ": ".join(parts)) | st.lists(
    st.tuples(NAMED | TEXTS, NAMED | TEXTS), max_size=4
).map(lambda pairs: "\n".join(f"{key}: {value}" for key, value in pairs))


@given(content=YAML.map(lambda text: text.encode("utf-8", "replace")) | st.binary(max_size=40))
@example(content=b"[" * 5000)
@example(content=b"stage: [sft]")
@example(content=b"stage: 2001-99-99")
@example(content=b'stage: sft\n"a\\nb": 1')
@example(content=b'stage: sft\n"\\ud83d": 1')
@example(content=b'stage: sft\nmodel: "\\ud83d"')
@example(content=b"stage: sft\n1: 2")
@example(content=b"&a [*a]")
@example(content=b"stage: sft\ndata: &a {data: *a}")
@drawn
def test_a_recipe(folder: Path, content: bytes) -> None:
    path = folder / "recipe.yaml"
    path.write_bytes(content)
    found = outcome(lambda: load_recipe(str(path)))
    assert not isinstance(found, str) or str(path) in found


@given(text=YAML)
@example(text="name: [x]")
@example(text="? [a]\n: b")
@example(text='"a\\nb": 1')
@example(text='"\\ud83d": 1')
@drawn
def test_a_task(text: str) -> None:
    found = outcome(lambda: parse_task(text, "mine"))
    assert not isinstance(found, str) or "mine" in found


@given(override=TEXTS | NAMED | st.tuples(NAMED, NAMED).map("=".join))
@example(override="data=2001-99-99")
@example(override="stage=[sft]")
@drawn
def test_an_override(override: str) -> None:
    outcome(lambda: load_recipe("demo/sft", [override]))


PREDICTION = st.fixed_dictionaries(
    {},
    optional={
        "id": TEXTS | VALUES,
        "task": TEXTS | VALUES,
        "prediction": TEXTS | VALUES,
        "status": st.sampled_from(["ok", "failed"]) | VALUES,
        "error": VALUES,
    },
)


@given(
    content=ANY_LINES
    | spoilt(st.lists(PREDICTION.map(as_json), max_size=4).map(lambda lines: b"\n".join(lines)))
)
@drawn
def test_predictions(folder: Path, content: bytes) -> None:
    path = folder / "predictions.jsonl"
    path.write_bytes(content)
    found = outcome(lambda: PredictionsModel(str(path)))
    assert not isinstance(found, str) or found.startswith(f"{path}")


VERDICT = st.fixed_dictionaries(
    {"score": st.integers(0, 6) | VALUES},
    optional={"correct": st.sampled_from(["yes", "no"]) | VALUES, "explanation": VALUES},
).map(json.dumps)
REPLY = st.one_of(
    st.text(max_size=30),
    VERDICT,
    st.tuples(TEXTS, VERDICT, TEXTS).map("".join),
    VERDICT.map(lambda text: f"<think>{text}</think>\n```json\n{text}\n```"),
    VERDICT.flatmap(lambda text: st.integers(0, len(text)).map(lambda end: text[:end])),
)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_judges_reply(name: str) -> None:
    protocol = load_protocol(name)

    @given(reply=REPLY)
    @example(reply='{"score": ' + "9" * 5000 + "}")
    @example(reply='{"score": ' + "[" * 100_000)
    @example(reply='{"claims": [], "reference_claims": [{"claim": "a", "covered": "no"}]}')
    @example(reply='{"claims": [7], "reference_claims": [null]}')
    @example(reply='{"claims": {}, "reference_claims": "no"}')
    @drawn
    def holds(reply: str) -> None:
        try:
            said = protocol.read(reply)
        except UnreadableError as error:
            clear(error)
            return
        if isinstance(said, Claims):
            assert 0 <= said.f1 <= 1
            assert said.expected > 0
            return
        correct, score, _ = said
        assert isinstance(correct, bool)
        assert protocol.lowest <= score <= protocol.highest

    holds()
