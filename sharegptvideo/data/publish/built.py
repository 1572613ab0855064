"""What a folder of `sharegptvideo build` says of its rows: how they were made, what was flagged.

Everything is read from `dataset.json`, which the run wrote beside the rows with the hashes of
their files; of files that are others now it says nothing.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from sharegptvideo._io import os_errors, read_json_object, sha256_file
from sharegptvideo._markdown import markdown_cell, markdown_code
from sharegptvideo._text import and_more, dollars, number, plural
from sharegptvideo.data.schema import Config
from sharegptvideo.errors import UserError

__all__ = ["built_record", "check_built", "origin_of"]

Record = dict[str, Any]

_RECORD = "dataset.json"
_KINDS = {
    "n_rows": int,
    "n_flagged": int,
    "keep_all": bool,
    "flags": dict,
    "stages": list,
    "files": dict,
}
_CAUSES = 5


def built_record(folder: Path, config: Config, files: Iterable[Path]) -> Record | None:
    """Return what a run of building wrote about the rows in some files; None if others made them.

    Args:
        folder: that is published.
        config: of the rows.
        files: that hold them.

    Raises:
        UserError: a file that cannot be read.
    """
    record = _records(folder).get(config.name)
    if record is None or not record["stages"]:
        return None
    files = list(files)
    with os_errors(folder, action="read"):
        same = all(
            record["files"].get(str(file.relative_to(folder))) == sha256_file(file)
            for file in files
        )
    return record if same and files else None


def _records(folder: Path) -> dict[str, Record]:
    """Return the records of a folder by config; of a file with another content none."""
    path = folder / _RECORD
    records = read_json_object(path) if path.is_file() else {}
    return {
        config: record
        for config, record in records.items()
        if isinstance(record, dict)
        and all(isinstance(record.get(name), kind) for name, kind in _KINDS.items())
    }


def check_built(folder: Path, configs: Collection[str]) -> None:
    """Check that what a run of building made may be published: of some configs, or of all if empty.

    Raises:
        UserError: a config of which nothing was made, or all is flagged; rows that leak from test
            sets and were kept.
    """
    for config, record in _records(folder).items():
        if configs and config not in configs:
            continue
        where = f"{folder}: {config}"
        kept = record["n_flagged"] if record["keep_all"] else 0
        if record["n_rows"] <= kept:
            flags = ", ".join(f"{name} {count:,}" for name, count in record["flags"].items())
            raise UserError(
                f"{where}: no row passes the quality gates ({flags or 'nothing was made'}); "
                "nothing was published",
                exit_code=1,
            )
        leaks = {name: n for name, n in record["flags"].items() if name.startswith("leak-")}
        if record["keep_all"] and leaks:
            listed = ", ".join(f"{name} {count:,}" for name, count in leaks.items())
            raise UserError(
                f"{where}: rows that are in test sets were kept ({listed}); run the stage again "
                "without --keep-all; nothing was published",
                exit_code=1,
            )


def origin_of(record: Record) -> str:
    """Return what a card says of how the rows were made, as Markdown."""
    stages = record["stages"]
    versions = {
        version for stage in stages for version in stage["provenance"].get("package_version", ())
    }
    by = f" {', '.join(sorted(versions))}" if versions else ""
    lines = [
        f"Made by `sharegptvideo build`{by}; each stage starts from the rows of the one before.",
        "",
        "| stage | model | answered by | inputs | failed | tokens read (cached) | written | cost |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *(line for stage in stages for line in _stage_lines(stage)),
        "",
        *(f"- {line}" for stage in stages for line in _details(stage)),
        *(f"- {line}" for line in _kept(record)),
    ]
    return "\n".join(lines)


def _stage_lines(stage: Record) -> Iterator[str]:
    for model in stage["models"]:
        tokens = model["tokens"]
        cost = "not known" if model["dollars"] is None else dollars(model["dollars"])
        cells = (
            stage["stage"],
            markdown_code(model["model"]) if model["model"] else "–",
            ", ".join(map(markdown_code, model["answered_by"])) or "–",
            number(model["rows"]),
            number(model["failed"]),
            f"{number(tokens['prompt'])} ({number(tokens['cached'])})",
            number(tokens["completion"]),
            cost,
        )
        yield f"| {' | '.join(cells)} |"
    if not stage["models"]:
        yield f"| {stage['stage']} |{' – |' * 7}"


def _details(stage: Record) -> Iterator[str]:
    name, counted = stage["stage"], stage["provenance"]
    shown = {"prompt": "prompt", "sampling": "sampling", "frames": "frames of a clip"}
    for key, words in shown.items():
        values = [
            markdown_cell(value) + (f" ({plural(rows, 'row')})" if len(counted[key]) > 1 else "")
            for value, rows in counted.get(key, {}).items()
        ]
        if values:
            yield f"{name}: {words} {and_more(values)}"
    if not stage["models"] and isinstance(stage["report"], dict):
        plain = {k: v for k, v in stage["report"].items() if isinstance(v, int | float | str)}
        yield f"{name}: {markdown_cell(json.dumps(plain))}"
    for title, causes in (("failed", stage["failures"]), ("dropped", stage["dropped"])):
        if causes:
            listed = [f"{markdown_cell(cause)} {count:,}" for cause, count in causes.items()]
            yield f"{name}: {title}: {and_more(listed, _CAUSES)}"
    if gates := stage["gates"]:
        by_gate = [f"{gate} {count:,}" for gate, count in gates["by_gate"].items()]
        flagged = f"{gates['flagged']:,} of {plural(gates['rows'], 'row')} flagged by gates"
        yield f"{name}: {flagged}: {', '.join(by_gate)}"
        for gate, reason in gates["skipped"].items():
            yield f"{name}: gate {gate} not applied: {markdown_cell(reason)}"


def _kept(record: Record) -> Iterator[str]:
    if record["n_flagged"] and record["keep_all"]:
        yield f"{plural(record['n_flagged'], 'flagged row')} kept"
    elif record["n_flagged"]:
        yield f"{plural(record['n_left_out'], 'flagged row')} left out"
