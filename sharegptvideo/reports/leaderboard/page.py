"""The leaderboard as one HTML file that loads nothing: style, script and figures are in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from sharegptvideo._io import write_json, write_text
from sharegptvideo._text import percent, plural, points
from sharegptvideo.reports.leaderboard.board import Board, collect_runs
from sharegptvideo.reports.leaderboard.tables import (
    board_csv,
    board_latex,
    board_markdown,
    judge_about,
)

__all__ = ["render_page", "write_leaderboard"]

_TITLE = "Video question answering: leaderboard"


def write_leaderboard(runs: Sequence[Path], out: Path) -> Board:
    """Write `out/index.html` and leaderboard.{json,csv,md,tex}; returns what is in the JSON.

    Raises:
        UserError: see `collect_runs`; nothing is written then.
    """
    board = collect_runs(runs)
    page = render_page(board)
    write_json(out / "leaderboard.json", board)
    write_text(out / "leaderboard.csv", board_csv(board))
    write_text(out / "leaderboard.md", board_markdown(board))
    write_text(out / "leaderboard.tex", board_latex(board))
    write_text(out / "index.html", page)
    return board


def render_page(board: Mapping[str, Any], *, title: str = _TITLE) -> str:
    """The page for what `collect_runs` returns. Works without its script, which only sorts."""
    groups = board["groups"]
    runs = sum(len(group["rows"]) for group in groups)
    lead = f"{plural(runs, 'row')} under {plural(len(groups), 'judge')}."
    if len(groups) > 1:
        lead += " Figures of different judges are in tables of their own: do not compare across."
    parts = {
        "title": escape(title),
        "lead": escape(lead),
        "groups": "\n".join(_group(group) for group in groups),
        "style": _asset("page.css"),
        "script": _asset("page.js"),
    }
    page = _asset("page.html")
    pieces = page.split("{{")
    filled = [pieces[0]]
    for piece in pieces[1:]:
        # One pass, so that no name in the figures can stand for a part of the page.
        name, _, rest = piece.partition("}}")
        filled += [parts[name], rest]
    return "".join(filled)


def _asset(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8").strip("\n") + "\n"


def _group(group: Mapping[str, Any]) -> str:
    columns, judge = group["columns"], group["judge"]
    with_mean = len(columns) > 1
    best = _best(group)
    heads = ['<th scope="col" data-kind="text"><button type="button">Model</button></th>']
    if with_mean:
        sub = f'<span class="sub">of {len(columns)} tasks</span>'
        heads.append(f'<th scope="col"><button type="button">Mean</button>{sub}</th>')
    for column in columns:
        sub = f"{column['n']:,} questions · {column['protocol']} · v{column['version']}"
        heads.append(
            f'<th scope="col"><button type="button">{escape(column["id"])}</button>'
            f'<span class="sub">{escape(sub)}</span></th>'
        )
    rows = "\n".join(_row(row, columns, best, with_mean=with_mean) for row in group["rows"])
    return (
        f"<section>\n<h2>Judge: {escape(str(judge['name']))}</h2>\n"
        f'<p class="judge">{escape(judge_about(judge))}</p>\n<div class="frame">\n<table>\n'
        f"<thead><tr>{''.join(heads)}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n"
        "</table>\n</div>\n</section>"
    )


def _best(group: Mapping[str, Any]) -> dict[str, float]:
    """By column (and "mean"), the highest accuracy among figures that may be ranked together."""
    found: dict[str, list[float]] = {}
    for row in group["rows"]:
        if row["mean"] is not None:
            found.setdefault("mean", []).append(row["mean"]["value"])
        for name, cell in row["cells"].items():
            if cell["ranked"]:
                found.setdefault(name, []).append(cell["accuracy"]["value"])
    return {name: max(values) for name, values in found.items() if len(values) > 1}


def _row(
    row: Mapping[str, Any],
    columns: Sequence[Mapping[str, Any]],
    best: Mapping[str, float],
    *,
    with_mean: bool,
) -> str:
    weights = row["weights_hash"]
    about = [f"run {row['run']}", *([f"weights {weights[:10]}"] if weights else [])]
    model = escape(str(row["model"]))
    cells = [
        f'<th scope="row" data-value="{model}">{model}<div class="sub">'
        f"{escape(' · '.join(about))}</div></th>"
    ]
    if with_mean:
        mean = row["mean"]
        if mean is None:
            cells.append('<td><span class="none">not all tasks</span></td>')
        else:
            top = mean["value"] == best.get("mean")
            cells.append(f"<td {_value(mean)}>{_figure(mean, best=top)}</td>")
    for column in columns:
        cell = row["cells"].get(column["id"])
        if cell is None:
            cells.append('<td><span class="none">not run</span></td>')
            continue
        top = cell["ranked"] and cell["accuracy"]["value"] == best.get(column["id"])
        cells.append(f"<td {_value(cell['accuracy'])}>{_cell(cell, column, best=top)}</td>")
    return f"<tr>{''.join(cells)}</tr>"


def _value(estimate: Mapping[str, Any]) -> str:
    value = estimate["value"]
    return "" if value is None else f'data-value="{value:.6f}"'


def _figure(estimate: Mapping[str, Any], *, best: bool) -> str:
    if estimate["value"] is None:
        return '<span class="none">no verdict</span>'
    se = estimate["se"]
    error = "" if se is None else f' <span class="se">± {points(se)}</span>'
    kind = "figure best" if best else "figure"
    return f'<div class="{kind}"><b>{points(estimate["value"])}</b>{error}</div>'


def _cell(cell: Mapping[str, Any], column: Mapping[str, Any], *, best: bool) -> str:
    parts = [_figure(cell["accuracy"], best=best), _scale(cell["accuracy"])]
    ci95, score = cell["accuracy"]["ci95"], cell["score"]["value"]
    told = [f"{points(ci95[0])} to {points(ci95[1])}"] if ci95 else []
    told += [f"score {score:.2f}"] if score is not None else []
    if told:
        parts.append(f'<div class="sub">{" · ".join(told)}</div>')
    if cell["n_failed"]:
        parts.append(f'<div class="sub">{cell["n_failed"]:,} failed, counted as wrong</div>')
    if cell["partial"]:
        text = f"fewer questions: {cell['n']:,} of {column['n']:,}"
        parts.append(f'<div><span class="flag">{text}</span></div>')
    if cell["n_unscored"]:
        low, high = cell["accuracy_bounds"]
        text = (
            f"{cell['n_unscored']:,} unscored: {points(low)} to {points(high)},"
            f" coverage {percent(cell['coverage'])}"
        )
        parts.append(f'<div><span class="flag">{text}</span></div>')
    return "".join(parts)


def _scale(accuracy: Mapping[str, Any]) -> str:
    """The interval as a bar on a scale from 0 to 100."""
    if accuracy["ci95"] is None:
        return ""
    low, high = (100 * bound for bound in accuracy["ci95"])
    value = 100 * accuracy["value"]
    text = f"95 % interval {low:.1f} to {high:.1f}"
    return (
        f'<div class="scale" role="img" aria-label="{text}" title="{text}">'
        f'<i style="left:{low:.2f}%;width:{high - low:.2f}%"></i>'
        f'<u style="left:{value:.2f}%"></u></div>'
    )
