"""What a row says of its model: the run's own record, and the submission's where it is one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from sharegptvideo.eval.submission import read_submission

__all__ = ["row_facts"]


def row_facts(path: Path, run: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of a run's model, each null where it is not.

    Returns:
        `model` (its name), `kind`, `authors` (whose it is), `link`, `weights_hash`, `run` (the
        folder's name), `params`, `licence`, `date` (ISO; of the submission, else of the run),
        `submitted` (whether the folder is a submission), `withdrawn` (since when and why),
        `contamination` (which test videos were in training, in the submitter's words).

    Raises:
        UserError: a submission.json that cannot be read.
    """
    model, submission = run["model"], read_submission(path)
    facts = {
        "model": str(model.get("name") or model["spec"]),
        "kind": model.get("kind"),
        "authors": model.get("authors"),
        "link": model.get("link"),
        "weights_hash": model.get("weights_hash"),
        "run": path.resolve().name,
        "params": None,
        "licence": None,
        "date": _day(run.get("started")),
        "submitted": submission is not None,
        "withdrawn": None,
        "contamination": None,
    }
    if submission is None:
        return facts
    gone = submission.withdrawn
    return facts | {
        "model": submission.name,
        "authors": submission.organisation,
        "link": submission.link,
        "params": submission.params,
        "licence": submission.licence,
        "date": submission.submitted,
        "withdrawn": f"{gone.date}, {gone.reason}" if gone else None,
        "contamination": submission.contamination,
    }


def _day(moment: str | None) -> str | None:
    """Return the day of a moment as run.json has it; None where that is no date."""
    try:
        return datetime.fromisoformat(moment).date().isoformat() if moment else None
    except ValueError:
        return None
