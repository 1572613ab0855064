"""`DIR/index.html` of a demo: figures, charts and words put together."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from sharegptvideo import _text
from sharegptvideo._io import read_json, read_jsonl
from sharegptvideo._text import byte_size, number, p_value, plural, rounded
from sharegptvideo.eval.statistics import Estimate
from sharegptvideo.media import MediaFolder
from sharegptvideo.reports.demo import charts, words
from sharegptvideo.reports.demo.charts import COLOURS, FAULT_NAMES, PART_NAMES, SET_NAMES
from sharegptvideo.reports.demo.comparison import (
    MODELS,
    SETS,
    Case,
    KindFigures,
    by_kind,
    faults,
    outcomes,
    parts,
    read_accuracies,
    read_cases,
)
from sharegptvideo.reports.demo.examples import (
    OUTCOME_NAMES,
    WANTED,
    choose_clips,
    clip_card,
    disagreement_part,
    example_card,
    lost_examples,
    read_example,
    shown_clip,
)
from sharegptvideo.reports.demo.words import interval, percent, points
from sharegptvideo.reports.parts import (
    Card,
    Cell,
    Details,
    Grid,
    Headline,
    Legend,
    Page,
    Part,
    Section,
    Table,
    Value,
    asset,
    pages_near,
)

__all__ = ["write_page"]

_STAGES = {"pretrain": "Pre-training", "sft": "SFT", "dpo": "DPO"}
_LOST_SHOWN = 10
_LINKS = (
    ("summary.json", "all figures as JSON"),
    ("leaderboard/index.html", "leaderboard of the four runs"),
    ("report/index.html", "DPO’s answers one by one, with their clips, beside SFT’s"),
    ("runs/", "every answer and every verdict"),
    ("datasets/world/", "clips, captions, questions, states"),
    ("datasets/preferences/", "candidates, rewards, pairs"),
    ("models/", "checkpoints, recipes, logs"),
)
_ANSWERED_BY = [(COLOURS[model], model.upper()) for model in MODELS]


def write_page(folder: Path, summary: dict[str, Any]) -> Path:
    """Write `folder/index.html` from a finished demo and its `summary.json`; returns its path.

    The page is one file, with style, drawings and sampled frames in it; clips play from where the
    demo has them, and where the page is alone their frames take their place. The same folder gives
    the same page.

    Raises:
        UserError: a file of the demo is missing or broken; names it.
    """
    cases = read_cases(folder / "runs", folder / "datasets" / "world")
    test = _of(cases, "test")
    rates = {model: faults(test, model) for model in MODELS}
    shares = {model: parts(test, model) for model in MODELS}
    headline = words.headline(summary)
    page = Page(
        title=headline,
        lead=words.results_in_words(summary),
        kicker=f"sharegptvideo demo · scale {summary['scale']} · seed {summary['seed']}",
        tab=f"{headline} · sharegptvideo demo",
        first=[_headline(summary)],
        intro=_first_charts(folder, summary),
        sections=[
            Section("What was done", [words.what_was_done(summary), _note(summary, rates, shares)]),
            _numbers(summary, cases),
            _seen(summary),
            _losses(summary, cases),
            _factuality(summary, cases, rates, shares),
            _clips(folder, summary, cases),
            _pairs(folder, summary),
            _training(folder),
            _running(folder, summary),
        ],
        script=asset("clips.js"),
        clips=True,
        contents=True,
        links=pages_near(folder),
        kind="Demo",
    )
    return page.write(folder / "index.html")


def _of(cases: Sequence[Case], name: str) -> list[Case]:
    return [case for case in cases if case.task_set == name]


def _taught(summary: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return how often the SFT training answers have each fault."""
    taught: Mapping[str, Any] = summary.get("world", {}).get("sft_faults", {})
    return taught


def _note(
    summary: Mapping[str, Any],
    rates: Mapping[str, Mapping[str, Estimate]],
    shares: Mapping[str, Mapping[str, float]],
) -> Card:
    """Say what the demo does and does not show."""
    bold = Markup("<p><b>{}</b> {}</p>")
    explained = " ".join(words.explained(summary, rates, shares))
    return Card(
        "What this does and does not show",
        [
            Grid([words.what_was_taught(_taught(summary)), f"On the test clips: {explained}"]),
            bold.format("What it cost.", " ".join(words.losses(summary))),
            bold.format("What does it.", words.WHAT_DOES_IT),
        ],
        note=True,
    )


def _headline(summary: Mapping[str, Any]) -> Headline:
    """Put both models' accuracy on the test clips and their difference in large figures."""
    test = summary["test"]
    models = [
        (
            charts.model_key(model) + ", right",
            percent(test[model]["accuracy"]),
            _error(test[model]["se"]),
        )
        for model in MODELS
    ]
    ends = f"95\u00a0% interval {interval(test['delta_ci95'])}"
    return Headline([*models, ("DPO − SFT, paired", f"{points(test['delta'])} points", ends)])


def _first_charts(folder: Path, summary: Mapping[str, Any]) -> list[Part]:
    hint = "whiskers: 95\u00a0% intervals, clustered by clip; figures: ± one standard error"
    accuracies = [
        charts.accuracy_chart(read_accuracies(folder / "runs", name), title)
        for name, title in SET_NAMES.items()
    ]
    return [
        Grid([*accuracies, charts.difference_chart(summary)], narrow=True),
        Legend(_ANSWERED_BY, hint, dots=True),
    ]


def _numbers(summary: Mapping[str, Any], cases: Sequence[Case]) -> Section:
    body: list[Part] = [
        "The exact state of a clip decides what is right; the judge of captions is the one that"
        " gave the rewards, so a gain that only it sees would be reward hacking.",
        _accuracy_table(summary),
        Grid([_outcome_table(cases), _agreement_table(summary)]),
    ]
    return Section("The numbers", body)


def _accuracy_table(summary: Mapping[str, Any]) -> Table:
    rows: list[list[Cell]] = []
    for name, title in SET_NAMES.items():
        for by, row in (
            ("exact state", summary[name]),
            ("judge of captions", summary[name]["judged"]),
        ):
            rows.append(
                [title, by, row["n_videos"], row["n_questions"],
                 *(_accuracy(row[model]) for model in MODELS),
                 Value(row["delta"], points(row["delta"]), strong=True),
                 Value(None, interval(row["delta_ci95"])),
                 Value(row["p_value"], p_value(row["p_value"]))]
            )  # fmt: skip
    columns = (
        "Clips", "Right according to", "clips", "questions", "SFT", "DPO", "DPO − SFT, points",
        "95 % interval", "p",
    )  # fmt: skip
    return Table(columns, rows, "Accuracy, %", stacked=True)


def _outcome_table(cases: Sequence[Case]) -> Table:
    rows: list[list[Cell]] = []
    for name, title in SET_NAMES.items():
        groups = outcomes(_of(cases, name))
        rows.append([title, *(len(groups[outcome]) for outcome in OUTCOME_NAMES)])
    heads = ("Clips", *OUTCOME_NAMES.values())
    return Table(heads, rows, "Question by question, exact state", stacked=True)


def _agreement_table(summary: Mapping[str, Any]) -> Table:
    rows: list[list[Cell]] = [
        [title, row["n"], Value(row["share"], percent(row["share"])),
         None if row["kappa"] is None else Value(row["kappa"], rounded(row["kappa"])),
         row["too_kind"], row["too_strict"]]
        for title, row in (
            ("Test, both models", summary["judge_agreement_test"]),
            ("Candidates", summary["judge_agreement_candidates"]),
        )
    ]  # fmt: skip
    columns = ("Answers", "n", "same verdict", "Cohen’s κ", "too kind", "too strict")
    return Table(columns, rows, "The judge of captions against the exact state", stacked=True)


def _accuracy(figures: Mapping[str, Any]) -> Value:
    return Value(figures["accuracy"], _text.points(figures["accuracy"]), _error(figures["se"]))


def _error(se: float | None) -> str:
    return f"± {_text.points(se)}" if se else ""


def _seen(summary: Mapping[str, Any]) -> Section:
    body: list[Part] = [
        Markup(
            "<p>Answers of SFT’s model with invented details left out of account: is what was asked"
            " answered rightly, by the exact state of the clip? <em>Guess</em> is the best blind"
            " guess: the one answer that is right most often for questions of its kind and wording,"
            " by someone who never sees the clip. Directions, changes and orders need more than one"
            " frame.</p>"
        ),
        Grid([_seen_by_kind(summary[name], title) for name, title in SET_NAMES.items()]),
    ]
    return Section("What the model sees before DPO", body)


def _seen_by_kind(figures: Mapping[str, Any], title: str) -> Table:
    rows: list[list[Cell]] = []
    for kind, row in figures["kinds"].items():
        clean, chance = row["sft_clean"], row["chance"]
        note = _error(clean["se"])
        above = clean["value"] - chance
        rows.append(
            [kind, row["n"], _share(chance), Value(clean["value"], percent(clean["value"]), note),
             Value(above, points(above), strong=True)]
        )  # fmt: skip
    columns = ("Kind", "n", "guess", "SFT", "above, points")
    return Table(columns, rows, f"{title}: asked things answered rightly")


def _losses(summary: Mapping[str, Any], cases: Sequence[Case]) -> Section:
    body: list[Part] = [
        Markup(
            "<p>Questions that SFT had right and DPO has wrong, and answers that contradict"
            " themselves, by the exact state. <em>Guess</em> is the best blind guess: the one"
            " answer that is right most often for questions of its kind, by someone who never sees"
            " the clip.</p>"
        ),
        Grid([_lost_by_kind(summary[name], title) for name, title in SET_NAMES.items()]),
    ]
    lost = lost_examples(_of(cases, "test"), _LOST_SHOWN)
    if lost:
        rows: list[list[Cell]] = [
            [case.question["text"], case.reference, case.answers["sft"].text,
             case.answers["dpo"].text, case.answers["dpo"].why or case.answers["dpo"].error]
            for case in lost
        ]  # fmt: skip
        caption = "Lost, from the test clips: of each kind in turn, the kind that lost most first"
        columns = ("Question", "Reference", "SFT", "DPO", "Why wrong")
        body.append(Table(columns, rows, caption, stacked=True))
    body.append(Section("Where state and judge disagree", disagreement_part(cases)))
    return Section("What DPO lost", body)


def _lost_by_kind(figures: Mapping[str, Any], title: str) -> Table:
    lost, gained, contra = figures["lost"], figures["gained"], figures["contradictions"]
    rows: list[list[Cell]] = [
        [kind, row["n"], round(row["chance"] * row["n"]), row["sft"], row["dpo"], row["gained"],
         row["lost"]]
        for kind, row in figures["kinds"].items()
    ]  # fmt: skip
    rows += [
        ["all", figures["n_questions"], "", "", "", gained["n"],
         Value(lost["n"], number(lost["n"]), strong=True)],
        ["of all", "", "", "", "", _share(gained["share"]), _share(lost["share"], strong=True)],
        ["contradictions", "", "", _share(contra["sft"]), _share(contra["dpo"]), "", ""],
    ]  # fmt: skip
    columns = ("Kind", "n", "guess", "SFT", "DPO", "gained", "lost")
    return Table(columns, rows, f"{title}: questions right, by kind")


def _share(value: float | None, *, strong: bool = False) -> Value:
    return Value(value, percent(value), strong=strong)


def _factuality(
    summary: Mapping[str, Any],
    cases: Sequence[Case],
    rates: Mapping[str, Mapping[str, Estimate]],
    shares: Mapping[str, Mapping[str, float]],
) -> Section:
    taught = _taught(summary)
    kinds = {SET_NAMES[name]: by_kind(_of(cases, name)) for name in SETS}
    hint = "by the exact state; whiskers: 95\u00a0% intervals, clustered by clip"
    fault_rows: list[list[Cell]] = [
        [title, _share(taught.get(name)), *(_estimate(rates[model][name]) for model in MODELS),
         rates["sft"][name].n]
        for name, title in FAULT_NAMES.items()
    ]  # fmt: skip
    part_rows: list[list[Cell]] = [
        [title, *(_share(shares[model][name]) for model in MODELS)]
        for name, title in PART_NAMES.items()
    ]
    tables = [
        Table(("Fault", "taught", "SFT", "DPO", "answers"), fault_rows,
              "Faults, share of the answers that could have them (test clips)"),
        Table(("Answer", "SFT", "DPO"), part_rows, "All answers (test clips)"),
        *(_kind_table(title, rows) for title, rows in kinds.items()),
    ]  # fmt: skip
    by_type: list[Part] = [
        Legend([*_ANSWERED_BY, (COLOURS["guess"], "best blind guess")], hint, dots=True),
        *(charts.kind_chart(rows, title) for title, rows in kinds.items()),
        Details("These charts as tables", Grid(tables)),
    ]
    return Section(
        "Factuality",
        [
            Markup(
                "<p>Test clips. <em>Taught</em> is how often the SFT training answers have the"
                " fault.</p>"
            ),
            charts.fault_chart(taught, rates),
            charts.part_chart(shares),
            Section("Accuracy by type of question", by_type),
        ],
    )


def _kind_table(title: str, kinds: Sequence[KindFigures]) -> Table:
    rows: list[list[Cell]] = [
        [one.kind, one.n, _share(one.chance), *(_estimate(one.accuracy[m]) for m in MODELS)]
        for one in kinds
    ]
    columns = ("Type", "questions", "best blind guess", "SFT", "DPO")
    return Table(columns, rows, f"{title}: accuracy by type of question")


def _estimate(figure: Estimate) -> Value:
    return Value(figure.value, percent(figure.value), _error(figure.se))


def _clips(folder: Path, summary: Mapping[str, Any], cases: Sequence[Case]) -> Section:
    tasks = read_json(folder / "runs" / "dpo" / "run.json")["tasks"]
    world = MediaFolder(folder / "datasets" / "world")
    chosen = choose_clips(cases, int(summary["seed"]))
    missing = len(WANTED) - len(chosen)
    rule = (
        "Chosen by rule: all questions in an order drawn with the demo’s seed, and from its front,"
        " no clip twice, two test questions that only DPO got right, one that both did, one that"
        " neither did, one that only SFT got right, and one out-of-domain question that only DPO"
        " got right."
    )
    if missing:
        rule += f" For {missing} of these there was no such question."
    rule += (
        " The frames are those that both models are given, before they are scaled for them. Right"
        " or wrong is by the exact state. The judge saw question, reference, caption and answer."
    )
    cards = [
        clip_card(
            outcome,
            case,
            shown_clip(world, case.video, tasks[SETS[case.task_set]]["frames"], folder),
        )
        for outcome, case in chosen
    ]
    return Section("A few clips", [rule, *cards])


def _pairs(folder: Path, summary: Mapping[str, Any]) -> Section:
    pairs = summary["pairs_report"]
    rows: list[list[Cell]] = [
        ["Questions", pairs["n_items"]],
        ["Candidate answers", pairs["n_answers"]],
        ["Same answer drawn again, removed", pairs["duplicates_removed"]],
        ["Unscored answers", pairs["n_unscored"]],
        *(
            [f"No pair: {cause.replace('_', ' ')}", count]
            for cause, count in pairs["without_pair"].items()
        ),
        ["Pairs", Value(pairs["n_pairs"], number(pairs["n_pairs"]), strong=True)],
    ]
    if pairs["mean_chosen"] is not None and pairs["mean_rejected"] is not None:
        means = f"{rounded(pairs['mean_chosen'])} and {rounded(pairs['mean_rejected'])}"
        rows.append(["Mean score, chosen and rejected", Value(None, means)])
    body: list[Part] = [Grid([charts.score_chart(pairs), Table(("", ""), rows, "Pairs")])]
    draw = random.Random(f"example/{int(summary['seed'])}").randrange(1 << 30)
    example = read_example(folder, draw)
    return Section("From answers to pairs", [*body, *([example_card(example)] if example else [])])


def _training(folder: Path) -> Section:
    logs = {
        stage: [row for _, row in read_jsonl(folder / "models" / stage / "log.jsonl")]
        for stage in _STAGES
    }
    text = (
        "DPO starts from the SFT model, so before its first update all rewards are zero and no"
        " pair counts as ranked right."
    )
    return Section("Training", [text, Grid(charts.curve_charts(logs), narrow=True)])


def _running(folder: Path, summary: Mapping[str, Any]) -> Section:
    world, model = summary["world"], summary["model"]
    clips: list[list[Cell]] = [
        [name.replace("_", " "), count, world["questions"][name]]
        for name, count in world["clips"].items()
    ]
    facts: list[list[Cell]] = [
        ["Parameters", model["parameters"]],
        ["Tokens of text known", model["vocabulary"]],
        ["Positions a clip takes", model["video_tokens"]],
    ]
    for stage, row in summary["training"].items():
        size = f"{plural(row['rows'], 'row')}, {plural(row['steps'], 'step')}"
        facts.append([_STAGES.get(stage, stage), Value(None, size)])
    if summary.get("peak_memory_mib"):
        facts.append(
            ["Largest process", Value(None, byte_size(summary["peak_memory_mib"] * 2**20))]
        )
    facts.append(["Seed", summary["seed"]])
    sizes = [Table(("Part", "clips", "questions"), clips, "Sizes"), Table(("", ""), facts)]
    links = Markup("").join(
        Markup('<li><a href="{0}">{0}</a> {1}</li>').format(path, what)
        for path, what in _LINKS
        if (folder / path).exists()
    )
    versions = dict(read_json(folder / "runs" / "dpo" / "run.json").get("packages", {}))
    for stage in _STAGES:
        versions |= read_json(folder / "models" / stage / "run.json").get("versions", {})
    hint = Markup('<p class="hint">{}</p>').format(
        " · ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    )
    return Section(
        "How it ran",
        [
            Grid([charts.time_chart(summary["seconds"]), sizes]),
            Section("Files", [Markup("<ul>{}</ul>").format(links), hint]),
        ],
    )
