"""A run's accuracies as the Hub takes them from model repositories: `.eval_results/*.yaml`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from sharegptvideo._text import percent, points
from sharegptvideo.errors import UserError
from sharegptvideo.reports.run.collecting import MIN_COVERAGE, Run
from sharegptvideo.reports.run.tables import judge_text

__all__ = ["HubResults", "hub_results"]


@dataclass(frozen=True, slots=True)
class HubResults:
    """`file` below the model's repository, its text, and by task why it was left out.

    `text` is empty where every task was.
    """

    file: str
    text: str
    left_out: dict[str, str]


def hub_results(run: Run, dataset_id: str) -> HubResults:
    """The entries of a run for the benchmark `dataset_id`, whose `eval.yaml` names the tasks.

    `task_id` is the config's name, as `data publish` writes it. `value` is the accuracy in per
    cent; the notes say who judged, and how sure it is. Left out is what would not be comparable:
    a part of a task, coverage under 99 %, a task of the user's own.

    Raises:
        UserError: `dataset_id` is not of the form OWNER/NAME.
    """
    parts = dataset_id.split("/")
    if len(parts) != 2 or not all(parts) or any(part.startswith(".") for part in parts):
        raise UserError(f"--dataset-id {dataset_id}: is no data set of the Hub; give OWNER/NAME")
    entries, left_out = [], {}
    for task, figures in run.results["tasks"].items():
        cause = _unfit(run, task, figures)
        if cause:
            left_out[task] = cause
        else:
            entries.append(
                EvalResultEntry(
                    dataset_id=dataset_id,
                    task_id=run.about["tasks"][task]["config"],
                    value=round(100 * figures["accuracy"]["value"], 2),
                    date=run.about.get("started"),
                    notes=_notes(run, task, figures),
                )
            )
    text = yaml.safe_dump(
        eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True, width=100
    )
    return HubResults(f".eval_results/{parts[1]}.yaml", text if entries else "", left_out)


def _unfit(run: Run, task: str, figures: dict[str, Any]) -> str:
    limit = (run.about.get("data") or {}).get("limit")
    if limit is not None:
        return f"only the first {limit} questions were asked (--limit)"
    if run.about["tasks"][task]["config"] != task:
        return "a task of one's own has no place in the data set's eval.yaml"
    if figures["accuracy"]["value"] is None or figures["coverage"] < MIN_COVERAGE:
        return f"coverage {percent(figures['coverage'])}, under {percent(MIN_COVERAGE, 0)}"
    return ""


def _notes(run: Run, task: str, figures: dict[str, Any]) -> str:
    ends = figures["accuracy"]["ci95"]
    parts = ["accuracy in %"]
    if ends:
        parts.append(f"95 % interval {points(ends[0])} to {points(ends[1])} by video")
    parts += [
        f"{figures['n']} questions on {figures['clusters']} videos",
        f"coverage {percent(figures['coverage'])}",
        f"task version {run.about['tasks'][task]['version']}",
        f"judge {judge_text(run, task)}",
    ]
    version = run.about.get("packages", {}).get("sharegptvideo")
    return "; ".join([*parts, *([f"sharegptvideo {version}"] if version else [])])
