"""The page of `data stats`: what a set of captions is like, in tables and charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from sharegptvideo._io import os_errors, write_json
from sharegptvideo._staging import replacing_files
from sharegptvideo._text import and_more, number, percent, plural, rounded
from sharegptvideo.data.stats.lexicon import built_in
from sharegptvideo.reports import Bar, Cell, Details, Figure, Page, Part, Section, Table
from sharegptvideo.reports.charts import (
    SERIES,
    Axis,
    Group,
    Line,
    Mark,
    Segment,
    line_chart,
    row_chart,
    stack_chart,
)

__all__ = ["write_report"]

WHOLE = "all"

# So many sources stay distinct by colour; the tables hold all of them.
_DRAWN = 4
_SHARES = Axis(
    "% of the captions", (0.0, 0.25, 0.5, 0.75, 1.0), lambda value: rounded(100 * value, 0)
)
_SUPPORT = (
    ("green", "full", "supported"),
    ("orange", "part", "in part"),
    ("purple", "none", "not at all"),
)


def write_report(figures: Mapping[str, Any], out: Path) -> None:
    """Write `out/stats.json` and `out/index.html`, both or none.

    Raises:
        UserError: a file cannot be written; older ones stay as they are.
    """
    with (
        os_errors(out, "nothing half-written was left; free some space or give another --out"),
        replacing_files(out) as new,
    ):
        write_json(new / "stats.json", figures)
        page = Page(
            title="Caption study",
            lead=_lead(figures),
            sections=_sections(figures),
            kicker=f"sharegptvideo data stats · {figures['config']}",
            footer=_footer(figures),
            contents=True,
            kind="Caption study",
        )
        page.write(new / "index.html")


def _lead(figures: Mapping[str, Any]) -> str:
    whole = figures["whole"]
    twins = whole["near_duplicates"]["share"]
    sources = len(figures["by_source"])
    return (
        f"{plural(whole['captions'], 'caption')} of {plural(whole['videos'], figures['medium'])} "
        f"from {plural(sources, 'source')}: "
        f"{rounded(whole['length']['mean'], 0)} words on average, "
        f"{number(whole['vocabulary']['types'])} different words, "
        f"{percent(twins)} of the captions with a near-duplicate."
    )


def _parts(figures: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """List all captions and each source; one source is not listed twice."""
    sources = list(figures["by_source"].items())
    return [(WHOLE, figures["whole"]), *(sources if len(sources) > 1 else [])]


def _sections(figures: Mapping[str, Any]) -> list[Section]:
    sections = [
        Section("Length", _length(figures)),
        Section("Words", _words(figures)),
        Section("What captions speak of", _aspects(figures)),
        Section("Repetition", _repetition(figures)),
        Section("Near-duplicates", _twins(figures)),
    ]
    if figures["support"]:
        sections.append(Section("What a caption supports of an answer", _support(figures)))
    return sections


def _length(figures: Mapping[str, Any]) -> list[Part]:
    rows: list[list[Cell]] = []
    for name, part in _parts(figures):
        size = part["length"]
        rows.append(
            [name, part["captions"], part["videos"], _one(size["mean"]), _one(size["sd"]),
             size["min"], _one(size["p5"]), _one(size["p50"]), _one(size["p95"]), size["max"],
             _one(part["sentences"])]
        )  # fmt: skip
    columns = (
        "captions from", "captions", f"{figures['medium']}s", "mean words", "sd", "least", "5 %",
        "median", "95 %", "most", "sentences",
    )  # fmt: skip
    return [
        _figure(figures, _lengths_chart(figures), "Words in a caption"),
        Table(columns, rows, "A word: letters and digits, hyphens and apostrophes inside."),
    ]


def _words(figures: Mapping[str, Any]) -> list[Part]:
    rows: list[list[Cell]] = []
    for name, part in _parts(figures):
        words = part["vocabulary"]
        new = words["new_per_1000"]
        rows.append(
            [name, words["tokens"], words["types"], words["type_token_ratio"],
             words["type_token_ratio_1000"], _bar(words["once_only"]),
             _some(new.get("10000")), _some(new.get("100000")), _some(new.get("1000000"))]
        )  # fmt: skip
    columns = (
        "captions from", "words", "different", "type-token ratio", "the same in 1,000 words",
        "used once", "new words per 1,000, up to 10k", "up to 100k", "up to 1M",
    )  # fmt: skip
    top = [
        [name, ", ".join(word for word, _ in part["vocabulary"]["top_words"])]
        for name, part in _parts(figures)
    ]
    return [
        "The type-token ratio of a larger text is always lower, so it compares sources of one "
        "size only; the mean over runs of 1,000 words compares any. New words are those not used "
        "before, per 1,000 words, over the second half of the first 10,000 words and so on.",
        _figure(figures, _growth_chart(figures), "Different words as captions are read"),
        Table(columns, rows),
        Details(
            "The words used most, function words apart", [Table(("captions from", "words"), top)]
        ),
    ]


def _aspects(figures: Mapping[str, Any]) -> list[Part]:
    parts = _parts(figures)
    about: list[list[Cell]] = [
        [name, aspect.about, ", ".join(aspect.groups)]
        for name, aspect in built_in().aspects.items()
    ]
    tables = [Table(("aspect", "what it is", "groups"), about)]
    for aspect, whole in figures["whole"]["aspects"].items():
        rows: list[list[Cell]] = []
        for group in [None, *whole["groups"]]:
            row: list[Cell] = [group or f"any of {aspect}"]
            for _, part in parts:
                counts = part["aspects"][aspect]
                counts = counts if group is None else counts["groups"][group]
                row += [_bar(counts["share"]), _some(counts["per_100_words"])]
            rows.append(row)
        columns = [aspect]
        for name, _ in parts:
            columns += [name, "in 100 words"]
        tables.append(Table(columns, rows))
    return [
        "Share of captions with at least one such word, by the word lists and rules of the "
        "package's lexicon.yaml. Nearly every long caption has a word of some groups, so how "
        "often they come in 100 words says more than the share.",
        *_aspect_charts(figures),
        Details("By group of words", tables),
    ]


def _repetition(figures: Mapping[str, Any]) -> list[Part]:
    rows: list[list[Cell]] = []
    for name, part in _parts(figures):
        row: list[Cell] = [name]
        for runs in part["repeated"].values():
            row += [_bar(runs["seq_rep"]), _bar(runs["captions"])]
        rows.append([*row, _bar(part["shared_openings"])])
    columns = ["captions from"]
    for n in figures["whole"]["repeated"]:
        columns += [f"runs of {n} repeated", f"captions with one of {n}"]
    shared = [[one["opening"], one["captions"], _bar(one["share"])] for one in figures["openings"]]
    phrases = [[one["phrase"], one["captions"], _bar(one["share"])] for one in figures["phrases"]]
    return [
        "Runs of two, three and four words that come again in the same caption: the mean share "
        "of a caption's runs (seq-rep-n), and the share of captions with at least one. A shared "
        "opening is one whose first five words another caption begins with too.",
        Table([*columns, "shared opening"], rows),
        _table("openings", ("opening", "captions", "share"), shared),
        _table("phrases of five words", ("phrase", "captions at least", "share"), phrases),
    ]


def _table(what: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Part:
    if not rows:
        return f"No {what} shared by captions."
    return Details(f"The {what} that most captions share", [Table(columns, rows)])


def _twins(figures: Mapping[str, Any]) -> list[Part]:
    rule = figures["rules"]["near_duplicates"]
    rows: list[list[Cell]] = [
        [name, _bar(part["near_duplicates"]["share"]), part["near_duplicates"]["removable"],
         _bar(part["near_duplicates"]["exact_share"])]
        for name, part in _parts(figures)
    ]  # fmt: skip
    columns = ("captions from", "with a near-duplicate", "to remove", "with an exact copy")
    parts: list[Part] = [
        f"Two captions are near-duplicates where the sets of their runs of "
        f"{rule['shingle_words']} words overlap by a Jaccard index of {rule['jaccard']} or more. "
        "To remove is what goes if one caption of each group stays. Exact copies differ in case "
        "and punctuation at most.",
        Table(columns, rows),
    ]
    if figures["groups"]:
        parts.append(
            Details("The largest groups", [_group_table(figures["groups"], figures["medium"])])
        )
    return parts


def _group_table(groups: Sequence[Mapping[str, Any]], medium: str) -> Table:
    rows: list[list[Cell]] = []
    for one in groups:
        texts = Markup("<br><br>").join(one["texts"])
        ids = and_more(one["ids"], total=one["captions"])
        rows.append([one["captions"], one["videos"], ", ".join(one["sources"]), ids, texts])
    return Table(("captions", f"{medium}s", "sources", "ids", "the first two"), rows)


def _support(figures: Mapping[str, Any]) -> list[Part]:
    measured = {name: one for name, one in figures["support"].items() if one["questions"]}
    parts: list[Part] = [
        "An answer's key words are those that carry content and that the question does not give "
        "away. Chance is the same answer against the caption of another video. A yes is held "
        "against the question's own words; a no is not measured, since a caption does not deny "
        "what it leaves out."
    ]
    if measured:
        named = [(series, words) for series, _, words in _SUPPORT]
        title = "Answers by how much the caption supports"
        parts.append(Figure(_support_chart(measured), title, legend=named))
        parts.append(_support_table("questions of", measured))
    left: list[list[Cell]] = [
        [name, *one["not_measured"].values()] for name, one in figures["support"].items()
    ]
    columns = ("questions of", "without caption", "answered no", "without key words")
    parts.append(Table(columns, left, "Questions not measured"))
    for name, one in measured.items():
        tables = [_support_table("question", one["by_question"])]
        if len(one["by_source"]) > 1:
            tables.append(_support_table("source", one["by_source"]))
        parts.append(Details(f"{name} in detail", tables))
    return parts


def _support_table(head: str, groups: Mapping[str, Mapping[str, Any]]) -> Table:
    rows: list[list[Cell]] = [
        [name, one["questions"], _bar(one["mean"]), _bar(one["full"]), _bar(one["part"]),
         _bar(one["none"]), _bar(one["chance"])]
        for name, one in groups.items()
    ]  # fmt: skip
    columns = (
        head, "measured", "mean support", "supported", "in part", "not at all", "mean by chance",
    )  # fmt: skip
    return Table(columns, rows)


_SKIPPED = ("row that breaks the schema was", "rows that break the schema were")


def _footer(figures: Mapping[str, Any]) -> str:
    lexicon = figures["rules"]["lexicon"]
    skipped = figures["skipped_rows"]
    limit = figures["limit"]
    notes = [
        f"Lexicon version {lexicon['version']}.",
        f"Splits: {figures['split']}." if figures["split"] else "",
        f"At most {number(limit)} captions and questions of each config were read."
        if limit
        else "",
        f"{plural(skipped, *_SKIPPED)} left out." if skipped else "",
    ]
    return " ".join(note for note in notes if note)


def _bar(share: float | None) -> Cell:
    return None if share is None else Bar(share)


def _one(value: float) -> float:
    return round(value, 1)


def _some(value: float | None) -> Cell:
    return None if value is None else round(value, 2 if value < 100 else 0)


def _drawn(figures: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """List (series, name, figures) of the largest sources."""
    sources = list(figures["by_source"].items())[:_DRAWN]
    return [(series, *source) for series, source in zip(SERIES, sources, strict=False)]


def _figure(figures: Mapping[str, Any], chart: Markup, title: str) -> Figure:
    return Figure(chart, title, legend=[(series, name) for series, name, _ in _drawn(figures)])


def _lengths_chart(figures: Mapping[str, Any]) -> Markup:
    """Draw the share of each source's captions by length."""
    curves = []
    for series, name, part in _drawn(figures):
        wide = part["length"]["bin"]
        # From zero to zero, so that a source with one length shows a peak, not a point.
        counts = [*part["length"]["histogram"], 0]
        points = [(0.0, 0.0)] + [
            (wide * (place + 0.5), 100.0 * count / part["captions"])
            for place, count in enumerate(counts)
        ]
        curves.append(Line(series, name, points))
    axes = Axis("words, in steps of ten"), Axis("% of the captions")
    return line_chart(curves, *axes, says="Share of captions by their number of words")


def _growth_chart(figures: Mapping[str, Any]) -> Markup:
    """Draw different words against words read."""
    curves = []
    most = max((part["vocabulary"]["tokens"] for _, _, part in _drawn(figures)), default=0)
    unit, word = (1000, "thousand words read") if most >= 20_000 else (1, "words read")
    for series, name, part in _drawn(figures):
        points = [(0.0, 0.0)]
        points += [(n / unit, float(types)) for n, types in part["vocabulary"]["growth"]]
        curves.append(Line(series, name, points))
    axes = Axis(word), Axis("different words")
    return line_chart(curves, *axes, says="Different words by words read")


def _aspect_charts(figures: Mapping[str, Any]) -> list[Figure]:
    """Draw how many of each source's captions speak of each aspect, and how often."""
    charts = []
    for which, show, axis, title in (
        ("share", percent, _SHARES, "Share of captions that speak of it"),
        ("per_100_words", rounded, Axis("in 100 words"), "How often in 100 words"),
    ):
        groups = []
        for aspect in figures["whole"]["aspects"]:
            values = [
                (series, part["aspects"][aspect][which]) for series, _, part in _drawn(figures)
            ]
            marks = [Mark(series, "", value, None, show(value)) for series, value in values]
            groups.append(Group(aspect, marks))
        says = f"{title}, by aspect and source"
        chart = row_chart(groups, axis, says=says, bars=True, left=8.0, right=70.0)
        charts.append(_figure(figures, chart, title))
    return charts


def _support_chart(measured: Mapping[str, Mapping[str, Any]]) -> Markup:
    """Draw answers that a caption supports in full, in part, not at all, by config."""
    bars = [
        (name, [Segment(series, words, one[key]) for series, key, words in _SUPPORT])
        for name, one in measured.items()
    ]
    return stack_chart(
        bars,
        says="Answers by how much of them the caption supports",
        axis="% of the questions",
        left=20.0 + 7.0 * max(map(len, measured)),
    )
