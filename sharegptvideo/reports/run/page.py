"""The page of one run: its figures, and every sample to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from markupsafe import Markup

from sharegptvideo._io import write_text
from sharegptvideo._text import plural, points
from sharegptvideo.reports import Details, Section, Table, write_page
from sharegptvideo.reports.parts import Cell, Part
from sharegptvideo.reports.run.collecting import Run, Sample
from sharegptvideo.reports.run.samples import Against
from sharegptvideo.reports.run.tables import judge_text, mixed_models, tasks_by_judge
from sharegptvideo.reports.run.text import format_estimate, format_interval

__all__ = ["write_run_page"]

_SCRIPT = "viewer.js"
_SHOWN = 20


def write_run_page(
    run: Run,
    samples: Mapping[str, Sequence[Sample]],
    out: Path,
    *,
    against: Against | None = None,
) -> Path:
    """Write OUT/index.html and the script it loads; `write_samples` writes what it shows."""
    n = sum(map(len, samples.values()))
    sections = [
        Section("Figures", _figures(run)),
        *([Section("Against a second run", _second(run, samples, against))] if against else []),
        Section("Samples", [Markup(_asset("viewer.html"))]),
    ]
    write_text(out / _SCRIPT, _asset(_SCRIPT))
    lead = f"{plural(len(samples), 'task')}, {plural(n, 'sample')}, judged by {_judges(run)}."
    return write_page(
        out / "index.html",
        title=f"{run.model}: every answer and its verdict",
        lead=lead,
        sections=sections,
        kicker=f"sharegptvideo eval report · run {run.name}",
        footer=_footer(run),
        style=_asset("viewer.css"),
        scripts=[_SCRIPT, "samples/index.js"],
    )


def _asset(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def _judges(run: Run) -> str:
    return " and ".join(
        dict.fromkeys(str(run.judge(task)["name"]) for task in run.results["tasks"])
    )


def _figures(run: Run) -> list[Part]:
    rows = []
    for task, figures in run.results["tasks"].items():
        rows.append(
            (
                task,
                figures["n"],
                figures["clusters"],
                figures["n_failed"],
                figures["n_unscored"],
                points(figures["coverage"]),
                _unbroken(format_estimate(figures["accuracy"], share=True)),
                _unbroken(format_interval(figures["accuracy"]["ci95"])),
                _unbroken(format_interval(figures["accuracy_bounds"])),
                _unbroken(format_estimate(figures["score"], share=False)),
            )
        )
    columns = (
        "task",
        "questions",
        "videos",
        "failed",
        "unscored",
        "coverage %",
        "accuracy %",
        "95 % interval",
        "bounds %",
        "score",
    )
    judges = tasks_by_judge(run)
    parts: list[Part] = [Table(columns, rows)]
    for judge, tasks in judges.items():
        of = f" of {', '.join(tasks)}" if len(judges) > 1 else ""
        parts.append(f"Judge{of}: {judge}.")
    parts += [_warning(f"{line}. The figures mix their verdicts.") for line in mixed_models(run)]
    parts.append(
        "± is one standard error and the interval covers 95 %, both by video; where all videos came"
        " out alike, as with none right, the error is unknown and left out. Coverage is the share"
        " of questions whose outcome is known; a question that was not answered counts as wrong,"
        " one whose answer has no readable verdict counts in coverage alone, and in the bounds: all"
        " such answers wrong, all right. Figures compare within one judge only."
    )
    causes = [
        (task, kind, cause, count)
        for task, figures in run.results["tasks"].items()
        for kind, key in (("failed", "failures"), ("unscored", "unscored"))
        for cause, count in list(figures.get(key, {}).items())[:_SHOWN]
    ]
    if causes:
        table = Table(("task", "what", "cause", "answers"), causes)
        parts.append(Details("Why answers failed or have no verdict", [table]))
    return parts


def _unbroken(text: str) -> str:
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _warning(text: str) -> Markup:
    return Markup('<p><span class="mark warn">note</span> {}</p>').format(text)


def _second(run: Run, samples: Mapping[str, Sequence[Sample]], against: Against) -> list[Part]:
    rows: list[list[Cell]] = [
        [task, *against.counts(group).values()] for task, group in samples.items()
    ]
    parts: list[Part] = [
        f"The second run is {against.run.name}, model {against.run.model}.",
        Table(
            (
                "task",
                "right in both",
                "in this run only",
                "in the second only",
                "wrong in both",
                "no verdict in one",
                "not in the second",
            ),
            rows,
        ),
    ]
    judges: dict[tuple[str, str], list[str]] = {}
    for task in sorted(against.other_judge):
        both = judge_text(run, task), judge_text(against.run, task)
        judges.setdefault(both, []).append(task)
    for (here, there), names in judges.items():
        parts.append(
            _warning(
                f"{', '.join(names)}: two judges. Here {here}; there {there}. Differences are"
                " partly the judges'."
            )
        )
    tasks = run.results["tasks"]
    told = [task for task in tasks if task in against.run.about["tasks"]]
    for task in told:
        here, there = (each.about["tasks"][task] for each in (run, against.run))
        if here["version"] != there["version"]:
            text = f"{task} is version {here['version']} here and {there['version']} there."
            parts.append(_warning(text))
        elif here.get("task_hash") != there.get("task_hash"):
            parts.append(_warning(f"{task} is of another task file in the second run."))
    return parts


def _footer(run: Run) -> str:
    packages = run.about.get("packages", {})
    versions = ", ".join(f"{name} {version}" for name, version in packages.items())
    frames = sorted({about["frames"] for about in run.about["tasks"].values()})
    weights = run.about["model"].get("weights_hash")
    parts = [f"Begun {run.about['started']}"] if run.about.get("started") else []
    parts += [f"weights {weights[:16]}"] if weights else []
    parts.append(f"{' and '.join(map(str, frames))} frames a clip")
    return "; ".join([*parts, *([versions] if versions else [])]) + "."
