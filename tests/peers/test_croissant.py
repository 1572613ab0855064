"""`croissant.json` of a published tree, read by the format's own library."""

from __future__ import annotations

from pathlib import Path

import pytest

from sharegptvideo import read_rows
from sharegptvideo.data.publish import publish
from sharegptvideo.data.sources import held_configs

mlc = pytest.importorskip("mlcroissant")

pytestmark = pytest.mark.peers


def test_the_library_reads_every_row(shared_data: Path, tmp_path: Path) -> None:
    out, release = tmp_path / "out", shared_data / "release"
    publish(
        release,
        "tester/mine",
        dry_run=out,
        tag="1.0.0",
        cards="package",
        allow=["leak-name"],
        media=shared_data / "videos",
    )
    found = mlc.Dataset(out / "croissant.json", mapping={"repo": str(out)})
    issues = found.metadata.ctx.issues
    assert not issues.errors
    assert [text for text in issues.warnings if "datePublished" not in str(text)] == []
    for config in held_configs(release):
        records = list(found.records(config.name))
        assert {one[f"{config.name}/split"].decode() for one in records} <= {*config.splits}
        asked = {row["id"]: row for row in read_rows(config.name, release, None)}
        assert len(records) == len(asked)
        for record in records:
            row = asked[record[f"{config.name}/id"].decode()]
            for column in ("question", "answer", "prompt", "caption"):
                if row.get(column) is not None:
                    assert record[f"{config.name}/{column}"].decode() == row[column]
        if "video" in config.paths and config.name in ("qa", "sft"):
            clips = [one[f"{config.name}/clip"] for one in records]
            assert any(clip is not None and clip[4:8] == b"ftyp" for clip in clips)
