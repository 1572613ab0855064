"""`eval report`: a run folder as tables, as a page with every sample, and as the Hub takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from markupsafe import Markup

from sharegptvideo._concurrency import Progress
from sharegptvideo._io import making, os_errors, write_json, write_text
from sharegptvideo._staging import replacing_files
from sharegptvideo._text import byte_size, interval, plural, points
from sharegptvideo.errors import UserError
from sharegptvideo.eval.headline import headline, headline_of_type
from sharegptvideo.reports.clips import COPIED_BYTES, Sprite, Wanted, remove_others, write_sprites
from sharegptvideo.reports.estimates import headline_cells, headline_titles, score_cells
from sharegptvideo.reports.parts import (
    Cell,
    Details,
    Page,
    Part,
    Section,
    Table,
    Tag,
    Value,
    asset,
    link,
    pages_near,
)
from sharegptvideo.reports.run.charts import accuracy_charts, difference_charts
from sharegptvideo.reports.run.prompts import TaskPrompts
from sharegptvideo.reports.run.record import (
    WITHOUT_SAMPLES,
    Run,
    Sample,
    collect_samples,
    open_run,
    open_tasks,
    same_judge,
)
from sharegptvideo.reports.run.samples import PIECES, Against, write_samples
from sharegptvideo.reports.run.tables import (
    YES_NO,
    csv_text,
    hub_results,
    judge_text,
    latex_text,
    markdown_text,
    mixed_models,
    parts_asked,
    report_json,
    tasks_by_judge,
    yes_no_rows,
)

__all__ = ["write_report"]

PathLike = str | Path
_SCRIPT = "viewer.js"
_SHOWN = 20
_NOT_COPIED = (
    f"the clips take more than {byte_size(COPIED_BYTES)}: the page shows them from where they are,"
    " and their sampled frames where they are gone; --copy-clips takes them along"
)
_FRAMES = 8  # of a clip that are shown where a recorded run does not say how many were seen


def write_report(
    run: PathLike,
    out: PathLike,
    *,
    against: PathLike | None = None,
    data_dir: PathLike | None = None,
    media: PathLike | None = None,
    task_path: PathLike | None = None,
    dataset_id: str | None = None,
    samples: bool = True,
    copy_clips: bool | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a finished run's figures and samples to the folder `out`: all files, or none.

    Files: `report.json`, `report.csv`, `report.md`, `report.tex`; with `samples` the page
    `index.html`, which opens without a server, with what it loads in `samples/`, `frames/` and
    `media/`;
    with `dataset_id` a file in `.eval_results/`, to be uploaded to the model's repository.

    Args:
        run: a run folder.
        out: a folder, made if it is not there; files of an earlier report are replaced.
        against: a second run folder, whose verdicts are shown beside the first's.
        data_dir, media, task_path: where questions, clips and tasks of one's own are; default:
            where the run had them.
        dataset_id: repository of the benchmark (its `eval.yaml`) on the Hub.
        samples: whether to write the page, which needs the data.
        copy_clips: whether clips that browsers play are copied beside the page; else it shows them
            from where they are, and their sampled frames where they are gone. None: copied where
            all of them take no more than `clips.COPIED_BYTES`.
        progress: called as `progress(done, total, what)`.

    Returns:
        The contents of report.json: the figures, with judge and protocol of each task; under
        `files` what was written; `notes`, what a reader has to know; with `against`, by task, how
        many answers are right in both.

    Raises:
        UserError: no finished run, data that are not there, no task in common with `against`.
    """
    first, folder = open_run(Path(run)), Path(out)
    second = _against(first, Path(against)) if against is not None else None
    hub = hub_results(first, dataset_id) if dataset_id is not None else None
    if folder.resolve() == first.path.resolve():
        raise UserError(f"{folder}: is the run's own folder; take another --out")
    shown: dict[str, list[Sample]] = {}
    prompts: dict[str, TaskPrompts] = {}
    if samples:
        tasks = open_tasks(first, _path(task_path), WITHOUT_SAMPLES)
        prompts = {name: TaskPrompts.of_run(first, task) for name, task in tasks.items()}
        shown = collect_samples(
            first,
            data_dir=_path(data_dir),
            media=_path(media),
            task_path=_path(task_path),
            progress=progress,
        )
    report = report_json(first) | {"notes": _remarks(first, shown)}
    files = ["report.json", "report.csv", "report.md", "report.tex"]
    with os_errors(folder, "free some space or give another --out"), making(folder):
        sprites: dict[tuple[str, str], Sprite] = {}
        if samples:  # not with the rest: pictures have names of their own, and take long
            wanted = _wanted(first, shown)
            sprites = write_sprites(wanted, folder, copy_clips=copy_clips, progress=progress)
            report["notes"] += _clip_notes(sprites, shown)
            if copy_clips is None and any(one.video.startswith("..") for one in sprites.values()):
                report["notes"].append(_NOT_COPIED)
        with replacing_files(folder, obsolete=[PIECES] if samples else []) as new:
            if samples:
                write_samples(
                    shown, sprites, new, prompts=prompts, against=second, progress=progress
                )
                _page(first, shown, second, pages_near(folder)).write(new / "index.html")
                write_text(new / _SCRIPT, _file(_SCRIPT))
                files.append("index.html")
            if second is not None:
                report["against"] = _agreement(first, second)
            if hub is not None:
                left = hub.left_out.items()
                report["notes"] += [f"{task}: not in {hub.file}: {why}" for task, why in left]
                if hub.text:
                    write_text(new / hub.file, hub.text)
                    files.append(hub.file)
            report["files"] = files
            write_text(new / "report.csv", csv_text([first]))
            write_text(new / "report.md", markdown_text(first))
            write_text(new / "report.tex", latex_text(first))
            write_json(new / "report.json", report)
        if samples:
            remove_others(folder, sprites.values())
    return report


def _path(path: PathLike | None) -> Path | None:
    return None if path is None else Path(path)


def _against(first: Run, path: Path) -> Against:
    second = open_run(path)
    common = first.results["tasks"].keys() & second.results["tasks"].keys()
    if not common:
        raise UserError(f"{first.path} and {path} have no task in common; give another --against")
    others = frozenset(task for task in common if not same_judge(first, second, task))
    return Against(second, others)


def _agreement(first: Run, against: Against) -> dict[str, Any]:
    by_task: dict[str, list[Sample]] = {task: [] for task in first.results["tasks"]}
    for key, row in first.predictions.items():
        if key[0] in by_task:
            by_task[key[0]].append(Sample(key, None, row, first.judgements.get(key)))
    tasks = {
        task: {**against.counts(group), "other_judge": task in against.other_judge}
        for task, group in by_task.items()
    }
    return {"run": against.run.name, "model": against.run.model, "tasks": tasks}


def _remarks(run: Run, samples: Mapping[str, Sequence[Sample]]) -> list[str]:
    notes = []
    for task, group in samples.items():
        asked = run.results["tasks"][task]["n"]
        gone = sum(sample.question is None for sample in group)
        stale = sum(sample.is_of_other_texts for sample in group)
        if len(group) != asked:
            notes.append(f"{task}: answers in the folder: {len(group)}; in results.json: {asked}")
        if gone:
            notes.append(f"{task}: questions that are not in the data any more: {gone}")
        if stale:
            notes.append(
                f"{task}: verdicts given on other texts than the data now has: {stale}; is this the"
                " run's --data-dir?"
            )
    return notes + parts_asked(run) + mixed_models(run)


def _wanted(run: Run, samples: Mapping[str, Sequence[Sample]]) -> dict[tuple[str, str], Wanted]:
    """List the frames that the model saw of each clip; unseen, as many as its task has."""
    wanted: dict[tuple[str, str], Wanted] = {}
    for task, group in samples.items():
        for sample in group:
            name = task, sample.prediction["video"]
            clip = sample.question.video_path if sample.question else None
            known = wanted.get(name)
            if clip is None or (known is not None and known.indices is not None):
                continue
            seen = sample.prediction.get("frame_indices")
            indices = tuple(seen) if seen else None
            n = len(indices) if indices else run.about["tasks"][task]["frames"] or _FRAMES
            if known is None or indices:
                wanted[name] = Wanted(clip, n, indices)
    return wanted


def _clip_notes(
    sprites: Mapping[tuple[str, str], Sprite], samples: Mapping[str, Sequence[Sample]]
) -> list[str]:
    every = {(task, s.prediction["video"]) for task, group in samples.items() for s in group}
    counted = (
        (len(every - sprites.keys()), "without frames: no such clip; see --media"),
        (sum(bool(sprite.error) for sprite in sprites.values()), "without frames: cannot be read"),
        (sum(sprite.moved for sprite in sprites.values()),
         "now give other frames than the model saw: another file, or another decoder"),
    )  # fmt: skip
    return [f"{n} of {len(every)} clips {what}" for n, what in counted if n]


def _page(
    run: Run,
    samples: Mapping[str, Sequence[Sample]],
    against: Against | None,
    links: Sequence[tuple[str, str]],
) -> Page:
    """Return the page; `write_samples` writes what it shows."""
    n = sum(map(len, samples.values()))
    return Page(
        title=f"{run.model}: every answer and its verdict",
        lead=f"{plural(len(samples), 'task')}, {plural(n, 'sample')}, judged by {_judges(run)}.",
        sections=[
            Section("Figures", [*accuracy_charts(run), *_figures(run)]),
            *([Section("Against a second run", _second(run, samples, against))] if against else []),
            Section("Samples", Markup(_file("viewer.html"))),
        ],
        kicker=f"sharegptvideo eval report · run {run.name}",
        footer=_footer(run),
        wide=True,
        script=asset("clips.js"),
        scripts=[_SCRIPT, "samples/index.js"],
        clips=True,
        contents=True,
        links=links,
        kind=f"Report of {run.name}",
    )


def _file(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def _judges(run: Run) -> str:
    return " and ".join(
        dict.fromkeys(str(run.judge(task)["name"]) for task in run.results["tasks"])
    )


def _figures(run: Run) -> list[Part]:
    rows: list[list[Cell]] = []
    mains = {task: headline(figures) for task, figures in run.results["tasks"].items()}
    titles = headline_titles(mains.values())
    for task, figures in run.results["tasks"].items():
        rows.append(
            [task, figures["n"], figures["clusters"], figures["n_failed"], figures["n_unscored"],
             _number(points(figures["coverage"])),
             *map(_number, headline_cells(mains[task], titles)),
             _number(interval(mains[task].bounds)),
             *map(_number, score_cells(figures))]
        )  # fmt: skip
    columns = (
        "task", "questions", "videos", "failed", "unscored", "coverage %", *titles, "bounds %",
        "score", "paper's counting",
    )  # fmt: skip
    judges = tasks_by_judge(run)
    parts: list[Part] = [Table(columns, rows, stacked=True), *_by_type(run)]
    if said := yes_no_rows(run):
        cells: list[list[Cell]] = [[task, *map(_number, rest)] for task, *rest in said]
        parts.append(Table(YES_NO, cells, stacked=True))
    if run.authors or run.link:
        by = f" by {run.authors}" if run.authors else ""
        parts.append(Markup("<p>Model: {}{}</p>").format(link(run.model, run.link), by))
    for judge, tasks in judges.items():
        of = f" of {', '.join(tasks)}" if len(judges) > 1 else ""
        parts.append(f"Judge{of}: {judge}.")
    parts += [_warning(f"{line}.") for line in parts_asked(run)]
    parts += [_warning(f"{line}. The figures mix their verdicts.") for line in mixed_models(run)]
    parts.append(
        "± is one standard error and the interval covers 95 %, both by video; where all videos came"
        " out alike, as with none right, the error is unknown and left out. Coverage is the share"
        " of questions whose outcome is known; a question that was not answered counts as wrong,"
        " one whose answer has no readable verdict counts in coverage alone, and in the bounds: all"
        " such answers wrong, all right. Figures compare within one judge only. The paper's"
        " counting (accuracy in per cent / score) leaves failed answers out and divides by the"
        " replies that its authors' programs read; it is for comparison with their table alone."
    )
    causes = [
        (task, kind, cause, count)
        for task, figures in run.results["tasks"].items()
        for kind, key in (("failed", "failures"), ("unscored", "unscored"))
        for cause, count in list(figures.get(key, {}).items())[:_SHOWN]
    ]
    if causes:
        table = Table(("task", "what", "cause", "answers"), causes)
        parts.append(Details("Why answers failed or have no verdict", table))
    return parts


def _by_type(run: Run) -> list[Part]:
    kinds = [
        (task, kind, one, headline_of_type(of_task, one))
        for task, of_task in run.results["tasks"].items()
        for kind, one in (of_task.get("by_question_type") or {}).items()
    ]
    titles = headline_titles(main for *_, main in kinds)
    rows: list[list[Cell]] = [
        [task, kind, one["n"], one["clusters"], one["n_unscored"],
         *map(_number, headline_cells(main, titles))]
        for task, kind, one, main in kinds
    ]  # fmt: skip
    columns = ("task", "question type", "questions", "videos", "unscored", *titles)
    what = "Main figures" if "main figure" in titles else "Accuracy"
    return [Details(f"{what} by question type", Table(columns, rows))] if rows else []


def _number(text: str) -> Value:
    return Value(None, text)


def _warning(text: str) -> Markup:
    return Markup("<p>{} {}</p>").format(Tag("warn", "note"), text)


def _second(run: Run, samples: Mapping[str, Sequence[Sample]], against: Against) -> list[Part]:
    rows: list[list[Cell]] = [
        [task, *against.counts(group).values()] for task, group in samples.items()
    ]
    columns = (
        "task", "right in both", "in this run only", "in the second only", "wrong in both",
        "no verdict in one", "not in the second", "descriptions",
    )  # fmt: skip
    parts: list[Part] = [
        f"The second run is {against.run.name}, model {against.run.model}.",
        *difference_charts(run, against),
        Table(columns, rows, stacked=True),
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
    for task in run.results["tasks"]:
        if task not in against.run.about["tasks"]:
            continue
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
    frames = sorted({about["frames"] for about in run.about["tasks"].values()} - {None})
    weights = run.about["model"].get("weights_hash")
    parts = [f"Begun {run.about['started']}"] if run.about.get("started") else []
    parts += [f"weights {weights[:16]}"] if weights else []
    parts += [f"{' and '.join(map(str, frames))} frames a clip"] if frames else []
    if dtype := run.about["model"].get("dtype"):
        parts.append(f"computed in {dtype}")
    return "; ".join([*parts, *([versions] if versions else [])]) + "."
