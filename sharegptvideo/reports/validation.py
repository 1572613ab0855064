"""The page of `data validate`, and the same report as JSON."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup, escape

from sharegptvideo._io import os_errors, write_json
from sharegptvideo._staging import replacing_files
from sharegptvideo._text import plural
from sharegptvideo.data.validate.report import CHECKS, LISTED, Finding, Report
from sharegptvideo.reports import Page, Section, Table
from sharegptvideo.reports.parts import Cell, Details, Part, Tag, pages_near

__all__ = ["write_report"]


def write_report(report: Report, out: Path) -> Path:
    """Write `report.json` and `index.html` to a folder, both or none; returns the page's path.

    Raises:
        UserError: the folder cannot be written, or the disk is full.
    """
    page = Page(
        title=_title(report),
        lead=_lead(report),
        sections=[_checks(report), *_findings(report), _rows(report), *_facts(report)],
        kicker=f"sharegptvideo data validate · {report.folder}",
        contents=True,
        links=pages_near(out),
        kind="Validation",
    )
    with os_errors(out), replacing_files(out) as new:
        write_json(new / "report.json", report.as_dict())
        page.write(new / "index.html")
    return out / "index.html"


def _title(report: Report) -> str:
    errors, warnings = report.errors(), report.warnings
    if not errors and not warnings:
        return "Nothing found amiss"
    return f"{plural(errors, 'error')}, {plural(warnings, 'warning')}"


def _lead(report: Report) -> str:
    rows = sum(sum(splits.values()) for splits in report.rows.values())
    configs = plural(len(report.rows), "dataset")
    left = len(report.skipped)
    ran = "all checks ran" if not left else f"{plural(left, 'check')} did not run"
    media = plural(report.videos, "video")
    if report.images:
        media += f" and {plural(report.images, 'image')}"
    return f"{plural(rows, 'good row')} of {configs} about {media}; {ran}."


def _tag(severity: str, text: str) -> Tag:
    return Tag({"error": "bad", "warning": "warn"}.get(severity, "good"), text)


def _checks(report: Report) -> Section:
    rows: list[list[Cell]] = []
    quiet: list[list[Cell]] = []
    for name, check in CHECKS.items():
        errors, warnings = report.count(name, "error"), report.count(name, "warning")
        if name in report.skipped:
            state: Cell = f"not run: {report.skipped[name]}"
        elif errors:
            state = _tag("error", plural(errors, "error"))
        elif warnings:
            state = _tag("warning", plural(warnings, "warning"))
        else:
            state = _tag("good", "none")
        if errors and warnings and name not in report.skipped:
            state = Markup("{} {}").format(state, _tag("warning", plural(warnings, "warning")))
        speaks = errors or warnings or name in report.skipped
        (rows if speaks else quiet).append([name, check.about, state])
    heads = ["Check", "Looks for", "Found"]
    parts: list[Part] = [Table(heads, rows, stacked=True)] if rows else []
    if quiet:
        table = Table(heads, quiet, stacked=True)
        parts.append(Details(f"{plural(len(quiet), 'check')} found nothing", table, open=not rows))
    return Section("Checks", parts)


def _findings(report: Report) -> list[Section]:
    sections = []
    findings = report.sorted_findings()
    for name in CHECKS:
        listed = [finding for finding in findings if finding.check == name]
        if not listed:
            continue
        count = report.count(name)
        caption = ""
        if count > len(listed):
            caption = (
                f"{plural(count, 'finding')}; up to {LISTED} are listed of each dataset and split"
            )
        table = Table(
            ["Where", "What", "Dataset", "Id", ""],
            [_row(one, report.folder.rstrip("/")) for one in listed],
            caption,
            stacked=True,
        )
        sections.append(
            Section(name, [f"{CHECKS[name].about[:1].upper()}{CHECKS[name].about[1:]}.", table])
        )
    return sections


def _row(finding: Finding, folder: str) -> list[Cell]:
    where = "/".join(part for part in (finding.config, finding.split) if part)
    # The folder is named above the title; here it would fill the columns.
    place = (finding.where or "").replace(f"{folder}/", "")
    return [
        Markup("<code>{}</code>").format(place) if place else None,
        finding.message.replace(f"{folder}/", ""),
        Markup('<span class="whole">{}</span>').format(where),
        finding.id or "",
        _tag(finding.severity, finding.severity),
    ]


def _rows(report: Report) -> Section:
    rows: list[list[Cell]] = [
        [config, split, count]
        for config, splits in report.rows.items()
        for split, count in splits.items()
    ]
    return Section("Rows that keep to the schema", Table(["Dataset", "Split", "Rows"], rows))


def _facts(report: Report) -> list[Section]:
    names = {"media": "Media", "sight": "Clips compared by their fingerprints"}
    return [
        Section(names[key], Markup("<p>{}</p>").format(Markup("<br>").join(_lines(figures))))
        for key, figures in report.facts.items()
    ]


def _lines(figures: dict[str, object]) -> list[Markup]:
    return [
        escape(
            f"{name.replace('_', ' ')}: {', '.join(value) if isinstance(value, list) else value}"
        )
        for name, value in figures.items()
    ]
