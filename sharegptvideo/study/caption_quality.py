"""How good captions are: which facts of a clip they cover, and what they speak of.

In the rendered world the facts of a clip are known, so that a caption's claims can be checked. Of
other captions only the words can be counted, and they are counted in the world's too.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from sharegptvideo._io import read_jsonl, sha256_text, write_jsonl
from sharegptvideo._strict import StrictModel
from sharegptvideo._text import percent, plural, points
from sharegptvideo.data.load import read_rows
from sharegptvideo.data.stats.counts import CaptionBatch, count_batch
from sharegptvideo.data.stats.lexicon import built_in, matcher
from sharegptvideo.eval.hierarchical import SeededEstimate, SeededScores, seeded_mean
from sharegptvideo.eval.tasks import load_questions, load_task
from sharegptvideo.study.degraded import lie, omit
from sharegptvideo.study.experiment import Experiment
from sharegptvideo.study.gains import contrast_figures, contrast_sentence
from sharegptvideo.study.kind import Chart, Done, Result
from sharegptvideo.study.loop import TASK, make_node, pretrain_node, world_node
from sharegptvideo.study.node import Findings, Node, Stage, Work
from sharegptvideo.study.scales import StudyScale
from sharegptvideo.study.transfer import Transfer
from sharegptvideo.synthetic import ClipState
from sharegptvideo.synthetic.facts import Fact, caption_facts, clip_facts

__all__ = ["FACTS", "CaptionQuality", "Level", "grouped"]

FactKind = Literal["objects", "attributes", "scene", "motion", "change", "order"]
FACTS: Mapping[FactKind, tuple[str, ...]] = {
    "objects": ("presence",),
    "attributes": ("colour", "size"),
    "scene": ("count", "background", "tone"),
    "motion": ("direction",),
    "change": ("change", "then colour", "then direction"),
    "order": ("order",),
}
"""Kinds of facts, by the attributes of `synthetic.facts` that belong to them, and order."""

_ORDERED = ("colour", "direction")
# What an article introduces is a thing, but for words that only count or point.
_THING = re.compile(
    r"\b(?:an?|another)\s+(?!(?:few|little|lot|bit|while|moment|time|variety|number|set)\b)[a-z]",
    re.IGNORECASE,
)
_THINGS = ("things", "introduced by an article")
_NEW_TOKENS = 96  # as experiment 6 has them: the same pieces of work where the model is
_READ = 100_000  # captions of a folder at most


class Level(StrictModel):
    """Captions, and the facts that are looked for in them.

    Attributes:
        of: `world`: the world's captions of unseen clips; `pretrained`: those of the model that was
            trained on captions, of the same clips; `folder`: of a folder, where nothing is known
            of the clips.
        facts: one kind of facts; None: all.
        omit: see `degraded.Reward`, of the world's captions.
        lie: likewise.
        folder: in the release's layout; a level is left out, with the reason, where it is missing.
    """

    of: Literal["world", "pretrained", "folder"]
    facts: FactKind | None = None
    omit: float = Field(default=0.0, ge=0, le=1)
    lie: float = Field(default=0.0, ge=0, le=1)
    folder: Path | None = None


def grouped(facts: Iterable[Fact]) -> dict[FactKind, frozenset[Fact]]:
    """Return facts by kind; where a thing has two values after each other, their order is one.

    >>> turns = [Fact("ring", "colour", "red"), Fact("ring", "then colour", "blue")]
    >>> [fact.value for fact in grouped(turns)["order"]]
    ['red, then blue']
    """
    known = {(fact.about, fact.attribute): fact.value for fact in facts}
    orders = [
        Fact(about, "order", f"{known[about, name]}, then {value}")
        for (about, attribute), value in known.items()
        for name in _ORDERED
        if attribute == f"then {name}" and (about, name) in known
    ]
    every = [Fact(*key, value) for key, value in known.items()] + orders
    return {
        kind: frozenset(fact for fact in every if fact.attribute in attributes)
        for kind, attributes in FACTS.items()
    }


def _inspect(work: Work) -> Findings:
    """Check and count captions. Settings: seed, of, omit, lie, folder, files, lexicon.

    Writes `captions.jsonl`: video, caption, kind (of the clip's change; of a folder the source),
    words, `mentions` by the lexicon's groups and, in the world, `facts`: by kind of facts how many
    are claimed, how many of these are true, and how many the clip has. Parents: world and, of
    `pretrained`, captions.
    """
    states = _states(work.inputs["world"]) if "world" in work.inputs else {}
    captions = list(_captions(work, list(states)))
    if not captions:
        return {"n": 0, "skipped": f"{work.settings['folder']}: no such folder, or no captions"}
    texts = [text for _, _, text in captions]
    counts = count_batch(
        CaptionBatch(
            [source for source, _, _ in captions], [clip for _, clip, _ in captions], texts
        )
    )
    rows = []
    for place, (source, clip, text) in enumerate(captions):
        mentions = {
            "/".join(_THINGS): len(_THING.findall(text)),
            **{
                "/".join(name): int(counts.marks[place, column])
                for column, name in enumerate(matcher().names)
            },
        }
        state = states.get(clip)
        rows.append(
            {
                "video": clip,
                "caption": text,
                "kind": source if state is None else _kind(state),
                "words": int(counts.lengths[place]),
                "mentions": mentions,
                "facts": None if state is None else _checked(text, state),
            }
        )
    write_jsonl(work.folder / "captions.jsonl", rows)
    return {"n": len(rows), "skipped": None}


def _states(world: Path) -> dict[str, ClipState]:
    return {
        row["video"]: ClipState.from_dict(row["state"])
        for _, row in read_jsonl(world / "states.jsonl")
        if row["split"] == "test"
    }


def _captions(work: Work, clips: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield (source, clip, caption)."""
    settings = work.settings
    if settings["of"] == "folder":
        folder = Path(settings["folder"])
        if settings["files"]:
            for place, row in enumerate(read_rows("captions", data_dir=folder)):
                if place == _READ:
                    break
                yield row["source"] or "folder", row["video"], row["caption"]
        return
    if settings["of"] == "pretrained":
        said = {
            row["video"]: row["caption"]
            for _, row in read_jsonl(work.inputs["captions"] / "outcomes.jsonl")
        }
    else:
        questions = load_questions(load_task(TASK), work.inputs["world"])
        said = {each.video: each.caption or "" for each in questions}
    for clip in clips:
        text = said[clip]
        draw = random.Random(f"{settings['seed']}/{clip}")  # as the degraded judge draws
        if settings["lie"]:
            text, _ = lie(text, "", settings["lie"], draw)
        if settings["omit"]:
            text = omit(text, settings["omit"], draw)
        yield "world", clip, text


def _kind(state: ClipState) -> str:
    """Return what changes in a clip; at most one object does."""
    return next((item.change for item in state.objects if item.change != "none"), "none")


def _checked(caption: str, state: ClipState) -> dict[str, dict[str, int]]:
    claimed, facts = grouped(caption_facts(caption)), grouped(clip_facts(state))
    return {
        kind: {
            "claimed": len(claimed[kind]),
            "true": len(claimed[kind] & facts[kind]),
            "facts": len(facts[kind]),
        }
        for kind in FACTS
    }


class CaptionQuality:
    """The kind of the experiment on captions: a level is captions and a kind of facts."""

    level = Level
    stages: Mapping[str, Stage] = {"caption_quality": Stage(_inspect, seconds=5)}

    def plan(
        self, experiment: Experiment, scale: StudyScale, seeds: Sequence[int]
    ) -> dict[tuple[str, int], dict[str, Node]]:
        """Return by level and seed the captions, checked and counted; a folder's of one seed."""
        levels = {name: Level.model_validate(each) for name, each in experiment.levels.items()}
        return {
            (name, seed): {"captions": _node(level, scale, seed)}
            for seed in seeds
            for name, level in levels.items()
            if level.of != "folder" or seed == seeds[0]
        }

    def analyse(
        self, experiment: Experiment, done: Mapping[tuple[str, int], Mapping[str, Done]]
    ) -> Result:
        """Return coverage and truth by level, by kind of clip, and what captions speak of."""
        levels = {name: Level.model_validate(each) for name, each in experiment.levels.items()}
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in levels}
        notes = []
        for (name, seed), nodes in sorted(done.items(), key=lambda each: each[0][1]):
            skipped = nodes["captions"].findings["skipped"]
            if skipped is not None:
                notes.append(f"{name} is left out: {skipped}.")
                continue
            rows[name] += [
                {**row, "seed": seed}
                for _, row in read_jsonl(nodes["captions"].folder / "captions.jsonl")
            ]
        there = {name: each for name, each in rows.items() if each}
        table = [_row(name, levels[name], each) for name, each in there.items()]
        contrast = contrast_figures(experiment.contrast, _compared(experiment, levels, rows))
        # Levels that differ in the facts only have the same words.
        sources: dict[str, list[dict[str, Any]]] = {}
        for name, each in there.items():
            sources.setdefault(_source(levels[name]), each)
        mentions = [row for name, each in sources.items() for row in _mentions(name, each)]
        return Result(
            table=table,
            contrast=contrast,
            charts=[
                Chart("points", "level", "coverage", "", experiment.figure,
                      low="coverage_low", high="coverage_high"),
                Chart("points", "level", "truth", "", "share of a caption's claims that are true",
                      low="truth_low", high="truth_high"),
            ],
            says=(contrast_sentence(contrast, "coverage"), _said(table)),
            tables={
                "by_clip": [row for name, each in sources.items() for row in _by_clip(name, each)],
                "mentions": mentions,
            },
            notes=notes,
        )  # fmt: skip


def _node(level: Level, scale: StudyScale, seed: int) -> Node:
    parents = {}
    if level.of != "folder":
        parents["world"] = world_node(scale, seed)
    if level.of == "pretrained":
        parents["captions"] = make_node(
            "captions",
            {"seed": seed, "max_new_tokens": _NEW_TOKENS},
            stages=dict(Transfer.stages),
            world=world_node(scale, seed),
            model=pretrain_node(scale, seed),
        )
    settings = {
        "seed": None if level.of == "folder" else seed,
        "of": level.of,
        "omit": level.omit,
        "lie": level.lie,
        "folder": None if level.folder is None else str(level.folder),
        "files": _files(level.folder),
        "lexicon": built_in().version,
    }
    return make_node("caption_quality", settings, stages=dict(CaptionQuality.stages), **parents)


def _files(folder: Path | None) -> str | None:
    """Return a hash of names and sizes of a folder's files of rows; None without any."""
    if folder is None or not folder.is_dir():
        return None
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".jsonl", ".parquet"))
    names = [f"{path.relative_to(folder)} {path.stat().st_size}" for path in files]
    return sha256_text("\n".join(names))[:16] if names else None


def _source(level: Level) -> str:
    """Name the captions of a level, whatever is looked for in them."""
    names = {"world": "the world's", "pretrained": "the model's own", "folder": str(level.folder)}
    made_worse = [f"{percent(share, 0)} {how}" for share, how in
                  ((level.omit, "left out"), (level.lie, "false")) if share]  # fmt: skip
    return ", ".join([names[level.of], *made_worse])


def _shares(
    rows: Sequence[Mapping[str, Any]], kinds: Iterable[FactKind], part: str, whole: str
) -> SeededScores:
    """Return a clip's share of some counts of facts, for the clips that have any."""
    values = []
    for row in rows:
        counts = [row["facts"][kind] for kind in kinds]
        size = sum(each[whole] for each in counts)
        if size:
            share = sum(each[part] for each in counts) / size
            values.append((share, row["seed"], row["video"]))
    shares, seeds, clips = zip(*values, strict=True) if values else ((), (), ())
    return SeededScores(shares, seeds, clips, clips)


def _kinds_of(level: Level) -> tuple[FactKind, ...]:
    return tuple(FACTS) if level.facts is None else (level.facts,)


def _compared(
    experiment: Experiment, levels: Mapping[str, Level], rows: Mapping[str, list[dict[str, Any]]]
) -> dict[str, SeededScores]:
    """Return coverage by clip of the declared two levels, on the clips that have facts of both."""
    names = [name for name in (experiment.contrast.of, experiment.contrast.against) if name]
    shares = {name: _shares(rows[name], _kinds_of(levels[name]), "true", "facts") for name in names}
    both = set.intersection(
        *(set(zip(each.seeds, each.clips, strict=True)) for each in shares.values())
    )
    return {
        name: _shares(
            [row for row in rows[name] if (row["seed"], row["video"]) in both],
            _kinds_of(levels[name]),
            "true",
            "facts",
        )
        for name in names
    }


def _row(name: str, level: Level, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    known = level.of != "folder"
    kinds = _kinds_of(level)
    row: dict[str, Any] = {
        "level": name,
        "source": _source(level),
        "facts": level.facts or "all",
        "captions": len(rows),
        "words": _mean(rows, lambda each: float(each["words"])).value,
    }
    for column, part, whole in (("coverage", "true", "facts"), ("truth", "true", "claimed")):
        estimate = seeded_mean(_shares(rows if known else (), kinds, part, whole))
        low, high = estimate.ci95 or (None, None)
        row |= {column: estimate.value, f"{column}_low": low, f"{column}_high": high}
        row |= {f"{column}_clips": estimate.n_clusters}
    return row


def _mean(
    rows: Sequence[Mapping[str, Any]], value: Callable[[Mapping[str, Any]], float]
) -> SeededEstimate:
    clips = [f"{place}/{row['video']}" for place, row in enumerate(rows)]
    return seeded_mean(
        SeededScores([value(row) for row in rows], [row["seed"] for row in rows], clips, clips)
    )


def _by_clip(source: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield coverage by what changes in the clip and kind of facts."""
    for kind in sorted({row["kind"] for row in rows if row["facts"] is not None}):
        of_kind = [row for row in rows if row["kind"] == kind]
        shares: dict[str, float | None] = {
            facts: seeded_mean(_shares(of_kind, (facts,), "true", "facts")).value for facts in FACTS
        }
        yield {"source": source, "clip": kind, "captions": len(of_kind), **shares}


def _mentions(source: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield for each group of the lexicon how often a caption has it; interval over captions."""
    from sharegptvideo.eval.statistics import clustered_mean

    words = sum(row["words"] for row in rows)
    clips = [f"{row['seed']}/{row['video']}" for row in rows]
    for group in rows[0]["mentions"]:
        counts = [row["mentions"][group] for row in rows]
        mean = clustered_mean(counts, clips)
        low, high = mean.ci95 or (None, None)
        aspect, _, name = group.partition("/")
        yield {
            "source": source,
            "aspect": aspect,
            "group": name,
            "captions": len(rows),
            "a_caption": mean.value,
            "low": low,
            "high": high,
            "share": sum(count > 0 for count in counts) / len(rows),
            "in_100_words": 100 * sum(counts) / words if words else None,
        }


def _said(table: Sequence[Mapping[str, Any]]) -> str:
    """Say which facts are covered most and least, and what was counted without truth."""
    own = [row for row in table if row["facts"] != "all" and row["coverage"] is not None]
    if not own:
        return "No level looks for one kind of facts."
    best = max(own, key=lambda row: row["coverage"])
    least = min(own, key=lambda row: row["coverage"])
    counted = [row for row in table if row["coverage"] is None]
    rest = f"; {plural(len(counted), 'level')} without known facts could only be counted"
    return (
        f"{best['level']} is covered best ({points(best['coverage'])} % of the facts,"
        f" {points(best['truth'])} % of the claims true), {least['level']} least"
        f" ({points(least['coverage'])} %, {points(least['truth'])} %)"
        f"{rest if counted else ''}."
    )
