"""The figures of a run in the forms that people pass on: JSON, CSV, Markdown, LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from sharegptvideo._text import points
from sharegptvideo.reports.run.collecting import Run
from sharegptvideo.reports.run.text import (
    markdown_table,
    tex_escape,
    tex_estimate,
    tex_interval,
)

__all__ = [
    "csv_text",
    "flat_row",
    "judge_text",
    "latex_text",
    "markdown_text",
    "mixed_models",
    "report_json",
    "tasks_by_judge",
]

_COUNTS = ("n", "n_predicted", "n_failed", "n_scored", "n_unscored", "coverage", "clusters")


def judge_text(run: Run, task: str) -> str:
    """Who judged a task, by which rules: `openai:gpt (gpt-0613), official, prompt v1, HASH`."""
    judge, about = run.judge(task), run.about["tasks"][task]
    told = str(judge["name"])
    models = [name for found in run.answered_by.get(task, {}).values() for name in found]
    if models:
        told += f" ({', '.join(sorted(set(models)))})"
    parts = [told, str(about["protocol"])]
    for key, word in (("version", "rules v"), ("prompt_version", "prompt v")):
        if key in judge:
            parts.append(f"{word}{judge[key]}")
    parts += [str(judge[key]) for key in ("prompt_hash", "hash") if judge.get(key)][:1]
    return ", ".join(parts)


def tasks_by_judge(run: Run) -> dict[str, list[str]]:
    """The tasks of a run by `judge_text`."""
    judges: dict[str, list[str]] = {}
    for task in run.results["tasks"]:
        judges.setdefault(judge_text(run, task), []).append(task)
    return judges


def mixed_models(run: Run) -> list[str]:
    """A line for each judge as which several models answered: its figures mix their verdicts."""
    return [
        f"{task}: several models answered as {judge}: "
        + ", ".join(f"{name} ({n:,})" for name, n in found.most_common())
        for task, judges in run.answered_by.items()
        for judge, found in judges.items()
        if len(found) > 1
    ]


def report_json(run: Run) -> dict[str, Any]:
    """All figures of a run with what they are figures of."""
    return {
        "run": run.name,
        "model": {key: value for key, value in run.about["model"].items() if key != "spec"}
        | {"name": run.model},
        "tasks": {
            task: {
                **figures,
                "version": run.about["tasks"][task]["version"],
                "protocol": run.about["tasks"][task]["protocol"],
                "judge": run.judge(task),
                "answered_by": {
                    judge: dict(found) for judge, found in run.answered_by.get(task, {}).items()
                },
            }
            for task, figures in run.results["tasks"].items()
        },
        "packages": run.about.get("packages", {}),
        "started": run.about.get("started"),
    }


def flat_row(run: Run, task: str) -> dict[str, Any]:
    """One task's figures in one row of plain values; shares from 0 to 1, None where unknown."""
    figures, about, judge = run.results["tasks"][task], run.about["tasks"][task], run.judge(task)
    row: dict[str, Any] = {
        "run": run.name,
        "model": run.model,
        "weights_hash": run.about["model"].get("weights_hash"),
        "task": task,
        "task_version": about["version"],
        "protocol": about["protocol"],
        "judge": judge["name"],
        "judge_version": judge.get("prompt_version", judge.get("version")),
        "judge_hash": judge.get("prompt_hash", judge.get("hash")),
        "judge_answered_by": _answered_by(run, task),
        **{name: figures[name] for name in _COUNTS},
    }
    for name in ("accuracy", "score"):
        estimate = figures[name]
        row |= {name: estimate["value"], f"{name}_se": estimate["se"]}
        row |= _ends(f"{name}_ci95", estimate["ci95"])
        row |= _ends(f"{name}_ci95_bootstrap", estimate.get("ci95_bootstrap"))
    row |= _ends("accuracy_bound", figures["accuracy_bounds"])
    row["minimum_detectable_difference"] = figures.get("minimum_detectable_difference")
    row["paper_accuracy"] = figures["paper_accuracy"]
    return row


def _answered_by(run: Run, task: str) -> str | None:
    models = {name for found in run.answered_by.get(task, {}).values() for name in found}
    return "; ".join(sorted(models)) or None


def _ends(name: str, ends: Sequence[float] | None) -> dict[str, float | None]:
    low, high = ends or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def csv_text(runs: Sequence[Run]) -> str:
    """A row for every task of every run; the judge is in columns of its own."""
    rows = [flat_row(run, task) for run in runs for task in run.results["tasks"]]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def markdown_text(run: Run) -> str:
    """The table of `markdown_table`, and below it who judged."""
    results = run.results | {"model": run.model}
    lines = [
        f"- {', '.join(f'`{task}`' for task in tasks)}: {_plain(judge)}"
        for judge, tasks in tasks_by_judge(run).items()
    ]
    lines += [f"- Note: {_plain(line)}" for line in mixed_models(run)]
    return (
        markdown_table(results)
        + "\n± is one standard error and the interval covers 95 %, both by video. A question"
        " without an answer counts as wrong. Bounds: every unscored answer wrong, every one"
        " right.\n\nJudged by:\n\n" + "\n".join(lines) + "\n"
    )


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("`", "'")


def latex_text(run: Run) -> str:
    """A `table` for a paper, in the style of booktabs, with who judged in its caption."""
    rows = []
    for task, figures in run.results["tasks"].items():
        cells = (
            tex_escape(task),
            f"{figures['n']:,}",
            f"{figures['clusters']:,}",
            points(figures["coverage"]),
            tex_estimate(figures["accuracy"], share=True),
            tex_interval(figures["accuracy"]["ci95"]),
            tex_estimate(figures["score"], share=False),
        )
        rows.append(" & ".join(cells) + r" \\")
    judges = tasks_by_judge(run)
    told = "; ".join(
        tex_escape(judge) + (f" ({tex_escape(', '.join(tasks))})" if len(judges) > 1 else "")
        for judge, tasks in judges.items()
    )
    body = "\n".join(rows)
    return f"""% needs \\usepackage{{booktabs}}
\\begin{{table}}
\\centering
\\begin{{tabular}}{{lrrrrrr}}
\\toprule
Task & Questions & Videos & Coverage \\% & Accuracy \\% & 95\\,\\% interval & Score \\\\
\\midrule
{body}
\\bottomrule
\\end{{tabular}}
\\caption{{{tex_escape(run.model)}. Judge: {told}. $\\pm$ is one standard error, clustered by video,
as is the interval; questions without an answer count as wrong.}}
\\end{{table}}
"""
