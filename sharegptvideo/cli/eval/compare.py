"""`sharegptvideo eval compare` and `agreement`: two runs, two judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharegptvideo._text import interval, number, p_value, plural, points, rounded
from sharegptvideo.cli._common import (
    JsonOption,
    echo,
    note,
    print_json,
    print_table,
    progress_bar,
)
from sharegptvideo.cli._endpoint import asks_endpoints
from sharegptvideo.cli.eval._shared import (
    JudgeOption,
    PanelOption,
    PromptOption,
    SeesOption,
    UrlOption,
    figures_table,
    judge_name,
)
from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    from sharegptvideo.endpoint import EndpointOptions

__all__ = ["agreement", "compare"]

# So few changes have no normal distribution, however many pairs there are.
_FEW_CHANGED = 10


def compare(
    first: Annotated[Path, typer.Argument(help="Run folder that is compared with.")],
    second: Annotated[Path, typer.Argument(help="Run folder that is compared.")],
    json: JsonOption = False,
) -> None:
    """How much better SECOND is than FIRST, paired by question and clustered by video.

    Accuracies are compared, or what else is a task's main figure, such as pairs right.

    Example: [bold]sharegptvideo eval compare runs/sft runs/dpo[/bold]
    """
    from sharegptvideo.eval import compare_runs
    from sharegptvideo.eval.headline import HEADLINES

    comparison = compare_runs(first, second)
    if json:
        print_json(comparison)
        return
    table = figures_table(
        "task",
        "pairs",
        "videos",
        "first",
        "second",
        "difference",
        "95 % interval",
        "p",
        "p, Holm",
    )
    for name, task in comparison["tasks"].items():
        key = task["headline"]
        shown = name if key == "accuracy" else f"{name} ({HEADLINES[key]})"
        table.add_row(
            shown + ("*" if task["part"] else ""),
            *_differences(task, key),
            p_value(task["p_holm"]),
        )
        if task["part"]:
            note(f"* {name}: {task['part']}; says nothing of the whole task")
        if task["settings"]:
            note(f"{name}: {task['settings']}; a difference may be that of the settings")
        for kind, part in task.get("by_question_type", {}).items():
            table.add_row(f"  {kind}", *_differences(part, key), "–")
        for count, why in (
            ("n_unscored", "without a verdict in one run"),
            ("n_only_in_one", "in one run only"),
        ):
            if task[count]:
                left = plural(task[count], "pair" if key == "pair_accuracy" else "question")
                note(f"{name}: left out: {left} {why}")
        if task["n_changed"] < _FEW_CHANGED:
            note(
                f"{name}: {number(task['n_changed'])} of {plural(task['n'], 'pair')} differ;"
                " interval and p are rough"
            )
    for run, tasks in ((first, comparison["only_first"]), (second, comparison["only_second"])):
        if tasks:
            note(f"left out: {', '.join(tasks)}, in {run} only")
    print_table(table, f"first: {first}, second: {second}, judge: {comparison['judge']}")


def _differences(pairs: Mapping[str, Any], key: str) -> list[str]:
    """Write the figures of two runs, those of a score as they are, shares in per cent."""
    write = rounded if key == "score" else points
    ends = pairs["ci95"]
    return [
        number(pairs["n"]),
        number(pairs["n_clusters"]),
        write(pairs["first_accuracy"]),
        write(pairs["second_accuracy"]),
        write(pairs["delta"], sign=True),
        "–" if ends is None else " to ".join(write(end, sign=True) for end in ends),
        p_value(pairs["p_value"]),
    ]


@asks_endpoints
def agreement(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="A run folder, then one of another judge on the same answers, or JSONL files of"
            " people's verdicts (id, correct, and if there are any task, score and rater). Or"
            " without a run: files of people's preferences between two answers (JSONL or CSV: id,"
            " video, question, answer_a, answer_b, rater, choice, and if there are any reference"
            " and caption).",
        ),
    ],
    judge: JudgeOption = None,
    panel: PanelOption = None,
    prompt: PromptOption = None,
    judge_sees: SeesOption = None,
    media: Annotated[
        Path | None,
        typer.Option("--media", help="Folder of the clips, for judges that see frames."),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key", help="sheet.key.json, of people's files that a `study sheet` has saved."
        ),
    ] = None,
    base_url: UrlOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder for agreement.json, agreement.png and a page; of preferences also"
            " agreement.csv, votes.csv and the judge's verdicts, which are asked for once.",
        ),
    ] = None,
    *,
    endpoint: EndpointOptions,
    json: JsonOption = False,
) -> None:
    """How far two judges agree on the same answers, or a judge with people's preferences.

    Example: [bold]sharegptvideo eval judge --predictions runs/dpo/predictions.jsonl
    --task synthetic_qa --judge exact --out runs/dpo-exact[/bold], then
    [bold]sharegptvideo eval agreement runs/dpo runs/dpo-exact --out agreement[/bold]; or
    [bold]sharegptvideo eval agreement preferences.csv --judge openai:NAME --out agreement[/bold]
    """
    if paths[0].is_dir() or (len(paths) > 1 and not paths[0].exists()):
        if any((judge, panel, prompt, judge_sees, media)):
            raise UserError(
                "--judge, --panel, --prompt, --judge-sees and --media are for files of people's"
                f" preferences; the verdicts of {paths[0]} are there already"
            )
        if len(paths) == 1:
            raise UserError(
                f"{paths[0]}: is one run; name what its verdicts are held against too: a run of"
                " another judge on the same answers, or a file of people's verdicts"
            )
        _agreement_of_judges(paths, key, out, as_json=json)
        return
    from sharegptvideo.eval.preferences import (
        clips_of,
        compare_with_preferences,
        read_preferences,
    )
    from sharegptvideo.judges import open_judge
    from sharegptvideo.judges.protocol import named_protocol
    from sharegptvideo.reports.agreement import save_preferences

    preferences = read_preferences(paths, key)
    protocol, prompt_file = named_protocol(prompt) if prompt else (preferences.protocol, None)
    opened = open_judge(
        judge_name(judge, panel),
        base_url=base_url,
        protocol=protocol,
        prompt_file=prompt_file,
        sees=judge_sees,
        options=endpoint,
    )
    if opened.needs_frames and media is None:
        raise UserError(f"judge {opened.name} needs the clips; give their folder with --media")
    with progress_bar() as progress:
        result = compare_with_preferences(
            preferences,
            opened,
            out=out,
            clips=None if media is None else clips_of(preferences, media),
            endpoint=endpoint,
            progress=progress,
        )
    if out is not None:
        for path in save_preferences(result, out):
            note(f"written: {path}")
    _show_preferences(result.figures, as_json=json)


def _agreement_of_judges(
    paths: Sequence[Path], key: Path | None, out: Path | None, *, as_json: bool
) -> None:
    from sharegptvideo.eval.agreement import compare_judges
    from sharegptvideo.reports.agreement import save_agreement

    result = compare_judges(*paths, key=key)
    if out is not None:
        for path in save_agreement(result, out):
            note(f"written: {path}")
    _note_left_out(result)
    if as_json:
        print_json(result)
        return
    table = figures_table(
        "task", "answers", "videos", "first", "second", "shift", "agree", "kappa", "Pearson",
        "Spearman",
    )  # fmt: skip
    parts = result["tasks"]
    if len(parts) > 1:
        parts = parts | {"all": result["all"]}
    for name, task in parts.items():
        table.add_row(name, *_cells(task))
    print_table(
        table,
        f"first: {result['first']['run']} ({result['first']['judge']}),"
        f" second: {result['second']['run']} ({result['second']['judge']});"
        " in brackets: 95 % intervals by video",
    )
    for row in result["all"].get("calibration", ()):
        echo(
            f"score {number(row['score'])} of the first ({number(row['n'])}): "
            f"{rounded(row['mean_score']['value'])} from the second, "
            f"{points(row['share_right']['value'])} right"
        )
    between = result["between_raters"]
    if between is not None:
        echo(
            f"between raters ({plural(between['n'], 'pair')} of verdicts): the same on"
            f" {points(between['agreement']['value'])} %, kappa {_with_interval(between['kappa'])}"
        )


def _show_preferences(figures: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the figures on stdout and what was left out on stderr.

    Raises:
        typer.Exit: 1, where the judge gave no verdict that a vote could be held against.
    """
    for reason, count in figures["unscored"].items():
        note(f"unscored: {plural(count, 'answer')}: {reason}")
    if figures["n_unscored"]:
        left = plural(figures["n_unscored"], "pair")
        note(f"left out: {left} of {number(figures['n_items'])} with an unscored answer")
    if as_json:
        print_json(figures)
    else:
        from sharegptvideo.reports.agreement import SHOWN_RATERS, preference_lines

        table = figures_table(
            "", "votes", "videos", "agree", "kappa", "without ties", "agree", "kappa"
        )
        rows = {"judge with people": figures["all"]}
        if len(figures["raters"]) > 1:
            listed = list(figures["raters"].items())[:SHOWN_RATERS]
            rows |= {f"  {rater}": each for rater, each in listed}
        for name, each in rows.items():
            votes, _, *decided = _agreeing(each["decided"])
            table.add_row(name, *_agreeing(each), votes, *decided)
        between = figures["between_raters"]
        if between is not None:
            table.add_row("between raters", *_agreeing(between), *["–"] * 3)
        print_table(
            table,
            f"{figures['judge']['name']}; {plural(figures['n_items'], 'pair')},"
            f" {plural(figures['n_votes'], 'vote')}, {plural(figures['n_raters'], 'rater')};"
            " agree in %; in brackets: 95 % intervals by video",
        )
        for line in preference_lines(figures):
            echo(line)
    if not figures["all"]["n"]:
        note("error: the judge scored both answers of no pair")
        raise typer.Exit(1)


def _agreeing(each: Mapping[str, Any]) -> list[str]:
    share = each["agreement"]
    ends = f" ({interval(share['ci95'])})" if share["ci95"] else ""
    return [
        number(each["n"]),
        number(each["n_clusters"]),
        f"{points(share['value'])}{ends}",
        _with_interval(each["kappa"]),
    ]


def _cells(task: Mapping[str, Any]) -> list[str]:
    if not task["n"]:
        return ["0", "0", *["–"] * 7]
    first, second = task["accuracy"]
    return [
        number(task["n"]),
        number(task["n_clusters"]),
        points(first["value"]),
        points(second["value"]),
        points(task["shift"]["value"], sign=True),
        points(task["agreement"]["value"]),
        *(_with_interval(task.get(name)) for name in ("kappa", "pearson", "spearman")),
    ]


def _with_interval(figure: Mapping[str, Any] | None) -> str:
    if figure is None or figure["value"] is None:
        return "–"
    if figure["ci95"] is None:
        return rounded(figure["value"])
    return f"{rounded(figure['value'])} ({interval(figure['ci95'], rounded)})"


def _note_left_out(result: Mapping[str, Any]) -> None:
    for count, why in (
        (result["n_other_answer"], "answered differently in the two runs"),
        (result["n_only_first"], "judged by the first only"),
        (result["n_only_second"], "judged by the second only"),
        (result["n_unscored"]["first"], "unscored by the first"),
        (result["n_unscored"]["second"], "unscored by the second"),
    ):
        if count:
            note(f"left out: {count} {why}")
