"""Shards: the rows come back, the bytes depend on the rows alone, and files are whole or absent."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from sharegptvideo import read_rows
from sharegptvideo.data.publish.shards import SplitWriter, write_split
from sharegptvideo.data.schema import CONFIGS, features
from sharegptvideo.errors import UserError

CAPTIONS = CONFIGS["captions"]
WORDS = ["a", "baby", "reads", "the", "big", "red", "book", "slowly"]


def caption(number: int, size: int = 300, **extra: Any) -> dict[str, Any]:
    text = " ".join(random.Random(number).choices(WORDS, k=size))
    row = {"id": f"c{number}", "video": f"v{number // 2}", "source": "WebVid"}
    return {**row, "prompt": "Describe.", "caption": text, **extra}


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*.*"))}


def test_rows_come_back_and_are_counted(tmp_path: Path) -> None:
    rows = [caption(number) for number in range(5000)]
    done = write_split(rows, CAPTIONS, "train", tmp_path)
    assert [path.name for path in done.files] == ["train-00000-of-00001.parquet"]
    assert list(read_rows("captions", tmp_path)) == rows
    assert (done.rows, done.videos) == (5000, 2500)
    assert done.bytes == sum(path.stat().st_size for path in done.files)
    assert done.data_bytes == sum(len("".join(row.values()).encode()) for row in rows)


def test_every_type_of_column_comes_back(tmp_path: Path) -> None:
    rows = {
        "sft": [
            {"id": "1", "video": None, "image": None, "messages": turns(2)},
            {"id": "2", "video": "v", "image": None, "messages": turns(6)},
        ],
        "preferences": [
            dict.fromkeys(CONFIGS["preferences"].columns, "x")
            | {"id": str(score), "chosen_score": score, "rejected_score": None, "answer": None}
            for score in (1.5, None)
        ],
    }
    for name, some in rows.items():
        done = write_split(some, CONFIGS[name], "train", tmp_path)
        assert list(read_rows(name, tmp_path)) == some
        assert pq.read_schema(done.files[0]).equals(features(name).arrow_schema)
    # Two ids, "v", and turns of 1 + 4 and 1 + 9 bytes of content and role.
    sizes = write_split(rows["sft"], CONFIGS["sft"], "train", tmp_path)
    assert sizes.data_bytes == 3 + 4 * (1 + len("user") + 1 + len("assistant"))


def turns(count: int) -> list[dict[str, str]]:
    return [
        {"role": "assistant" if number % 2 else "user", "content": str(number)}
        for number in range(count)
    ]


def test_bytes_are_the_same_however_the_rows_come_in(tmp_path: Path) -> None:
    rows = [caption(number) for number in range(3000)]
    write_split(rows, CAPTIONS, "train", tmp_path / "a", shard_bytes=1 << 20)
    table = pq.read_table(tmp_path / "a" / "captions")
    for out, step in (("b", 700), ("c", 3000)):
        with SplitWriter(CAPTIONS, "train", tmp_path / out, shard_bytes=1 << 20) as writer:
            for start in range(0, 3000, step):
                writer.append(table.slice(start, step))
            writer.close()
    assert files(tmp_path / "a") == files(tmp_path / "b") == files(tmp_path / "c")


def test_groups_shards_and_index(tmp_path: Path) -> None:
    table = pq.read_table(
        write_split((caption(n) for n in range(400)), CAPTIONS, "train", tmp_path).files[0]
    )
    size = sum(len("".join(row.values())) for row in table.to_pylist())
    with SplitWriter(
        CAPTIONS, "train", tmp_path, shard_bytes=size // 3, group_bytes=size // 9
    ) as writer:
        writer.append(table)
        done = writer.close()
    # A group ends with the row that fills it, so none is short of its size but the last.
    groups = [pq.ParquetFile(path).metadata.num_row_groups for path in done.files]
    assert groups == [3, 3, 3]
    column = pq.ParquetFile(done.files[0]).metadata.row_group(0).column(0)
    assert column.has_offset_index
    assert column.has_column_index
    assert column.compression == "ZSTD"
    assert pq.read_table(tmp_path / "captions") == table


def test_fewer_shards_replace_more(tmp_path: Path) -> None:
    rows = [caption(number) for number in range(40)]
    with SplitWriter(CAPTIONS, "train", tmp_path, shard_bytes=1, group_bytes=1 << 14) as writer:
        table = pq.read_table(write_split(rows, CAPTIONS, "train", tmp_path / "b").files[0])
        writer.append(table)
        assert len(writer.close().files) > 1
    write_split(rows, CAPTIONS, "train", tmp_path)
    assert [path.name for path in (tmp_path / "captions").iterdir()] == [
        "train-00000-of-00001.parquet"
    ]


def test_no_rows_no_file(tmp_path: Path) -> None:
    done = write_split([], CAPTIONS, "train", tmp_path)
    assert (done.files, done.rows, done.videos) == ((), 0, 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "cause"),
    [
        ({"caption": ""}, "row 3: 'caption' is empty"),
        ({"video": "../v"}, "row 3: 'video' leads out of its folder ('../v')"),
        ({"prompt": None}, "row 3: no 'prompt'"),
        ({"id": "c0"}, "row 3: id 'c0' is there already"),
    ],
)
def test_wrong_row_writes_nothing(wrong: dict[str, Any], cause: str, tmp_path: Path) -> None:
    write_split([caption(7)], CAPTIONS, "train", tmp_path)
    before = files(tmp_path)
    with pytest.raises(UserError) as caught:
        write_split([caption(0), caption(1), caption(2, **wrong)], CAPTIONS, "train", tmp_path)
    assert str(caught.value) == f"captions: {cause}"
    assert files(tmp_path) == before


def test_interrupt_leaves_nothing(tmp_path: Path) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield from (caption(number) for number in range(5000))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_split(rows(), CAPTIONS, "train", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "captions").write_text("a file")
    with pytest.raises(UserError, match=r"captions: cannot be written \("):
        write_split([caption(0)], CAPTIONS, "train", tmp_path)


def test_disk_full(tmp_path: Path) -> None:
    # A limit on the size of a file is refused where a full disk would be: in write().
    code = (
        "import resource, signal, random\n"
        "from pathlib import Path\n"
        "from sharegptvideo.errors import UserError\n"
        "from sharegptvideo.data.publish.shards import write_split\n"
        "from sharegptvideo.data.schema import CONFIGS\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "row = {'video': 'v', 'source': 's', 'prompt': 'p'}\n"
        "text = lambda: random.randbytes(400).hex()\n"
        "rows = ({**row, 'id': str(n), 'caption': text()} for n in range(4000))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "try:\n"
        f"    write_split(rows, CONFIGS['captions'], 'train', Path({str(tmp_path)!r}))\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path / 'captions'}: cannot be written (File too large)\n"
    assert list(tmp_path.iterdir()) == []


def test_old_shards_go_only_when_the_new_ones_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synced: list[Path]
) -> None:
    write_split([caption(1)], CAPTIONS, "train", tmp_path)
    (old,) = (tmp_path / "captions").iterdir()
    before = old.read_bytes()
    replace = Path.replace

    def seen(self: Path, target: Path) -> Path:
        assert old.read_bytes() == before
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", seen)
    write_split([caption(2)], CAPTIONS, "train", tmp_path)
    assert old.read_bytes() != before
    assert synced == [tmp_path / "captions"] * 2  # the new names outlive a power cut
