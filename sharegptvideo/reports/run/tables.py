"""The figures of a run in the forms that people pass on: JSON, CSV, Markdown, LaTeX, the Hub's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from sharegptvideo._markdown import markdown_cell, markdown_code, markdown_link
from sharegptvideo._text import interval, number, percent, plural, points
from sharegptvideo.errors import UserError
from sharegptvideo.eval.headline import headline, headline_of_type
from sharegptvideo.reports.estimates import (
    csv_table,
    format_estimate,
    headline_cells,
    headline_titles,
    markdown_table,
    tex_escape,
    tex_estimate,
    tex_headline,
    tex_link,
    tex_table,
)
from sharegptvideo.reports.run.record import MIN_COVERAGE, Run

__all__ = [
    "YES_NO",
    "HubResults",
    "csv_text",
    "flat_row",
    "hub_results",
    "judge_text",
    "latex_text",
    "markdown_text",
    "mixed_models",
    "parts_asked",
    "report_json",
    "tasks_by_judge",
    "yes_no_rows",
]

_COUNTS = ("n", "n_predicted", "n_failed", "n_scored", "n_unscored", "coverage", "clusters")


@dataclass(frozen=True, slots=True)
class HubResults:
    """`file` below the model's repository, its text, and by task why it was left out.

    `text` is empty where every task was.
    """

    file: str
    text: str
    left_out: dict[str, str]


def judge_text(run: Run, task: str) -> str:
    """Say who judged a task, by which rules: `openai:gpt (gpt-0613), official, prompt v1, HASH`."""
    judge, about = run.judge(task), run.about["tasks"][task]
    name = str(judge["name"])
    if models := _answered_by(run, task):
        name += f" ({', '.join(models)})"
    parts = [name, str(about["protocol"])]
    if judge.get("kind") == "recorded":
        parts.append("recorded, not asked")
    for key, word in (("version", "rules v"), ("prompt_version", "prompt v")):
        if key in judge:
            parts.append(f"{word}{judge[key]}")
    parts += [str(judge[key]) for key in ("prompt_hash", "hash") if judge.get(key)][:1]
    return ", ".join(parts)


def tasks_by_judge(run: Run) -> dict[str, list[str]]:
    """Group the tasks of a run by `judge_text`."""
    judges: dict[str, list[str]] = {}
    for task in run.results["tasks"]:
        judges.setdefault(judge_text(run, task), []).append(task)
    return judges


def parts_asked(run: Run) -> list[str]:
    """List what is not to be ranked: tasks asked in part, or under other settings than theirs."""
    return [
        f"{task}: {cause}; not to be ranked"
        for task in run.results["tasks"]
        for cause in (run.part(task), run.settings(task))
        if cause
    ]


def mixed_models(run: Run) -> list[str]:
    """List the judges as which several models answered: their figures mix the verdicts."""
    return [
        f"{task}: several models answered as {judge}: "
        + ", ".join(f"{name} ({number(n)})" for name, n in models.most_common())
        for task, judges in run.answered_by.items()
        for judge, models in judges.items()
        if len(models) > 1
    ]


def report_json(run: Run) -> dict[str, Any]:
    """Return all figures of a run with what they are figures of."""
    return {
        "run": run.name,
        "model": {key: value for key, value in run.about["model"].items() if key != "spec"}
        | {"name": run.model},
        "tasks": {
            task: {
                **figures,
                "part": run.part(task) or None,
                "settings_changed": run.about["tasks"][task].get("settings_changed") or {},
                "version": run.about["tasks"][task]["version"],
                "protocol": run.about["tasks"][task]["protocol"],
                "judge": run.judge(task),
                "answered_by": {
                    judge: dict(models) for judge, models in run.answered_by.get(task, {}).items()
                },
            }
            for task, figures in run.results["tasks"].items()
        },
        "packages": run.about.get("packages", {}),
        "started": run.about.get("started"),
    }


def flat_row(run: Run, task: str) -> dict[str, Any]:
    """Put one task's figures in one row; shares from 0 to 1, None where unknown."""
    figures, about, judge = run.results["tasks"][task], run.about["tasks"][task], run.judge(task)
    row: dict[str, Any] = {
        "run": run.name,
        "model": run.model,
        "authors": run.authors,
        "link": run.link,
        "weights_hash": run.about["model"].get("weights_hash"),
        "task": task,
        "part": run.part(task) or None,
        "other_settings": run.settings(task) or None,
        "task_version": about["version"],
        "protocol": about["protocol"],
        "judge": judge["name"],
        "judge_version": judge.get("prompt_version", judge.get("version")),
        "judge_hash": judge.get("prompt_hash", judge.get("hash")),
        "judge_answered_by": "; ".join(_answered_by(run, task)) or None,
        **{name: figures[name] for name in _COUNTS},
    }
    for name in ("accuracy", "score"):
        estimate = figures[name]
        row |= {name: estimate["value"], f"{name}_se": estimate["se"]}
        row |= _ends(f"{name}_ci95", estimate["ci95"])
        row |= _ends(f"{name}_ci95_bootstrap", estimate.get("ci95_bootstrap"))
    row |= _ends("accuracy_bound", figures["accuracy_bounds"])
    main = headline(figures)
    row |= {"headline": main.key, "headline_value": main.estimate["value"]}
    row |= {"headline_se": main.estimate["se"], **_ends("headline_ci95", main.estimate["ci95"])}
    row["chance"] = main.chance
    row["minimum_detectable_difference"] = figures.get("minimum_detectable_difference")
    row["paper_accuracy"] = figures["paper_accuracy"]
    row["paper_score"] = figures.get("paper_score")
    return row


def _answered_by(run: Run, task: str) -> list[str]:
    return sorted({name for models in run.answered_by.get(task, {}).values() for name in models})


def _ends(name: str, ends: Sequence[float] | None) -> dict[str, float | None]:
    low, high = ends or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def csv_text(runs: Sequence[Run]) -> str:
    """Write a row for every task of every run; the judge is in columns of its own."""
    return csv_table([flat_row(run, task) for run in runs for task in run.results["tasks"]])


def markdown_text(run: Run) -> str:
    """Return the table of `markdown_table`, and below it who judged."""
    by = f" by {markdown_cell(run.authors)}" if run.authors else ""
    model = markdown_link(run.model, run.link) + by
    lines = [
        f"- {', '.join(map(markdown_code, tasks))}: {markdown_cell(judge)}"
        for judge, tasks in tasks_by_judge(run).items()
    ]
    lines += [f"- Note: {markdown_cell(line)}" for line in parts_asked(run) + mixed_models(run)]
    return (
        f"Model {model}, judged by {markdown_cell(run.results['judge'])}.\n\n"
        + markdown_table(run.results)
        + _types_table(run)
        + _yes_no_table(run)
        + "\n± is one standard error and the interval covers 95 %, both by video. A question"
        " without an answer counts as wrong. Bounds: every unscored answer wrong, every one"
        " right. The paper's counting (accuracy / score, failed answers left out, replies read as"
        " its authors do) is for comparison with its table alone.\n\nJudged by:\n\n"
        + "\n".join(lines)
        + "\n"
    )


def _types_table(run: Run) -> str:
    kinds = [
        (task, kind, one, headline_of_type(figures, one))
        for task, figures in run.results["tasks"].items()
        for kind, one in (figures.get("by_question_type") or {}).items()
    ]
    titles = headline_titles(main for *_, main in kinds)
    rows = [
        (markdown_cell(task), markdown_cell(kind), number(one["n"]), number(one["n_unscored"]),
         *headline_cells(main, titles))
        for task, kind, one, main in kinds
    ]  # fmt: skip
    if not rows:
        return ""
    heads = ("task", "question type", "questions", "unscored", *titles)
    lines = [heads, ("---", "---", *["---:"] * (len(heads) - 2)), *rows]
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


YES_NO = (
    "task", "says yes %", "right would be %", "accuracy %", "where yes is right %",
    "where no is right %",
)  # fmt: skip
"""What `yes_no_rows` has of each task of yes and no."""


def yes_no_rows(run: Run) -> list[tuple[str, ...]]:
    """Write how often a run says yes, and how well either answer is given, alone."""
    return [
        (
            task,
            format_estimate(figures["yes_rate"], share=True),
            points(figures["right_yes_rate"]),
            *(
                format_estimate(figures[name], share=True)
                for name in ("accuracy", "accuracy_yes", "accuracy_no")
            ),
        )
        for task, figures in run.results["tasks"].items()
        if figures.get("yes_rate")
    ]


def _yes_no_table(run: Run) -> str:
    rows = [(markdown_cell(task), *cells) for task, *cells in yes_no_rows(run)]
    if not rows:
        return ""
    lines = [YES_NO, ("---", *["---:"] * (len(YES_NO) - 1)), *rows]
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex_text(run: Run) -> str:
    """Write a `table` for a paper, in the style of booktabs, with who judged in its caption."""
    titles = headline_titles(map(headline, run.results["tasks"].values()))
    rows = [
        (
            tex_escape(task),
            number(figures["n"]),
            number(figures["clusters"]),
            points(figures["coverage"]),
            *tex_headline(headline(figures), titles),
            "--"
            if headline(figures).chance is not None
            else tex_estimate(figures["score"], share=False),
        )
        for task, figures in run.results["tasks"].items()
    ]
    judges = tasks_by_judge(run)
    judged_by = "; ".join(
        tex_escape(judge) + (f" ({tex_escape(', '.join(tasks))})" if len(judges) > 1 else "")
        for judge, tasks in judges.items()
    )
    by = f" by {tex_escape(run.authors)}" if run.authors else ""
    model = tex_link(run.model, run.link) + by
    names = {"accuracy %": r"Accuracy \%", "95 % interval": r"95\,\% interval"}
    heads = ("Task", "Questions", "Videos", r"Coverage \%",
             *(names.get(title, title.capitalize()) for title in titles), "Score")  # fmt: skip
    caption = (
        f"{model}. Judge: {judged_by}. $\\pm$ is one standard error, clustered by"
        " video,\nas is the interval; questions without an answer count as wrong."
    ) + "".join(f" {tex_escape(line)}." for line in parts_asked(run))
    packages = "{booktabs,hyperref}" if run.link else "{booktabs}"
    return f"% needs \\usepackage{packages}\n" + tex_table(heads, rows, caption)


def hub_results(run: Run, dataset_id: str) -> HubResults:
    """Make a run's entries for the benchmark `dataset_id`, whose `eval.yaml` names the tasks.

    `task_id` is the config's name, as `data publish` writes it. `value` is the accuracy in per
    cent; the notes say who judged, and how sure it is. Left out is what would not be comparable:
    a part of a task, coverage under 99 %, a task of the user's own.

    Raises:
        UserError: `dataset_id` is not of the form OWNER/NAME.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    parts = dataset_id.split("/")
    if len(parts) != 2 or not all(parts) or any(part.startswith(".") for part in parts):
        raise UserError(
            f"--dataset-id {dataset_id}: is not OWNER/NAME, as data sets of the Hub are named"
        )
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
                    notes=_hub_notes(run, task, figures),
                )
            )
    text = yaml.safe_dump(
        eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True, width=100
    )
    return HubResults(f".eval_results/{parts[1]}.yaml", text if entries else "", left_out)


def _unfit(run: Run, task: str, figures: dict[str, Any]) -> str:
    if run.about["model"].get("kind") == "recorded":
        return "its answers and verdicts are recorded, and were not made here"
    if unlike := run.part(task) or run.settings(task):
        return unlike
    if run.about["tasks"][task]["config"] is None:
        return "its questions are no set of this benchmark"
    config = run.about["tasks"][task]["config"]
    if config is None:
        return "its questions are in files of their own, not in the data set's eval.yaml"
    if config != task:
        return "a task of one's own has no place in the data set's eval.yaml"
    if figures["accuracy"]["value"] is None or figures["coverage"] < MIN_COVERAGE:
        return f"coverage {percent(figures['coverage'])}, under {percent(MIN_COVERAGE, 0)}"
    return ""


def _hub_notes(run: Run, task: str, figures: dict[str, Any]) -> str:
    ends = figures["accuracy"]["ci95"]
    parts = ["accuracy in %"]
    if ends:
        parts.append(f"95 % interval {interval(ends)} by video")
    parts += [
        f"{plural(figures['n'], 'question')} on {plural(figures['clusters'], 'video')}",
        f"coverage {percent(figures['coverage'])}",
        f"task version {run.about['tasks'][task]['version']}",
        f"judge {judge_text(run, task)}",
    ]
    version = run.about.get("packages", {}).get("sharegptvideo")
    return "; ".join([*parts, *([f"sharegptvideo {version}"] if version else [])])
