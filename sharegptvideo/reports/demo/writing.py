"""Put the page together: figures, drawings and words into one template."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from sharegptvideo._io import read_json, read_jsonl, write_text
from sharegptvideo._text import duration
from sharegptvideo.media import MediaFolder
from sharegptvideo.reports.demo import panels, words
from sharegptvideo.reports.demo.clips import WANTED, choose_clips, frame_strip
from sharegptvideo.reports.demo.comparison import SETS
from sharegptvideo.reports.demo.facts import (
    FAULTS,
    by_kind,
    disagreements,
    faults,
    lost_examples,
    outcomes,
    parts,
)
from sharegptvideo.reports.demo.record import (
    MODELS,
    Case,
    read_accuracies,
    read_cases,
    read_example,
)

__all__ = ["write_page"]

_STAGES = ("pretrain", "sft", "dpo")
_LOST_SHOWN = 10
_LINKS = (
    ("summary.json", "all figures as JSON"),
    ("leaderboard/index.html", "leaderboard of the four runs"),
    ("runs/", "every answer and every verdict"),
    ("datasets/world/", "clips, captions, questions, states"),
    ("datasets/preferences/", "candidates, rewards, pairs"),
    ("models/", "checkpoints, recipes, logs"),
)


def write_page(folder: Path, summary: dict[str, Any]) -> Path:
    """Write `folder/index.html` from a finished demo and its `summary.json`; returns its path.

    The page is one file that loads nothing: style, drawings and frames are in it. The same
    folder gives the same page.

    Raises:
        UserError: a file of the demo is missing or broken; says which.
    """
    cases = read_cases(folder)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        percent=words.percent,
        points=words.points,
        interval=words.interval,
        p_value=words.p_value,
        duration=duration,
    )
    template = environment.from_string(_asset("page.html"))
    context = {
        "style": Markup(_asset("page.css")),
        "summary": summary,
        "headline": words.headline(summary),
        "told": words.told(summary),
        **_numbers(folder, summary, cases),
        **_losses(summary, cases),
        **_factuality(summary, cases),
        **_examples(folder, summary, cases),
        **_learning(folder, summary),
        **_running(folder, summary),
    }
    path = folder / "index.html"
    write_text(path, template.render(context))
    return path


def _asset(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def _of(cases: Sequence[Case], name: str) -> list[Case]:
    return [case for case in cases if case.task_set == name]


def _numbers(folder: Path, summary: Mapping[str, Any], cases: Sequence[Case]) -> dict[str, Any]:
    accuracies = {name: read_accuracies(folder, name) for name in SETS}
    return {
        "accuracy_charts": {
            name: panels.accuracy(found, panels.SET_NAMES[name])
            for name, found in accuracies.items()
        },
        "difference_chart": panels.differences(summary),
        "set_names": panels.SET_NAMES,
        "counts": {
            name: {k: len(v) for k, v in outcomes(_of(cases, name)).items()} for name in SETS
        },
    }


def _losses(summary: Mapping[str, Any], cases: Sequence[Case]) -> dict[str, Any]:
    return {
        "losses": words.losses(summary),
        "lost": lost_examples(_of(cases, "test"), _LOST_SHOWN),
        "disagreements": disagreements(cases),
        "n_answers": len(cases) * len(MODELS),
    }


def _factuality(summary: Mapping[str, Any], cases: Sequence[Case]) -> dict[str, Any]:
    kinds = {name: by_kind(_of(cases, name)) for name in SETS}
    test = _of(cases, "test")
    rates = {model: faults(test, model) for model in MODELS}
    shares = {model: parts(test, model) for model in MODELS}
    taught = summary.get("world", {}).get("sft_faults", {})
    return {
        "kinds": kinds,
        "kind_charts": {
            name: panels.kinds(found, panels.SET_NAMES[name]) for name, found in kinds.items()
        },
        "fault_chart": panels.faults(taught, rates),
        "part_chart": panels.parts(shares),
        "part_names": panels.PART_NAMES,
        "fault_names": panels.FAULT_NAMES,
        "fault_rows": [
            (panels.FAULT_NAMES[name], taught.get(name), *(rates[m][name] for m in MODELS))
            for name in FAULTS
        ],
        "shares": shares,
        "explained": words.explained(summary, rates, shares),
        "taught": taught,
    }


def _examples(folder: Path, summary: Mapping[str, Any], cases: Sequence[Case]) -> dict[str, Any]:
    seed = int(summary["seed"])
    tasks = read_json(folder / "runs" / "dpo" / "run.json")["tasks"]
    world = MediaFolder(folder / "datasets" / "world")
    chosen = choose_clips(cases, seed)
    return {
        "clips": [
            (outcome, case, frame_strip(world, case.video, tasks[SETS[case.task_set]]["frames"]))
            for outcome, case in chosen
        ],
        "clips_missing": len(WANTED) - len(chosen),
        "example": read_example(folder, random.Random(f"example/{seed}").randrange(1 << 30)),
    }


def _learning(folder: Path, summary: Mapping[str, Any]) -> dict[str, Any]:
    logs = {
        stage: [row for _, row in read_jsonl(folder / "models" / stage / "log.jsonl")]
        for stage in _STAGES
    }
    return {
        "curves": panels.curves(logs),
        "histogram": panels.histogram(summary["pairs_report"]),
        "pairs": summary["pairs_report"],
    }


def _running(folder: Path, summary: Mapping[str, Any]) -> dict[str, Any]:
    versions = dict(read_json(folder / "runs" / "dpo" / "run.json").get("packages", {}))
    for stage in _STAGES:
        versions |= read_json(folder / "models" / stage / "run.json").get("versions", {})
    return {
        "seconds_chart": panels.seconds(summary["seconds"]),
        "versions": sorted(versions.items()),
        "links": [(path, what) for path, what in _LINKS if (folder / path).exists()],
    }
