"""A study as one page, the same as Markdown with drawings, and its tables and figures as files."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from sharegptvideo._io import dumps, os_errors, write_json, write_text
from sharegptvideo._staging import replacing_files
from sharegptvideo._text import (
    interval,
    number,
    p_value,
    plural,
    points,
    rounded,
)
from sharegptvideo.data.load import read_rows
from sharegptvideo.media import MediaFolder
from sharegptvideo.reports.clips import clip_part
from sharegptvideo.reports.estimates import csv_table
from sharegptvideo.reports.markdown import figures_of, page_markdown, svg_file
from sharegptvideo.reports.parts import (
    Card,
    Cell,
    Details,
    Figure,
    Grid,
    Page,
    Part,
    Section,
    Table,
    Tag,
    Value,
    asset,
    pages_near,
)
from sharegptvideo.reports.study.charts import break_figure, level_figure
from sharegptvideo.reports.study.results import Chart, Entry, Experiment, Work, read_study

__all__ = ["write_study"]

_TITLE = "What makes preferences from captions work, and what breaks them"
_LEAD = (
    "These experiments are about the mechanism, in a rendered world whose truth is known, with a"
    " model of a million parameters trained from nothing. They never are about models of 7B"
    " parameters or about real video: there, what is said here is a question to ask, not an answer."
)
_EXPECTED = {
    "less": "“{}” comes out below {}",
    "more": "“{}” comes out above {}",
    "no_effect": "“{}” differs by less than 3 points from {}",
}
_COMMAND = "<code>sharegptvideo study report --out STUDY --to REPORT</code>"
_CHANGED = (
    "The experiment's file has come to declare another comparison since this was run; the one above"
    " is that of the run."
)
_TAGS = {"supported": "good", "refuted": "bad", "open": "warn"}
_SIGNS = {"supported": "✓", "refuted": "✗", "open": "?"}

Row = dict[str, Any]


def write_study(
    study: Path, to: Path, declared: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Write the report of a study's folder to `to`, all of it or nothing.

    That is index.html, which loads nothing but the clips in `media/`; README.md, the same with
    drawings in `figures/`; study.json, all figures; contrasts.csv, breaks.csv, and for each
    experiment NAME.csv and NAME.TABLE.csv. The same results give the same bytes.

    Args:
        study: the folder of `study run`.
        to: made where it is missing; what else it holds stays.
        declared: the contents of all experiments' files: those without results are listed as
            not run.

    Returns:
        What study.json holds: `experiments`, `contrasts`, `breaks`, `work`.

    Raises:
        UserError: see `read_study`; `to` cannot be written.
    """
    entries, work = read_study(study, declared)
    contrasts, breaks = _contrasts(entries), _breaks(entries)
    whole = {
        "experiments": [
            {"name": each.experiment.name, "state": each.state}
            | (each.results.model_dump(mode="json") if each.results else {})
            for each in entries
        ],
        "contrasts": contrasts,
        "breaks": breaks,
        "work": asdict(work) if work else None,
    }
    clips = _clips(study)
    page = _page(entries, breaks, work, _world(clips), pages_near(to))
    drawings = figures_of(page)
    with os_errors(to, "free some space or give another --to"), replacing_files(to) as new:
        for name, rows in _csv_files(entries, contrasts, breaks).items():
            write_text(new / name, csv_table(rows))
        for figure in drawings:
            write_text(new / "figures" / f"{figure.file}.svg", svg_file(figure))
        write_json(new / "study.json", whole)
        for clip in clips:
            copy = new / _address(clip)
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(clip.file, copy)
        write_text(new / "README.md", page_markdown(page))
        page.write(new / "index.html")
    return whole


def _contrasts(entries: Sequence[Entry]) -> list[Row]:
    """Return a row for each declared contrast, with its p-values before and after Holm."""
    rows = []
    for entry in entries:
        declared, verdict = entry.experiment.contrast, entry.verdict
        measured = entry.results.contrast if entry.results else None
        low, high = (measured.ci95 if measured else None) or (None, None)
        rows.append(
            {
                "experiment": entry.experiment.name,
                "of": declared.of,
                "against": declared.against,
                "expect": declared.expect,
                "state": entry.state,
                "value": measured.value if measured else None,
                "low": low,
                "high": high,
                "p_value": measured.p_value if measured else None,
                "p_holm": verdict.p_value if verdict else None,
                "p_equivalence": measured.p_equivalence if measured else None,
                "p_equivalence_holm": verdict.p_equivalence if verdict else None,
                "n_seeds": measured.n_seeds if measured else None,
                "seeds_for_3_points": measured.seeds_needed if measured else None,
                "verdict": verdict.outcome if verdict else None,
                "refuted_by": declared.refuted_by,
            }
        )
    return rows


def _breaks(entries: Sequence[Entry]) -> list[Row]:
    rows = [
        {"experiment": entry.experiment.name, "title": entry.experiment.title}
        | {"level": row["level"]}
        | {name: row[name] for name in _FIGURES}
        for entry in entries
        if entry.results
        for row in entry.results.breaks
    ]
    # Experiments share trainings: one that two of them name is one point, the first one's.
    shared = {tuple(row[name] for name in _FIGURES): row for row in reversed(rows)}
    kept = [row for row in rows if shared[tuple(row[name] for name in _FIGURES)] is row]
    return [{"number": place, **row} for place, row in enumerate(kept, start=1)]


_FIGURES = ("kappa", "gain", "low", "high")


def _csv_files(
    entries: Sequence[Entry], contrasts: Sequence[Row], breaks: Sequence[Row]
) -> dict[str, Sequence[Row]]:
    files = {"contrasts.csv": contrasts, "breaks.csv": breaks}
    for entry in entries:
        if entry.results:
            name = entry.experiment.name
            files[f"{name}.csv"] = _plain(entry.results.table)
            for table, rows in entry.results.tables.items():
                files[f"{name}.{table}.csv"] = _plain(rows)
    return files


def _plain(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return rows of the same columns, lists and objects in them as JSON."""
    columns = _columns(rows)
    return [
        {
            name: dumps(value) if isinstance(value := row.get(name), list | dict) else value
            for name in columns
        }
        for row in rows
    ]


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


@dataclass(frozen=True, slots=True)
class _ShownClip:
    """A clip of the world that the experiments ask about, with its caption and questions."""

    title: str
    file: Path
    rows: Sequence[Mapping[str, Any]]


_FRAMES = 8  # of a clip that are shown, as many as the models are given
_KINDS = {"synthetic_qa": "A test clip", "synthetic_ood_qa": "A clip of another style"}


def _clips(study: Path) -> list[_ShownClip]:
    """Choose the first clip of each test set of the first world that the study kept; or none."""
    worlds = sorted(file.parent for file in (study / "stages").glob("world-*/world.json"))
    worlds = [world for world in worlds if (world / "videos").is_dir()]
    if not worlds:
        return []
    media, clips = MediaFolder(worlds[0]), []
    for config, title in _KINDS.items():
        rows = list(read_rows(config, data_dir=worlds[0], split="test"))
        first = [row for row in rows if row["video"] == rows[0]["video"]]
        file = media.resolve(first[0]["video"]) if first else None
        if file is not None:
            clips.append(_ShownClip(title, file, first))
    return clips


def _address(clip: _ShownClip) -> str:
    return f"media/{clip.file.name}"


def _world(clips: Sequence[_ShownClip]) -> list[Section]:
    cards = []
    for clip in clips:
        shown = clip_part(clip.file, _FRAMES, clip.file.parent, name=clip.file.stem)
        table = Table(
            ("question", "reference"), [[row["question"], row["answer"]] for row in clip.rows]
        )
        caption = _line("Caption", clip.rows[0]["caption"])
        cards.append(Card(clip.title, [replace(shown, file=_address(clip)), caption, table]))
    about = "What the experiments ask about: clips like these, with exact captions."
    return [Section("The rendered world", [about, *cards], "world")] if cards else []


def _page(
    entries: Sequence[Entry],
    breaks: Sequence[Row],
    work: Work | None,
    world: Sequence[Section],
    links: Sequence[tuple[str, str]],
) -> Page:
    run = [entry for entry in entries if entry.results]
    return Page(
        title=_TITLE,
        lead=_LEAD,
        sections=[
            _break_section(breaks),
            Section("The experiments", _contents(entries), "experiments"),
            *world,
            *(_experiment(entry) for entry in entries),
            Section("How it was run", _how(run, work), "how"),
        ],
        kicker="sharegptvideo study",
        script=asset("clips.js") if world else "",
        clips=bool(world),
        contents=True,
        links=links,
        kind="Study",
    )


def _break_section(breaks: Sequence[Row]) -> Section:
    title = "Where it breaks"
    figure = break_figure(breaks, "breaks")
    if figure is None:
        nothing = "No experiment that was run has conditions with a κ and a gain."
        return Section(title, nothing, "breaks")
    rows: list[list[Cell]] = [
        [
            f"{row['number']}. {row['level']}",
            row["title"],
            Value(row["kappa"], rounded(row["kappa"])),
            _difference(row["gain"], _ends(row)),
        ]
        for row in breaks
    ]
    table = Table(("condition", "experiment", "κ", "gain, points"), rows, stacked=True)
    about = (
        "Each condition spoils the judge, its captions or its reward in another way. To the right"
        " the judge is nearer to the truth; above 0 DPO gains over its SFT model, on questions"
        " about clips that neither has seen, by the clips' exact states."
    )
    body: list[Part] = [about, Grid([figure, [table, _file_link("breaks.csv")]])]
    return Section(title, body, "breaks")


def _contents(entries: Sequence[Entry]) -> list[Part]:
    rows: list[list[Cell]] = []
    for entry in entries:
        measured = entry.results.contrast if entry.results else None
        address = Markup('{}. <a href="#{}">{}</a>').format(
            entry.experiment.number, entry.experiment.name, entry.experiment.title
        )
        rows.append(
            [
                address,
                _tag(entry),
                _difference(measured.value, measured.ci95) if measured else None,
                p_value(entry.verdict.p_value) if entry.verdict else None,
                p_value(entry.verdict.p_equivalence) if entry.verdict else None,
                entry.state,
            ]
        )
    heads = (
        "experiment", "declared claim", "difference, points", "p after Holm",
        "p of equivalence after Holm", "run",
    )  # fmt: skip
    tested = sum(entry.verdict is not None for entry in entries)
    about = (
        "Each experiment declared one comparison before it was run. A difference counts below"
        f" p = 0.05 after Holm's correction over the {plural(tested, 'declared comparison')} that"
        " have figures; “no effect” is a true difference below 3 points either way, shown by an"
        " equivalence test that is corrected in the same way. Seeds are the units: each has a"
        " world, a model and trainings of its own."
    )
    return [about, Table(heads, rows, stacked=True), _file_link("contrasts.csv")]


def _tag(entry: Entry) -> Tag:
    if entry.results is None:
        return Tag("none", "not run")
    if entry.verdict is None:
        return Tag("none", "no test over seeds")
    outcome = entry.verdict.outcome
    return Tag(_TAGS[outcome], outcome, _SIGNS[outcome])


def _experiment(entry: Entry) -> Section:
    about, results = entry.experiment, entry.results
    body: list[Part] = [Markup('<p class="question">{}</p>').format(about.question), *_claim(about)]
    if results is None:
        body += [_line("State", "not run."), *_notes(about.notes)]
        return Section(f"{about.number}. {about.title}", body, about.name)
    figures = [
        figure
        for place, chart in enumerate(results.charts)
        if (figure := level_figure(chart, results.table, _file(about.name, place)))
    ]
    said: list[Part] = [" ".join(results.says), *_outcome(entry), *_run_line(entry)]
    said += _notes((*about.notes, *results.notes, *([_CHANGED] if entry.changed else [])))
    body.append(Grid([figures[0], said]) if figures else Grid([said]))
    body.append(
        _table(f"{about.name}.csv", "The table", results.table, results.charts, figures[1:])
    )
    for name, rows in results.tables.items():
        title = f"Table: {name.replace('_', ' ')}"
        body.append(_table(f"{about.name}.{name}.csv", title, rows, results.charts, []))
    return Section(f"{about.number}. {about.title}", body, about.name)


def _file(name: str, place: int) -> str:
    return name if place == 0 else f"{name}-{place + 1}"


def _claim(about: Experiment) -> list[Part]:
    """Say what was declared beforehand."""
    declared = about.contrast
    against = f"“{declared.against}”" if declared.against else "0"
    claim = _EXPECTED[declared.expect].format(declared.of, against)
    return [
        _line("Declared beforehand", f"{claim}."),
        _line("It would be refuted by", f"{declared.refuted_by}."),
        _line("Measured", f"{about.figure}."),
    ]


def _line(head: str, text: str) -> Markup:
    return Markup('<p class="about"><b>{}:</b> {}</p>').format(head, text)


def _outcome(entry: Entry) -> list[Part]:
    """Say what the declared contrast shows, and how many seeds that takes."""
    measured = entry.results.contrast if entry.results else None
    verdict = entry.verdict
    if measured is None or verdict is None:
        return [_line("Verdict", "no comparison over seeds; the sentences above are its outcome.")]
    words = f"{points(measured.value, sign=True)} points"
    if measured.ci95:
        words += f", 95 % interval {interval(measured.ci95, sign=True)} over seeds"
        if measured.ci95_bootstrap:
            ends = interval(measured.ci95_bootstrap, sign=True)
            words += f" ({ends} by bootstrap of seeds and clips)"
    tests = (
        f"p = {p_value(measured.p_value)}, after Holm {p_value(verdict.p_value)}; equivalence"
        f" within ± 3 points p = {p_value(measured.p_equivalence)}, after Holm"
        f" {p_value(verdict.p_equivalence)}"
    )
    if measured.p_value is None and measured.p_equivalence is None:
        tests = "no test: it takes two seeds"
    remarks = []
    if verdict.before:
        remarks.append(f"Without the correction it would be {verdict.before}.")
    if verdict.small:
        remarks.append("The difference is shown to be smaller than 3 points.")
    return [
        Markup('<p class="about"><b>Verdict:</b> {} {}; {}. {}</p>').format(
            _tag(entry), words, tests, " ".join(remarks)
        ),
        _line("Seeds", f"{plural(measured.n_seeds, 'seed')} compared; {_seeds_needed(entry)}"),
    ]


def _seeds_needed(entry: Entry) -> str:
    measured = entry.results.contrast if entry.results else None
    assert measured is not None
    if measured.seeds_needed is None:
        return "how many the claim needs is unknown, for no spread between seeds was seen."
    spread = (
        f"; the seeds' differences spread by {points(measured.seed_sd)} points"
        if measured.seed_sd
        else ""
    )
    return (
        f"to find a true difference of 3 points in 8 of 10 studies takes"
        f" {plural(measured.seeds_needed, 'seed')} (t test at 0.05{spread})."
    )


def _run_line(entry: Entry) -> list[Part]:
    assert entry.results is not None
    seconds = sum(entry.results.seconds.values())
    took = f"; {_hours(seconds)} of work" if seconds else ""
    return [_line("Run", f"{entry.state}{took}.")]


def _hours(seconds: float) -> str:
    return f"{rounded(seconds / 3600)} hours"


def _notes(notes: Sequence[str]) -> list[Part]:
    if not notes:
        return []
    items = Markup("").join(Markup("<li>{}</li>\n").format(note) for note in notes)
    return [Markup("<ul>\n{}</ul>").format(items)]


def _table(
    file: str,
    title: str,
    rows: Sequence[Mapping[str, Any]],
    charts: Sequence[Chart],
    figures: Sequence[Figure],
) -> Part:
    """Fold a table away, with its further charts; what charts draw in points is shown so."""
    in_points = {
        column
        for chart in charts
        if chart.unit == "points"
        for column in (chart.y, chart.low, chart.high)
    }
    columns = _columns(rows)
    shown: list[list[Cell]] = [
        [_cell(row.get(name), in_points=name in in_points) for name in columns] for row in rows
    ]
    heads = [f"{name}, points" if name in in_points else name for name in columns]
    heads = [head.replace("_", " ") for head in heads]
    table: Part = Table(heads, shown) if columns else "No rows."
    more = f", and {plural(len(figures), 'further figure')}" if figures else ""
    return Details(
        f"{title}: {plural(len(rows), 'row')}{more}",
        [*figures, table, _file_link(file, " (shares as fractions of 1)")],
    )


def _cell(value: Any, *, in_points: bool) -> Cell:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return Value(value, points(value)) if in_points else Value(value, number(value))
    if isinstance(value, list):
        return ", ".join(number(each) if isinstance(each, int | float) else str(each)
                         for each in value)  # fmt: skip
    return value if value is None or isinstance(value, str) else dumps(value)


def _file_link(file: str, note: str = "") -> Markup:
    return Markup('<p class="hint"><a href="{0}">{0}</a>{1}</p>').format(file, note)


def _ends(row: Row) -> tuple[float, float] | None:
    return None if None in (row["low"], row["high"]) else (row["low"], row["high"])


def _difference(value: float | None, ends: tuple[float, float] | None) -> Value:
    note = f"({interval(ends, sign=True)})" if ends else ""
    return Value(value, points(value, sign=True), note)


def _how(run: Sequence[Entry], work: Work | None) -> list[Part]:
    rows: list[list[Cell]] = []
    for entry in run:
        results = entry.results
        assert results is not None
        seconds = sum(results.seconds.values())
        rows.append(
            [
                entry.experiment.title,
                entry.state,
                results.scale,
                ", ".join(map(str, results.seeds)),
                sum(results.pieces.values()) or None,
                Value(seconds, rounded(seconds / 3600)) if seconds else None,
                results.version,
                *([results.commit] if any(_commit(each) for each in run) else []),
            ]
        )
    heads = ["experiment", "run", "scale", "seeds", "pieces of work", "hours",
             "sharegptvideo"]  # fmt: skip
    heads += ["commit"] if any(_commit(each) for each in run) else []
    shared = (
        "Experiments share worlds, models, candidates and rewards. The hours of an experiment are"
        " of all pieces that it uses, shared ones too; by the clock of one process each, so that"
        " what else the machine did is in them."
    )
    if work:
        shared += (
            f" The study's folder keeps {plural(work.pieces, 'piece')} of work; together, each"
            f" once, they took {_hours(work.seconds)}."
        )
    body: list[Part] = [Table(heads, rows, stacked=True), shared]
    for head, settings in (
        ("Machine", [_settings(entry.results.machine) for entry in run if entry.results]),
        ("Versions", [_settings(entry.results.versions) for entry in run if entry.results]),
    ):
        if any(settings):
            body.append(_line(head, f"{'; '.join(dict.fromkeys(filter(None, settings)))}."))
    body.append(
        Markup('<p class="about"><b>The commands:</b><br>{}</p>').format(
            Markup("<br>").join([*_commands(run), Markup(_COMMAND)])
        )
    )
    return body


def _commit(entry: Entry) -> str | None:
    return entry.results.commit if entry.results else None


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in values.items() if value is not None)


def _commands(run: Sequence[Entry]) -> list[Markup]:
    """Return the commands that run the same again: one for all of the same scale and seeds."""
    named: dict[str, list[str]] = {}
    for entry in run:
        assert entry.results is not None
        options = "" if entry.results.scale == "small" else f" --scale {entry.results.scale}"
        if len(entry.results.seeds) != entry.experiment.seeds:
            options += f" --seeds {len(entry.results.seeds)}"
        named.setdefault(options, []).append(entry.experiment.name)
    return [
        Markup("<code>sharegptvideo study run {} --out STUDY{}</code>").format(
            " ".join(names), options
        )
        for options, names in named.items()
    ]
