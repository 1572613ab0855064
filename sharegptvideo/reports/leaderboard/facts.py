"""What a row says of its model: the run's own record, and the submission's where it is one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["row_facts"]


def row_facts(path: Path, run: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of a run's model, each null where nobody said it.

    Returns:
        `model` (its name), `kind`, `authors` (who made it), `link`, `weights_hash`, `run` (the
        folder's name), `params`, `licence`, `date` (ISO; of the submission, else of the run),
        `submitted` (whether it is a submission's), `withdrawn` (the reason), `contamination` (which
        test videos were in training, in the submitter's words).
    """
    model = run["model"]
    started = run.get("started")
    return {
        "model": str(model.get("name") or model["spec"]),
        "kind": model.get("kind"),
        "authors": model.get("authors"),
        "link": model.get("link"),
        "weights_hash": model.get("weights_hash"),
        "run": path.resolve().name,
        "params": None,
        "licence": None,
        "date": started[:10] if started else None,
        "submitted": False,
        "withdrawn": None,
        "contamination": None,
    }
