"""A run's folder: what it is a run of, its answers and verdicts so far, and one writer at a time.

run.json           what was run; a folder holds answers of one model and one judge
predictions.jsonl  one line an answer; a retried question has several, the last one counts
judgements.jsonl   one line a verdict; likewise
results.json       the figures, written when all is judged
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from sharegptvideo._io import read_json, write_json
from sharegptvideo._runs import RunDir, RunKind, differences
from sharegptvideo._text import plural, shortened
from sharegptvideo.errors import UserError
from sharegptvideo.eval.run_record import check_judgement, check_prediction, check_run, read_results

__all__ = [
    "EvalRunDir",
    "asked_part",
    "named",
    "other_settings",
    "package_versions",
    "read_run",
    "recorded_model",
]

_PACKAGES = (
    "sharegptvideo",
    "av",
    "datasets",
    "numpy",
    "openai",
    "pillow",
    "tokenizers",
    "torch",
    "transformers",
)


def package_versions() -> dict[str, str]:
    """Installed versions of what can change a number."""
    versions = {}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def read_run(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the contents of a finished run's run.json and results.json.

    Raises:
        UserError: `path` is no run folder, its run has not ended, or a file holds what no run
            writes.
    """
    if not (path / "run.json").is_file():
        raise UserError(f"{path}: no run folder (run.json is not in it)")
    if not (path / "results.json").is_file():
        raise UserError(f"{path}: has no results.json yet; run its command again to finish it")
    run, results = read_json(path / "run.json"), read_results(path / "results.json")
    check_run(path / "run.json", run)
    return run, results


def recorded_model(path: Path) -> dict[str, Any] | None:
    """Return what the run.json in a folder says of the model; None where there is none.

    Raises:
        UserError: the file cannot be read.
    """
    contents = read_json(path / "run.json") if (path / "run.json").is_file() else None
    model = contents.get("model") if isinstance(contents, dict) else None
    return model if isinstance(model, dict) else None


def asked_part(run: Mapping[str, Any], task: str, n: int) -> str:
    """Say which part of a task a run asked, "" where it asked all.

    Args:
        run: the contents of run.json.
        task: the task's name.
        n: how many questions results.json counts.
    """
    about = run["tasks"].get(task, {})
    limit = about["limit"] if "limit" in about else (run.get("data") or {}).get("limit")
    if limit is None or n < limit:  # an older record has what was asked for, which may be more
        return ""
    drawn = (run.get("seeds") or {}).get("questions") is not None
    which = f"{limit:,} questions drawn" if drawn else f"the first {plural(limit, 'question')}"
    return f"a part of the task: {which} (--limit)"


def other_settings(run: Mapping[str, Any], task: str) -> str:
    """Say under which settings other than the task's a run was, "" where under its own.

    Args:
        run: the contents of run.json.
        task: the task's name.
    """
    changed = run["tasks"].get(task, {}).get("settings_changed") or {}
    said = (
        f"{name} {_value(used)}" + ("" if own is None else f" (the task's: {_value(own)})")
        for name, (own, used) in changed.items()
    )
    return f"other settings than the task's: {', '.join(said)}" if changed else ""


def _value(value: object) -> str:
    return shortened(repr(value), 60) if isinstance(value, str) else str(value)


# Recorded, but free to change between two sittings of one run. What settings were changed follows
# from these, which may not, and was not recorded by earlier versions.
_MAY_CHANGE = frozenset(
    {
        "authors",
        "base_url",
        "endpoint",
        "file_hash",
        "limit",
        "link",
        "send_reason",
        "settings_changed",
        "spec",
    }
)
# Not recorded by earlier versions, whose runs may be gone on with.
_ADDED = frozenset({"sent_as", "task_hash"})
_MAY_BE_UNKNOWN = ("frames", "max_new_tokens")


def named(model: Mapping[str, Any]) -> dict[str, str]:
    """Return what a file of answers was said to be of: the model's name, its authors, a link."""
    names = {"name": "model_name", "authors": "authors", "link": "link"}
    return {new: model[key] for key, new in names.items() if model.get(key) is not None}


def _own_rules(*runs: Mapping[str, Any]) -> bool:
    """Return whether each task of some runs is judged by the rules for its form of answers."""
    names = {name for run in runs for name in str(run["judge"]).split(", ")}
    return names <= {"answer-match", "claim-match", "yes-no", "choice"}


def _without(there: dict[str, Any], here: Mapping[str, Any]) -> dict[str, Any]:
    unknown = {name for name in _MAY_BE_UNKNOWN if name in here and here[name] is None}
    return {name: None if name in unknown else value for name, value in there.items()}


class EvalRunDir(RunDir):
    """An open run folder; a context manager that lets no second process write into it."""

    def __init__(
        self, path: Path, run: Mapping[str, Any] | Callable[[], Mapping[str, Any]]
    ) -> None:
        """Open `path` for the run that `run` describes, or go on with it.

        See `RunDir` for a description that takes long.

        Raises:
            UserError: the folder holds another run (says what differs), or something else, or
                another process is writing to it.
        """
        kind = RunKind(
            fix_mix="give another --out (to judge its answers anew: eval judge --predictions"
            f" {path / 'predictions.jsonl'})",
            required=frozenset({"model", "tasks"}),
            foreign="*.jsonl",
            locked=True,
        )
        super().__init__(path, run, kind, may_change=_MAY_CHANGE)
        with contextlib.ExitStack() as opened:
            opened.push(self)  # a log that cannot be read must not keep the folder locked
            self.predictions = self.log("predictions", ("task", "id"), check_prediction)
            self.judgements = self.log("judgements", ("task", "id"), check_judgement)
            opened.pop_all()

    def changes(self, there: dict[str, Any], here: dict[str, Any]) -> list[str]:
        """Return what differs in the model and in the tasks of both; else in the judge."""
        check_run(self.path / self.kind.file, there, finished=False)
        both = sorted(there["tasks"].keys() & here["tasks"].keys())
        # Earlier versions sent frames as pictures, and did not record it.
        before = {"send": "pictures"} if "send" in here["model"] else {}
        pairs = [("model", before | there["model"], here["model"])]
        # Earlier versions wrote the task's own where of answers from a file it is not known.
        pairs += [
            (name, _without(there["tasks"][name], here["tasks"][name]), here["tasks"][name])
            for name in both
        ]
        changes = [
            change
            for name, one, other in pairs
            for change in differences(one, other, name, may_change=self.may_change, added=_ADDED)
        ]
        if changes or _own_rules(there, here):
            return changes
        return list(differences(there["judge"], here["judge"], "judge"))

    def merged(self, there: dict[str, Any], here: dict[str, Any]) -> dict[str, Any]:
        """Return the settings of this command, with the tasks of earlier ones."""
        names = dict.fromkeys(name for each in (there, here) for name in each["judge"].split(", "))
        judge = ", ".join(names) if _own_rules(there, here) else here["judge"]
        return here | {"tasks": there["tasks"] | here["tasks"], "judge": judge}

    def write_results(self, tasks: Mapping[str, Any]) -> dict[str, Any]:
        """Write results.json, keeping the tasks of earlier commands, and return its contents."""
        file = self.path / "results.json"
        earlier = read_results(file)["tasks"] if file.is_file() else {}
        results = {
            "model": self.settings["model"]["spec"],
            **named(self.settings["model"]),
            "judge": self.settings["judge"],
            "tasks": {**earlier, **tasks},
        }
        write_json(file, results)
        return results
