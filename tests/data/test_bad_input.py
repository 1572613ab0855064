"""What files in the wild do to the readers of the release and of Parquet: one clear line each."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sharegptvideo import load_dataset, read_rows
from sharegptvideo.data.sources import DataWarning, ReadReport
from sharegptvideo.errors import UserError

Row = Callable[..., dict[str, Any]]
Write = Callable[..., Path]

FIX = 'fix the row, or pass on_error="skip" to go on without it'


def refusal(root: Path, name: str = "qa", **options: Any) -> str:
    """The one line that reading gives up with."""
    with pytest.raises(UserError) as caught:
        list(read_rows(name, root, **options))
    line = str(caught.value)
    assert "\n" not in line
    return line


def pack(path: Path) -> Path:
    """The file as `.gz` beside where it was."""
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    path.unlink()
    return packed


def test_gzip_is_read_where_a_jsonl_is(release: Path, write: Write, qa_row: Row) -> None:
    write("train/qa/a.jsonl", qa_row(1), qa_row(2))
    write("train/qa/b.jsonl", qa_row(3))
    expected = list(read_rows("qa", release))
    packed = pack(release / "video_instruction/train/qa/a.jsonl")
    assert list(read_rows("qa", release)) == expected
    assert list(load_dataset("qa", data_dir=release)) == expected
    # Beside its unpacked self it is not read a second time.
    packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    report = ReadReport()
    assert list(read_rows("qa", release, report=report)) == expected
    assert not report.repeated


def test_gzip_of_an_exact_name_and_gzip_already_unpacked(
    release: Path, write: Write, qa_row: Row
) -> None:
    path = write("train/pretrain/video_caption_pretrain.jsonl", qa_row(1))
    (expected,) = read_rows("captions", release)
    packed = pack(path)
    assert list(read_rows("captions", release)) == [expected]
    packed.write_bytes(gzip.decompress(packed.read_bytes()))
    assert list(read_rows("captions", release)) == [expected]


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_truncated_gzip(release: Path, write: Write, qa_row: Row, on_error: str) -> None:
    """The loss cannot be counted, so it is never skipped."""
    rows = [qa_row(n, answer=os.urandom(500).hex()) for n in range(200)]
    packed = pack(write("train/qa/a.jsonl", *rows))
    packed.write_bytes(packed.read_bytes()[:-60_000])
    line = refusal(release, on_error=on_error)
    start, _, number = line.rpartition(" (after line ")
    assert start == f"{packed}: gzip data cut short; fetch the file again"
    assert 0 < int(number.rstrip(")")) < 200
    with pytest.raises(UserError, match="gzip data cut short"):
        load_dataset("qa", data_dir=release, on_error=on_error)


def test_damaged_gzip(release: Path, write: Write, qa_row: Row) -> None:
    packed = pack(write("train/qa/a.jsonl", qa_row(1)))
    data = bytearray(packed.read_bytes())
    data[-5] ^= 0xFF  # in the checksum's place, before the length
    packed.write_bytes(data)
    line = refusal(release)
    assert line.startswith(f"{packed}: damaged gzip data (CRC check failed")
    assert line.endswith("; fetch the file again (after line 0)")
    data = bytearray(packed.read_bytes()[:10]) + b"\xff" * 40
    packed.write_bytes(data)
    assert refusal(release).startswith(f"{packed}: damaged gzip data (Error -3 while decompress")


def test_json_line_cut_in_half(release: Path, write: Write, qa_row: Row) -> None:
    half = json.dumps(qa_row(2)).partition(', "conversations"')[0]
    path = write("train/qa/a.jsonl", qa_row(1), half, qa_row(3))
    line = f"{path}:2: not JSON (Expecting ',' delimiter); fix or remove the line"
    assert refusal(release) == line
    report = ReadReport()
    with pytest.warns(DataWarning, match="1 row skipped"):
        rows = list(read_rows("qa", release, on_error="skip", report=report))
    assert [row["id"] for row in rows] == ["q1", "q3"]
    assert report.skipped == [line]


@pytest.mark.parametrize(
    ("encoding", "cause"),
    [
        ("utf-16", "UTF-16 text; save the file as UTF-8"),
        ("utf-16-le", "UTF-16 text, or no text at all; save the file as UTF-8"),
        ("utf-16-be", "UTF-16 text, or no text at all; save the file as UTF-8"),
        ("latin-1", "not UTF-8 text (byte 88)"),
    ],
)
def test_utf_16_and_other_encodings(
    release: Path, write: Write, qa_row: Row, encoding: str, cause: str
) -> None:
    path = write("train/qa/a.jsonl", qa_row(1))
    talk = json.dumps({**qa_row(1), "answer": "é"}, ensure_ascii=False)
    talk = talk.replace("What is 1?", "Où ?")
    path.write_bytes(talk.encode(encoding))
    assert refusal(release) == f"{path}:1: {cause}"


def test_mark_of_byte_order_and_crlf(release: Path, write: Write, qa_row: Row) -> None:
    write("train/qa/a.jsonl", qa_row(1), "", qa_row(2), "  ")
    expected = list(read_rows("qa", release))
    path = write("train/qa/a.jsonl", qa_row(1), "", qa_row(2), "  ", head="\ufeff", end="\r\n")
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    assert list(read_rows("qa", release)) == expected
    (release / "splits.json").write_bytes(b'\xef\xbb\xbf{"validation":\r\n["clip_2"]}')
    assert [row["id"] for row in read_rows("qa", release)] == ["q1"]


def test_mark_of_byte_order_within_a_file(release: Path, write: Write, qa_row: Row) -> None:
    """Files put together with `cat` carry the second one's mark in the middle."""
    write("train/qa/a.jsonl", qa_row(1), "\ufeff" + json.dumps(qa_row(2)))
    assert [row["id"] for row in read_rows("qa", release)] == ["q1", "q2"]


def test_ids_as_numbers(release: Path, write: Write, qa_row: Row) -> None:
    path = write("train/qa/a.jsonl", *[{**qa_row(1), "id": number} for number in (7, 7, 0, -3)])
    rows = list(read_rows("qa", release))
    assert [row["id"] for row in rows] == ["7", "7#2", "0", "-3"]
    for value, cause in ((1.5, "'id' is a number"), (True, "'id' is true")):
        write("train/qa/a.jsonl", {**qa_row(1), "id": value})
        assert refusal(release) == f"{path}:1: {cause} where a text belongs; {FIX}"


def test_number_of_endless_digits(release: Path, write: Write) -> None:
    path = write("train/qa/a.jsonl", '{"id": ' + "7" * 5000 + "}")
    cause = "not JSON (an endless number); fix or remove the line"
    assert refusal(release) == f"{path}:1: {cause}"
    pair = {"id": "p", "video": "v", "prompt": "Q", "chosen": "A", "rejected": "B"}
    path = write("train/dpo/a.jsonl", {**pair, "chosen_score": 10**400})
    assert refusal(release, "preferences") == f"{path}:1: 'chosen_score' is inf; {FIX}"


def test_endless_nesting(release: Path, write: Write) -> None:
    path = write("train/qa/a.jsonl", '{"id": ' + "[" * 200_000)
    cause = "not JSON (nested too deeply); fix or remove the line"
    assert refusal(release) == f"{path}:1: {cause}"


def test_extra_fields(release: Path, write: Write, qa_row: Row) -> None:
    write("train/qa/a.jsonl", qa_row(1))
    expected = list(read_rows("qa", release))
    write("train/qa/a.jsonl", qa_row(1, messages=[1], video_path="/etc", fps={"a": None}))
    assert list(read_rows("qa", release)) == expected


@pytest.mark.parametrize(
    ("video", "cause"),
    [
        ("../secret", "leads out of its folder ('../secret')"),
        ("a/../../b", "leads out of its folder ('a/../../b')"),
        ("a\\..\\b", r"leads out of its folder ('a\\..\\b')"),
        ("/etc/passwd", "is an absolute path ('/etc/passwd'); a name below the media belongs"),
        ("C:clip", "is an absolute path ('C:clip'); a name below the media belongs"),
        ("a\0b", "holds a zero byte"),
        ("./", "names no file ('./')"),
    ],
)
def test_video_that_climbs_out(
    release: Path, write: Write, qa_row: Row, video: str, cause: str
) -> None:
    path = write("train/qa/a.jsonl", qa_row(1, video))
    line = f"{path}:1: 'video' {cause}"
    assert refusal(release) == f"{line}; {FIX}"
    # Nor is a path made of it where the row is skipped and the others are looked up.
    write("train/qa/a.jsonl", qa_row(1, video), qa_row(2))
    report = ReadReport()
    with pytest.warns(DataWarning):
        rows = list(read_rows("qa", release, media=release, on_error="skip", report=report))
    assert [row["video"] for row in rows] == ["clip_2"]
    assert report.skipped == [line]


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Without root's right to read and write everything, as far as the system lets it go."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everyone can enter; pytest's own are for their owner alone."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize(
    ("closed", "mode", "named", "cause"),
    [
        ("", 0o000, "", "cannot be read (Permission denied)"),
        ("video_instruction/train/qa", 0o000, "video_instruction/train/qa", "cannot be listed"),
        ("video_instruction/train/qa", 0o100, "video_instruction/train/qa", "cannot be listed"),
        ("video_instruction/train/qa", 0o400, "video_instruction/train/qa/a.jsonl", "cannot be"),
        ("video_instruction/train/qa/a.jsonl", 0o000, "video_instruction/train/qa/a.jsonl", ""),
    ],
)
def test_folder_without_rights(
    open_folder: Path, qa_row: Row, closed: str, mode: int, named: str, cause: str
) -> None:
    root = open_folder / "release"
    path = root / "video_instruction/train/qa/a.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(qa_row(1)))
    os.chown(root / closed, 65534, -1)
    (root / closed).chmod(mode)
    try:
        with unprivileged():
            line = refusal(root)
    finally:
        (root / closed).chmod(stat.S_IRWXU)
    assert line.startswith(f"{root / named}")
    assert cause in line
    assert "(Permission denied)" in line


def test_cache_without_rights(open_folder: Path, release: Path, write: Write, qa_row: Row) -> None:
    write("train/qa/a.jsonl", qa_row(1))
    held = open_folder / "a file"
    held.touch()
    line = _load_in_child(release, {"SHAREGPTVIDEO_CACHE": str(held)}, limit=None)
    start = f"{held}/datasets: cannot be written (Not a directory); make room, or name another"
    assert line.startswith(start), line


def test_full_disk_under_the_cache(
    tmp_path: Path, release: Path, write: Write, qa_row: Row
) -> None:
    """A limit on the size of files stands for the full disk: it too fails in the middle."""
    rows = [qa_row(n, caption=os.urandom(200).hex()) for n in range(2000)]
    write("train/qa/a.jsonl", *rows)
    cache = tmp_path / "cache"
    line = _load_in_child(release, {"SHAREGPTVIDEO_CACHE": str(cache)}, limit=200_000)
    assert line == (
        f"{cache}/datasets: the disk is full; make room, or name another place: "
        "SHAREGPTVIDEO_CACHE, cache_dir= in datasets"
    )
    left = [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert not left, "nothing half-written"
    # With room again the same call does it.
    assert _load_in_child(release, {"SHAREGPTVIDEO_CACHE": str(cache)}, limit=None) == "2000 rows"


def test_full_disk_under_a_view(tmp_path: Path, release: Path, write: Write, qa_row: Row) -> None:
    write("train/qa/a.jsonl", *[qa_row(n, caption=os.urandom(20).hex()) for n in range(2000)])
    cache = {"SHAREGPTVIDEO_CACHE": str(tmp_path / "cache")}
    assert _load_in_child(release, cache, limit=None) == "2000 rows"
    line = _load_in_child(release, cache, limit=200_000, view=True)
    assert line.startswith("the cache of the view: the disk is full; make room beside")


_CHILD = """
import resource, sys
from sharegptvideo import as_trl, load_dataset
from sharegptvideo.errors import UserError
root, limit, view = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "True"
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    rows = load_dataset("qa", "train+validation", data_dir=root)
    rows = as_trl(rows) if view else rows
    print(len(rows), "rows")
except UserError as error:
    assert error.exit_code == 1
    print(error)
"""


def _load_in_child(
    root: Path, environment: dict[str, str], *, limit: int | None, view: bool = False
) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(root), str(limit or 0), str(view)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _shard(folder: Path, rows: int = 3000) -> Path:
    path = folder / "captions" / "train-00000-of-00001.parquet"
    path.parent.mkdir(exist_ok=True)
    texts = [os.urandom(50).hex() for _ in range(rows)]
    names = [f"r{number}" for number in range(rows)]
    table = {"id": names, "video": names, "source": names, "prompt": texts, "caption": texts}
    pq.write_table(pa.table(table), path, row_group_size=1000)
    return path


def test_parquet_cut_short(tmp_path: Path) -> None:
    path = _shard(tmp_path)
    path.write_bytes(path.read_bytes()[:-1000])
    assert refusal(tmp_path, "captions").startswith(f"{path}: not a readable Parquet file (")
    path.write_bytes(b"")
    assert refusal(tmp_path, "captions").startswith(f"{path}: not a readable Parquet file (")


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_parquet_damaged_within(tmp_path: Path, on_error: str) -> None:
    path = _shard(tmp_path)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = os.urandom(4000)
    path.write_bytes(data)
    line = refusal(tmp_path, "captions", on_error=on_error)
    assert line.startswith(f"{path}: ")
    with pytest.raises(UserError):
        load_dataset("captions", data_dir=tmp_path, on_error=on_error)


def test_parquet_columns_of_other_types(tmp_path: Path) -> None:
    path = tmp_path / "sft" / "train-00000-of-00001.parquet"
    path.parent.mkdir()
    good = {"id": ["a"], "video": ["v"], "image": ["i"], "messages": [["Hello?"]]}
    for name, value, cause in (
        ("messages", ["Hello?"], "turn 1 is a text, not an object"),
        ("messages", "Hello?", "'messages' is a text where a list belongs"),
        ("messages", 5, "'messages' is a number where a list belongs"),
        ("id", 5, "'id' is a number where a text belongs"),
        ("video", ["v"], "'video' is a list where a text belongs"),
    ):
        pq.write_table(pa.table({**good, name: [value]}), path)
        assert refusal(tmp_path, "sft") == f"{path}: row 1: {cause}; {FIX}"


def test_parquet_column_twice(tmp_path: Path) -> None:
    path = tmp_path / "captions" / "train-00000-of-00001.parquet"
    path.parent.mkdir()
    names = ["id", "video", "source", "prompt", "caption", "caption"]
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 6, names=names), path)
    line = refusal(tmp_path, "captions")
    assert line == f"{path}: column 'caption' is there twice (config 'captions')"


@pytest.mark.parametrize(
    ("extra", "cause"),
    [
        ('"x": NaN', "not JSON (NaN is no number of JSON; write null); fix or remove the line"),
        ('"x": {"y": [-Infinity]}', "not JSON (-Infinity is no number of JSON; write null)"),
        ('"x": 1, "x": 2', 'not JSON (the key "x" stands twice); fix or remove the line'),
        ('"x": ' + "[" * 5000 + "]" * 5000, "not JSON (nested too deeply); fix or remove the line"),
        ('"x": ' + "7" * 5000, "not JSON (an endless number); fix or remove the line"),
    ],
)
@pytest.mark.parametrize("before", ["", " "])  # the second has all rows read one by one
def test_fields_that_are_not_read_keep_to_json_too(
    release: Path, write: Write, qa_row: Row, before: str, extra: str, cause: str
) -> None:
    broken = f"{json.dumps(qa_row(2))[:-1]}, {extra}}}"
    path = write("train/qa/a.jsonl", before + json.dumps(qa_row(1)), broken, qa_row(3))
    assert refusal(release).startswith(f"{path}:2: {cause}")
    report = ReadReport()
    with pytest.warns(DataWarning):
        rows = list(read_rows("qa", release, on_error="skip", report=report))
    assert [row["id"] for row in rows] == ["q1", "q3"]
    (skipped,) = report.skipped
    assert skipped.startswith(f"{path}:2: {cause}")


@pytest.mark.parametrize(
    ("line", "kind"),
    [("null", "null"), ("3", "a number"), ("[]", "a list"), ('"x"', "a text"), ("true", "true")],
)
def test_a_line_that_is_no_object(release: Path, write: Write, line: str, kind: str) -> None:
    path = write("train/qa/a.jsonl", line)
    assert refusal(release) == f"{path}:1: {kind}, not an object"
