"""What files in the wild do to `convert`: one line with the place, and nothing written."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sharegptvideo import read_rows
from sharegptvideo.data.convert import convert
from sharegptvideo.errors import UserError

ENTRY = {"id": 3, "question": "who?", "answer": "mañana", "video_id": 1451}
LINES = ["id,video,question,answer", "1,v,who?,mañana", "2,w,what?,dog"]
TGIF = "gif_name\tquestion\tanswer\tvid_id\r\ntumblr_a\tHow many ?\t3\tCOUNT1\r\n"

Refusal = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path) -> Refusal:
    """Converts one file with some bytes and gives the line that it is refused with."""

    def run(source: str, name: str, content: bytes, on_error: str = "raise") -> str:
        (tmp_path / name).write_bytes(content)
        options = {"config": "qa", "split": "train"} if source == "plain" else {}
        with pytest.raises(UserError) as caught:
            convert(source, [tmp_path / name], tmp_path / "out", on_error=on_error, **options)  # type: ignore[arg-type]  # texts all of them
        assert not (tmp_path / "out").exists()
        line = str(caught.value)
        assert "\n" not in line
        return line.removeprefix(f"{tmp_path}{os.sep}")

    return run


def jsonl(*entries: object) -> bytes:
    return "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries).encode()


def own(number: int, **changes: object) -> dict[str, object]:
    return {"id": number, "video": "v", "question": "q", "answer": "a", **changes}


def test_utf16(refused: Refusal) -> None:
    text = json.dumps([ENTRY])
    save = "save the file as UTF-8"
    assert refused("msvd-qa", "test_qa.json", text.encode("utf-16")) == (
        f"test_qa.json: UTF-16 text; {save}"
    )
    # Without its mark its zero bytes alone show what it is.
    assert refused("msvd-qa", "test_qa.json", text.encode("utf-16-le")) == (
        f"test_qa.json:1: UTF-16 text, or no text at all; {save}"
    )
    for coding in ("utf-16", "utf-16-le"):
        for source, name, table in (
            ("tgif-qa", "Test_count_question.csv", TGIF),
            ("plain", "my.csv", "\n".join(LINES)),
        ):
            assert refused(source, name, table.encode(coding)) == (
                f"{name}:1: UTF-16 text, or no text at all; {save}"
            )


def test_byte_order_mark_and_line_ends(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    (tmp_path / "test_qa.json").write_bytes(mark + json.dumps([ENTRY]).encode())
    convert("msvd-qa", [tmp_path / "test_qa.json"], tmp_path / "out")
    assert next(read_rows("msvd_qa_official", tmp_path / "out", "test"))["answer"] == "mañana"
    (tmp_path / "Test_count_question.csv").write_bytes(mark + TGIF.encode())
    convert("tgif-qa", [tmp_path / "Test_count_question.csv"], tmp_path / "out")
    row = next(read_rows("tgif_qa_official", tmp_path / "out", "test"))
    assert (row["video"], row["id"], row["answer"]) == ("tumblr_a", "COUNT1", "3")
    expected = None
    for end in ("\n", "\r\n"):
        for start in (b"", mark):
            (tmp_path / "my.csv").write_bytes(start + end.join(LINES).encode() + end.encode())
            options = {"config": "qa", "split": "train", "overwrite": True}
            convert("plain", [tmp_path / "my.csv"], tmp_path / "out", **options)  # type: ignore[arg-type]  # as above
            rows = list(read_rows("qa", tmp_path / "out", "train"))
            expected = expected or rows
            assert rows == expected
            assert [row["answer"] for row in rows] == ["mañana", "dog"]


def test_a_list_cut_in_half(refused: Refusal) -> None:
    text = json.dumps([ENTRY, ENTRY], indent=1)
    cut = text[: text.rindex('"video_id"')]
    line = cut.count("\n") + 1
    reported = refused("msvd-qa", "test_qa.json", cut.encode())
    assert reported.startswith(f"test_qa.json:{line}: not JSON (")


def test_a_json_line_cut_in_half(refused: Refusal, tmp_path: Path) -> None:
    content = jsonl(own(1), own(2))
    cut = content[: -len(jsonl(own(2))) // 2]
    assert refused("plain", "my.jsonl", cut).startswith("my.jsonl:2: not JSON (")
    skipped = convert(
        "plain",
        [tmp_path / "my.jsonl"],
        tmp_path / "o",
        config="qa",
        split="train",
        on_error="skip",
    )
    assert [part.rows for part in skipped.splits.values()] == [1]
    assert len(skipped.report.skipped) == 1


def test_a_table_cut_in_half(refused: Refusal, tmp_path: Path) -> None:
    assert refused("tgif-qa", "Test_count_question.csv", TGIF.encode()[:-12]).startswith(
        "Test_count_question.csv:2: needs 4 columns, tab-separated"
    )
    quoted = 'id,video,question,answer\n1,v,q,a\n2,v,q,"half'
    assert refused("plain", "my.csv", quoted.encode()).startswith("my.csv:3: not a table (")
    content = "\n".join([*LINES, "3,v"]).encode()
    assert refused("plain", "my.csv", content).startswith(
        "my.csv:4: needs 4 columns, comma-separated"
    )
    skipped = convert(
        "plain", [tmp_path / "my.csv"], tmp_path / "o", config="qa", split="train", on_error="skip"
    )
    assert [part.rows for part in skipped.splits.values()] == [2]


@pytest.mark.parametrize("name", ["my.jsonl.gz", "my.csv.gz"])
def test_truncated_gzip(refused: Refusal, tmp_path: Path, name: str) -> None:
    text = jsonl(own(1), own(2)) if "jsonl" in name else "\n".join(LINES).encode()
    whole = gzip.compress(text, mtime=0)
    (tmp_path / name).write_bytes(whole)
    done = convert("plain", [tmp_path / name], tmp_path / "o", config="qa", split="train")
    assert done.splits["train"].rows == 2
    for on_error in ("raise", "skip"):
        reported = refused("plain", name, whole[:-9], on_error)
        assert reported.startswith(f"{name}: gzip data cut short; fetch the file again")


def test_broken_utf8(refused: Refusal) -> None:
    good = "\n".join(LINES).encode()
    assert refused("plain", "my.csv", good.replace("ñ".encode(), b"\xf1")) == (
        "my.csv:2: not UTF-8 text (byte 11)"
    )
    assert refused("msvd-qa", "test_qa.json", b'[{"id": "\xf1"}]').endswith(
        "test_qa.json: not UTF-8 text (byte 9)"
    )


def test_a_video_that_climbs_out(refused: Refusal) -> None:
    table = TGIF.replace("tumblr_a", "../../etc/passwd")
    assert refused("tgif-qa", "Test_count_question.csv", table.encode()).startswith(
        "Test_count_question.csv:2: 'video' leads out of its folder ('../../etc/passwd')"
    )
    assert refused("plain", "my.jsonl", jsonl(own(1), own(2, video="/etc/x"))).startswith(
        "my.jsonl:2: 'video' is an absolute path ('/etc/x')"
    )


def test_extra_fields_and_numbers_as_ids(tmp_path: Path) -> None:
    (tmp_path / "my.jsonl").write_bytes(jsonl(own(12345678901234567, more={"x": 1}), own(2)))
    convert("plain", [tmp_path / "my.jsonl"], tmp_path / "out", config="qa", split="train")
    rows = list(read_rows("qa", tmp_path / "out", "train"))
    assert [row["id"] for row in rows] == ["12345678901234567", "2"]
    assert "more" not in rows[0]


def test_no_rows_at_all(refused: Refusal) -> None:
    assert refused("msvd-qa", "test_qa.json", b"") == ("test_qa.json:1: not JSON (Expecting value)")
    assert refused("msvd-qa", "test_qa.json", b"{}").startswith("test_qa.json: a list of questions")
    assert refused("plain", "my.csv", b"").startswith("my.csv:1: no heading")
    assert refused("plain", "my.jsonl", b"\n\n").startswith("my.jsonl: no row to write for train")
    heading = TGIF.split("\r\n")[0].encode()
    assert refused("tgif-qa", "Test_count_question.csv", heading).endswith("to write for test")


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    # Who may read everything, as root may, is still refused a folder that is no folder.
    target = tmp_path / "file"
    target.write_text("x")
    (tmp_path / "my.jsonl").write_bytes(jsonl(own(1)))
    with pytest.raises(UserError, match="cannot be written") as caught:
        convert("plain", [tmp_path / "my.jsonl"], target / "out", config="qa", split="train")
    assert caught.value.exit_code == 1


FULL_DISK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))
from sharegptvideo.cli import main
sys.argv = ["sharegptvideo", *sys.argv[1:]]
main()
"""


def test_a_disk_that_fills(tmp_path: Path) -> None:
    (tmp_path / "old.jsonl").write_bytes(jsonl(own(1)))
    to = tmp_path / "out"
    convert("plain", [tmp_path / "old.jsonl"], to, config="qa", split="train")
    before = {path: path.read_bytes() for path in to.rglob("*") if path.is_file()}
    rows = [own(n, question=os.urandom(64).hex()) for n in range(200)]
    (tmp_path / "new.jsonl").write_bytes(jsonl(*rows))
    words = ["data", "convert", "plain", str(tmp_path / "new.jsonl"), "--to", str(to)]
    words += ["--config", "qa", "--split", "train", "--overwrite"]
    ran = subprocess.run(
        [sys.executable, "-c", FULL_DISK, *words], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1, ran.stderr
    assert "cannot be written (File too large)" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert {path: path.read_bytes() for path in to.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in to.iterdir()) == ["qa"]


def test_ctrl_c_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "my.jsonl").write_bytes(jsonl(*(own(n) for n in range(1500))))

    def stop(done: int, total: int, what: str) -> None:
        assert (done, total, what) == (1000, 0, "qa train")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(
            "plain",
            [tmp_path / "my.jsonl"],
            tmp_path / "out",
            config="qa",
            split="train",
            progress=stop,
        )
    assert not (tmp_path / "out").exists()
