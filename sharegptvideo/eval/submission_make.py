"""Pack a finished run as a submission."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sharegptvideo._io import os_errors, sha256_file, write_json, write_jsonl
from sharegptvideo._runs import check_place
from sharegptvideo._shipped import __version__
from sharegptvideo._staging import replacing_files
from sharegptvideo.errors import UserError, field_problems
from sharegptvideo.eval.run_dir import named, read_run
from sharegptvideo.eval.run_record import check_judgement, check_prediction, read_rows
from sharegptvideo.eval.submission import (
    FILES,
    RECORD,
    Submission,
    SubmissionInfo,
    judge_prompt_hashes,
    public_rows,
    public_run,
    submission_slug,
    task_versions,
)
from sharegptvideo.eval.submission_check import (
    NEEDS_ANSWERS,
    check_submission,
    differing_figures,
    scored_anew,
)

__all__ = ["make_submission"]

Row = dict[str, Any]


def make_submission(
    run: Path, info: SubmissionInfo, out: Path | None = None, *, day: str | None = None
) -> Path:
    """Pack a finished run for the board: what it asks for, without clips, paths, addresses, keys.

    Rows that were tried again are packed once, as they count; the figures are those that the packed
    rows give. The folder is written whole or not at all, and what would be refused is not written.

    Args:
        run: the run folder.
        info: what the submitter says of the model.
        out: the folder to make; default: named by model and day, in the current one.
        day: of the submission, as 2026-11-27; default: today, in UTC.

    Returns:
        The folder.

    Raises:
        UserError: the run is not finished, a part, not judged to the end, altered, or not what the
            board takes: all reasons; `out` is there already.
    """
    day = day or datetime.now(UTC).date().isoformat()
    folder = out or Path(submission_slug(info.name, day))
    check_place(folder)
    with os_errors(folder, "give another --out"):
        if folder.is_dir() and any(folder.iterdir()):
            raise UserError(f"{folder}: not empty; give another --out")
    record, results = read_run(run)
    predictions, judgements = (
        {f"{task}/{row_id}": row for (task, row_id), row in read_rows(run / name, check).items()}
        for name, check in (
            ("predictions.jsonl", check_prediction),
            ("judgements.jsonl", check_judgement),
        )
    )
    public = public_run(record)
    rows = [dict(zip(each, public_rows(each.values()), strict=True))
            for each in (predictions, judgements)]  # fmt: skip
    said = {"model": public["model"]["spec"], **named(public["model"]), "judge": public["judge"]}
    with os_errors(folder, "give another --out"), replacing_files(folder) as stage:
        problems = _differences(results, scored_anew(record, predictions, judgements))
        figures = scored_anew(public, rows[0], rows[1])
        for name, task in figures.items():
            there = results["tasks"].get(name, {})
            task |= {key: there[key] for key in NEEDS_ANSWERS if key in there}
        write_json(stage / "run.json", public)
        write_json(stage / "results.json", said | {"tasks": figures})
        write_jsonl(stage / "predictions.jsonl", rows[0].values())
        write_jsonl(stage / "judgements.jsonl", rows[1].values())
        try:
            submission = Submission(
                **info.model_dump(),
                version=1,
                submitted=day,
                package=__version__,
                judge=public["judge"],
                task_versions=task_versions(public),
                judge_prompt_hashes=judge_prompt_hashes(public),
                files={name: sha256_file(stage / name) for name in FILES},
            )
        except ValidationError as error:
            raise UserError(f"{run}: {'; '.join(field_problems(error))}") from error
        write_json(stage / RECORD, submission.model_dump(mode="json"))
        problems += check_submission(stage)["problems"]
        if problems:
            raise UserError(f"{run}: cannot be submitted: {'; '.join(problems)}", exit_code=1)
    return folder


def _differences(results: Mapping[str, Any], anew: Mapping[str, Any]) -> list[str]:
    """Return what of a run's figures its rows do not give, and which tasks have none yet.

    Intervals of the bootstrap depend on the order of the questions, which the rows need not have.
    """
    problems = [
        f"{name}: has no figures in results.json yet; run its command again to finish it"
        for name in anew.keys() - results["tasks"].keys()
    ]
    ended = {name: figures for name, figures in anew.items() if name in results["tasks"]}
    skipped = NEEDS_ANSWERS | {"ci95_bootstrap", "missing_predictions", "foreign_predictions"}
    lines = [*differing_figures(results["tasks"], ended, "results.json: tasks", skipped=skipped)]
    return problems + lines[:_SHOWN]


_SHOWN = 5
