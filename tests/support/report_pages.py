"""What a report's page reads, and runs as another judge would have left them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sharegptvideo._io import read_json, read_jsonl, write_json, write_jsonl

__all__ = ["read_page", "with_judge"]

Row = dict[str, Any]


def read_page(out: Path) -> tuple[Row, list[Row], list[Row]]:
    """What the page reads: the index, the samples with their clips in them, and the clips."""

    def value(path: Path) -> Any:
        text = path.read_text(encoding="utf-8")
        assert text.endswith(");\n")
        return text.removesuffix(");\n")

    index = json.loads(value(out / "samples" / "index.js").removeprefix("report.begin("))
    samples, clips = [], []
    for number, path in enumerate(sorted((out / "samples").glob("0*.js"))):
        piece = json.loads(value(path).removeprefix(f"report.take({number}, "))
        samples += [row | {"clip": piece["clips"][row["clip"]]} for row in piece["samples"]]
        clips += piece["clips"]
    return index, samples, clips


def with_judge(run: Path, replies: list[Row], **about: object) -> None:
    """Give a run's verdicts another judge: `replies` go into its judgements in turn."""
    record = read_json(run / "run.json")
    record["tasks"]["msvd_qa"]["judge"] = {"name": "openai:gpt", "prompt_version": 2, **about}
    write_json(run / "run.json", record)
    rows = [row for _, row in read_jsonl(run / "judgements.jsonl")]
    for number, row in enumerate(rows):
        row.update(replies[number % len(replies)])
    write_jsonl(run / "judgements.jsonl", rows)
