"""Cost and time of judging n answers, by caption and by frames: measured here, and by list prices.

What is measured is this machine's part: the verdicts of the package's own rules, and for a served
judge what has to be made and sent. What the server takes is projected from prices with a date.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any, Literal

from sharegptvideo._io import dumps
from sharegptvideo._strict import StrictModel
from sharegptvideo._text import dollars, rounded
from sharegptvideo.build.plan import typical_verdicts
from sharegptvideo.data.load import read_rows
from sharegptvideo.endpoint import EndpointOptions, Estimate
from sharegptvideo.endpoint.messages import frame_urls, with_pictures
from sharegptvideo.eval.hierarchical import NO_EFFECT_MARGIN
from sharegptvideo.eval.statistics import t_quantile
from sharegptvideo.judges import JudgeItem, open_judge
from sharegptvideo.judges.protocol import load_protocol
from sharegptvideo.study.experiment import Contrast, Experiment
from sharegptvideo.study.kind import Chart, Done, Result
from sharegptvideo.study.loop import make_node, world_node
from sharegptvideo.study.node import Findings, Node, Stage, Work
from sharegptvideo.study.scales import StudyScale

__all__ = ["Cost", "Growth", "Level", "growth"]

PAPER_ANSWERS = 20_000 * 6
"""Candidates that the paper scored: six to each of 20,000 questions (arXiv 2404.01258)."""

_ANSWERS_A_QUESTION = 6
_SIZES = (0.25, 1, 5, 20, 100)  # of the scale's sample: 50 to 20,000 at `small`
_REPEATS = 3
_HOST = "https://api.openai.com/v1"

Way = Literal["rules", "caption", "frames"]


class Level(StrictModel):
    """A way to judge.

    Attributes:
        way: `rules`: answer-match here; `caption`, `frames`: what a served judge is sent.
        model: the served judge at api.openai.com, for its price; None for rules.
    """

    way: Way
    model: str | None = None


def _measure(work: Work) -> Findings:
    """Measure what n answers take here, for each n. Settings: way, sizes, repeats. Parents: world.

    Small n are done several times over in one measurement, which would be too short otherwise.
    Findings: `runs`, each with n, repeat, CPU seconds, bytes that would be sent, and clips decoded.
    """
    world, way, sizes = work.inputs["world"], work.settings["way"], work.settings["sizes"]
    rows = list(read_rows("qa", data_dir=world, split="train", media=world))
    take = {"rules": _judging, "caption": _asking, "frames": _showing}[way]
    texts = count()
    take()(list(_items(rows, _ANSWERS_A_QUESTION, next(texts))))  # first imports are no growth
    runs = []
    for repeat in range(work.settings["repeats"]):
        for n in sizes:
            loops = max(1, sizes[-1] // (20 * n))
            given = [list(_items(rows, n, next(texts))) for _ in range(loops)]
            workers = [take() for _ in range(loops)]
            begun = time.process_time()
            done = [worker(items) for worker, items in zip(workers, given, strict=True)]
            seconds = (time.process_time() - begun) / loops
            sent, clips = done[0]
            runs.append(
                {"n": n, "repeat": repeat, "seconds": seconds, "bytes": sent, "clips": clips}
            )
            if work.progress:
                work.progress(len(runs), len(sizes) * work.settings["repeats"], f"{way} timed")
    return {"runs": runs}


def _items(rows: Sequence[Mapping[str, Any]], n: int, number: int) -> Iterator[JudgeItem]:
    """Yield n answers, six to a question: its reference, and those of the five rows that follow.

    `number` makes the texts new ones: the world's come again and again, and rules keep what they
    have parsed, which real texts would gain nothing by.
    """
    for place in range(n):
        at, step = divmod(place, _ANSWERS_A_QUESTION)
        row = rows[at % len(rows)]
        yield JudgeItem(
            id=str(place),
            task="preferences",
            video=row["video"],
            question=f"{row['question']} {number} {at}",
            reference=f"{row['answer']} {number} {at}",
            prediction=f"{rows[(at + step) % len(rows)]['answer']} {number} {place}",
            caption=f"{row['caption']} {number}",
            clip=str(row["video_path"]),
        )


Taken = Callable[[Sequence[JudgeItem]], tuple[int, int]]
"""Does what is measured, and returns how many bytes would be sent and how many clips were read."""


def _judging() -> Taken:
    judge = open_judge("answer-match")

    def take(items: Sequence[JudgeItem]) -> tuple[int, int]:
        for _ in judge.judge(items):
            pass
        return 0, 0

    return take


def _asking() -> Taken:
    protocol = load_protocol("caption-grounded")
    return lambda items: (sum(len(dumps(protocol.messages(item))) for item in items), 0)


def _showing() -> Taken:
    """As `OpenAIJudge` does it: a clip is decoded once for the answers that follow each other."""
    from sharegptvideo.media import sample_frames

    protocol = load_protocol("caption-grounded", sees="frames")

    @lru_cache(maxsize=1)
    def urls(clip: str) -> list[str]:
        return frame_urls(sample_frames(clip, protocol.frames or 1)[0])

    def take(items: Sequence[JudgeItem]) -> tuple[int, int]:
        sent = 0
        for item in items:
            messages: list[dict[str, Any]] = [*protocol.messages(item)]
            messages[-1]["content"] = with_pictures(messages[-1]["content"], urls(item.clip or ""))
            sent += len(dumps(messages))
        return sent, urls.cache_info().misses

    return take


class Cost:
    """The kind of the experiment on cost and time: a level is a way to judge and a priced model."""

    level = Level
    stages: Mapping[str, Stage] = {"judging_cost": Stage(_measure, seconds=60)}

    def plan(
        self, experiment: Experiment, scale: StudyScale, seeds: Sequence[int]
    ) -> dict[tuple[str, int], dict[str, Node]]:
        """Return for each level the measurement of its way; only the first seed's."""
        sizes = [max(2, round(share * scale.sample)) for share in _SIZES]
        return {
            (name, seeds[0]): {
                "measured": make_node(
                    "judging_cost",
                    {
                        "way": Level.model_validate(each).way,
                        "sizes": sizes,
                        "repeats": _REPEATS,
                    },
                    stages=dict(self.stages),
                    world=world_node(scale, seeds[0]),
                )
            }
            for name, each in experiment.levels.items()
        }

    def analyse(
        self, experiment: Experiment, done: Mapping[tuple[str, int], Mapping[str, Done]]
    ) -> Result:
        """Return seconds, bytes and dollars by way and n, and how they grow."""
        levels = {name: Level.model_validate(each) for name, each in experiment.levels.items()}
        runs = {name: nodes["measured"].findings["runs"] for (name, _), nodes in done.items()}
        prices = {name: _price(level) for name, level in levels.items()}
        grown = {name: growth(each) for name, each in runs.items()}
        firsts: dict[Way, str] = {}
        for name, level in levels.items():
            firsts.setdefault(level.way, name)
        table = [
            row
            for name, level in levels.items()
            for row in _rows(name, level, runs[name], prices[name], timed=firsts[level.way] == name)
        ]
        of, against = experiment.contrast.of, experiment.contrast.against
        return Result(
            table=table,
            contrast=None,
            charts=[
                Chart("lines", "n", "dollars", "answers judged", experiment.figure,
                      series="level", unit="US dollars"),
                Chart("lines", "n", "seconds_here", "answers judged",
                      "CPU seconds of this machine for n answers", series="way",
                      unit="CPU seconds"),
            ],
            says=(
                _growth_sentence(experiment.contrast, grown),
                _price_sentence(of, prices[of], against, prices[against]),
            ),
            tables={
                "growth": [_way_row(way, runs[name], grown[name]) for way, name in firsts.items()],
                "paper": [_paper_row(name, prices[name]) for name in levels],
            },
            notes=["CPU seconds were measured once a way: its other models leave them out."],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Growth:
    """An exponent: time grows with n to this power; its standard error and degrees of freedom."""

    exponent: float
    se: float
    degrees: int

    @property
    def ci95(self) -> tuple[float, float]:
        """Student's t."""
        half = t_quantile(self.degrees) * self.se
        return self.exponent - half, self.exponent + half


def growth(runs: Sequence[Mapping[str, Any]]) -> Growth:
    """Fit log seconds = a + exponent · log n to all runs by least squares.

    Args:
        runs: n and seconds, at least three.
    """
    import numpy as np
    from scipy.stats import linregress

    fit = linregress(
        np.log([run["n"] for run in runs]), np.log([max(run["seconds"], 1e-6) for run in runs])
    )
    return Growth(float(fit.slope), float(fit.stderr), len(runs) - 2)


def _price(level: Level) -> Estimate | None:
    """Return what the paper's answers take with the level's model; None where none is asked."""
    if level.model is None:
        return None
    options = EndpointOptions(cache=False)
    judge = open_judge(
        f"openai:{level.model}",
        base_url=_HOST,
        sees="frames" if level.way == "frames" else None,
        options=options,
    )
    return typical_verdicts(judge, PAPER_ANSWERS, options)


def _rows(
    name: str,
    level: Level,
    runs: Sequence[Mapping[str, Any]],
    price: Estimate | None,
    *,
    timed: bool,
) -> Iterator[dict[str, Any]]:
    """Yield a row for each n; its seconds where `timed`, so that a way's time is there once."""
    import statistics

    for n in sorted({run["n"] for run in runs}):
        here = [run for run in runs if run["n"] == n]
        part = n / PAPER_ANSWERS
        yield {
            "level": name,
            "n": n,
            "way": level.way,
            "model": level.model,
            "seconds_here": statistics.median(run["seconds"] for run in here) if timed else None,
            "mib_sent": here[0]["bytes"] / 2**20,
            "clips": here[0]["clips"],
            "tokens": price.tokens * part if price else 0.0,
            "dollars": 0.0 if price is None else _share(price.cost, part),
            "hours_served": price.seconds / 3600 * part if price else 0.0,
        }


def _share(cost: float | None, part: float) -> float | None:
    return None if cost is None else cost * part


def _way_row(way: str, runs: Sequence[Mapping[str, Any]], grown: Growth) -> dict[str, Any]:
    most = max(run["n"] for run in runs)
    largest = [run for run in runs if run["n"] == most]
    low, high = grown.ci95
    clips = largest[0]["clips"]
    return {
        "way": way,
        "exponent": grown.exponent,
        "low": low,
        "high": high,
        "n": most,
        "milliseconds_an_answer": 1000 * min(run["seconds"] for run in largest) / most,
        "bytes_an_answer": largest[0]["bytes"] / most,
        "answers_a_clip": most / clips if clips else None,
    }


def _paper_row(name: str, price: Estimate | None) -> dict[str, Any]:
    return {
        "level": name,
        "answers": PAPER_ANSWERS,
        "tokens_an_answer": price.tokens / PAPER_ANSWERS if price else 0.0,
        "dollars": price.cost if price else 0.0,
        "hours_served": price.seconds / 3600 if price else 0.0,
        "prices_of": price.priced if price else None,
    }


def _growth_sentence(contrast: Contrast, grown: Mapping[str, Growth]) -> str:
    """Say how both grow, and whether the exponents differ as was declared."""
    one, other = grown[contrast.of], grown[contrast.against]
    difference = one.exponent - other.exponent
    se, degrees = (one.se**2 + other.se**2) ** 0.5, one.degrees + other.degrees
    half = t_quantile(degrees) * se
    inside = abs(difference) + t_quantile(degrees, 0.95) * se < NO_EFFECT_MARGIN
    differs = abs(difference) > half
    holds = {
        "no_effect": True if inside else False if differs else None,
        "more": True if differs and difference > 0 else False if inside or differs else None,
        "less": True if differs and difference < 0 else False if inside or differs else None,
    }[contrast.expect]
    outcome = {
        True: "as declared beforehand",
        False: "which refutes what was declared",
        None: "which leaves the declared claim open",
    }[holds]
    return (
        f"This machine's time grows with n to the power of {_power(one)} for {contrast.of} and of"
        f" {_power(other)} for {contrast.against}: a difference of"
        f" {rounded(difference, 3, sign=True)}"
        f" (95 % {rounded(difference - half, 3, sign=True)} to"
        f" {rounded(difference + half, 3, sign=True)}), {outcome}."
    )


def _power(grown: Growth) -> str:
    low, high = grown.ci95
    return f"{rounded(grown.exponent, 3)} ({rounded(low, 3)} to {rounded(high, 3)})"


def _price_sentence(of: str, one: Estimate | None, against: str, other: Estimate | None) -> str:
    """Say what the paper's rewards would cost by both, at the prices of the table."""
    if not (one and other and one.cost and other.cost):
        return "One of the two has no price, so dollars cannot be compared."
    return (
        f"At the prices of {one.priced} the paper's {PAPER_ANSWERS:,} rewards cost about"
        f" {dollars(one.cost)} by {of} and {dollars(other.cost)} by {against},"
        f" {rounded(one.cost / other.cost, 1)} times as much, at"
        f" {round(one.tokens / PAPER_ANSWERS):,} and {round(other.tokens / PAPER_ANSWERS):,} tokens"
        " an answer."
    )
