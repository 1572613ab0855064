"""Folders of data written row by row, and short reports of what is found in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Row = dict[str, Any]


@pytest.fixture
def release(tmp_path: Path) -> Callable[..., Path]:
    """`release({"train/qa/a.jsonl": [row or line, ...]})` writes a folder; gives its path."""

    def write(files: dict[str, list[Row | str]]) -> Path:
        root = tmp_path / "release"
        for name, rows in files.items():
            path = root / "video_instruction" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
            path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return root

    return write


@pytest.fixture
def parquet(tmp_path: Path) -> Callable[..., Path]:
    """`parquet("qa/train", [row, ...])` writes one shard as it stands; gives the folder."""

    def write(name: str, rows: list[Row]) -> Path:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = tmp_path / "parquet" / f"{name}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), path)
        return tmp_path / "parquet"

    return write
