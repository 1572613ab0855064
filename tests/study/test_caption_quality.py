"""Captions: facts covered and claimed, by hand on two clips; mentions of real captions, by eye."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sharegptvideo._io import read_jsonl, write_jsonl
from sharegptvideo.study.caption_quality import FACTS, CaptionQuality
from sharegptvideo.study.catalogue import load_experiment
from sharegptvideo.study.experiment import Contrast, Experiment
from sharegptvideo.study.kind import Done
from sharegptvideo.study.node import Work
from sharegptvideo.study.scales import SCALES
from sharegptvideo.synthetic import Sizes, build_world
from sharegptvideo.synthetic.state import ClipState, ObjectState

RING = ObjectState("ring", "red", "large", "right", "colour", "blue", None, (0, 0))
SQUARE = ObjectState("square", "green", "small", "still", "grow", None, None, (1, 0))
STATES = {
    "a": ClipState((RING,), "plain", True, "plain"),
    "b": ClipState((SQUARE,), "dotted", False, "plain"),
}
OWN = {
    "a": "The video shows one object on a dark plain background. A large red ring moves to the"
    " left, from the east to the west. Halfway through, the ring turns from red to white.",
    "b": "The video shows one object on a light dotted background. A small green square stays still"
    " in the north. Over time the square grows.",
}


def test_coverage_and_truth_by_hand(tmp_path: Path) -> None:
    """Clip a: objects 1/1, attributes 2/2, scene 3/3; motion, change and order of 1 each are wrong.

    Clip b: 8 facts, all covered, no order. Of all facts: (6/9 + 1) / 2; of changes (0 + 1) / 2;
    order is of clip a alone, so that the contrast with objects is 0 − 1 there, in both seeds.
    """
    levels: dict[str, dict[str, Any]] = {
        "all": {"of": "pretrained"},
        **{kind: {"of": "pretrained", "facts": kind} for kind in FACTS},
        "absent": {"of": "folder", "folder": str(tmp_path / "nowhere")},
    }
    experiment = _experiment(levels, of="order", against="objects")
    world, captions = tmp_path / "world", tmp_path / "captions"
    write_jsonl(
        world / "states.jsonl",
        [
            {"video": clip, "split": "test", "state": state.as_dict(), "questions": []}
            for clip, state in STATES.items()
        ],
    )
    write_jsonl(
        captions / "outcomes.jsonl", [{"video": clip, "caption": OWN[clip]} for clip in OWN]
    )
    done = _done(experiment, tmp_path, [0, 1], {"world": world, "captions": captions})
    result = CaptionQuality().analyse(experiment, done)
    table = {row["level"]: row for row in result.table}
    assert "absent" not in table
    assert result.notes == [
        f"absent is left out: {tmp_path / 'nowhere'}: no such folder, or no captions."
    ]
    coverage = {name: row["coverage"] for name, row in table.items()}
    assert coverage == pytest.approx(
        {
            "all": (6 / 9 + 1) / 2,
            "objects": 1,
            "attributes": 1,
            "scene": 1,
            "motion": 0.5,
            "change": 0.5,
            "order": 0,
        }
    )
    assert table["all"]["truth"] == pytest.approx((6 / 9 + 1) / 2)
    assert (table["order"]["coverage_clips"], table["change"]["coverage_clips"]) == (2, 4)
    assert result.contrast is not None
    assert (result.contrast["value"], result.contrast["n_clusters"]) == (pytest.approx(-1), 2)
    by_clip = {row["clip"]: row for row in result.tables["by_clip"]}
    assert (by_clip["colour"]["change"], by_clip["colour"]["order"]) == (0, 0)
    assert (by_clip["grow"]["change"], by_clip["grow"]["order"]) == (1, None)
    mentions = {(row["aspect"], row["group"]): row for row in result.tables["mentions"]}
    colours = mentions["attributes", "colour"]  # red, red, white; green
    assert (colours["a_caption"], colours["share"]) == (pytest.approx(4 / 2), 1)
    things = mentions["things", "introduced by an article"]
    # a: a dark ... background, a large ring; b: a light ... background, a small square
    assert things["a_caption"] == pytest.approx(2)


def test_captions_of_the_world_say_all_and_nothing_false(tmp_path: Path) -> None:
    """In 12 clips; with a third of their sentences left out they say less, with lies as much."""
    sizes = Sizes(train=1, preference=1, test=12, out_of_domain=1, images=1)
    build_world(tmp_path / "world", seed=1, sizes=sizes, workers=1)
    levels: dict[str, dict[str, Any]] = {
        "true": {"of": "world"},
        "less": {"of": "world", "omit": 0.4},
        "false": {"of": "world", "lie": 0.4},
    }
    experiment = _experiment(levels, of="less", against="true")
    done = _done(experiment, tmp_path, [0], {"world": tmp_path / "world"})
    table = {row["level"]: row for row in CaptionQuality().analyse(experiment, done).table}
    assert (table["true"]["coverage"], table["true"]["truth"]) == (1, 1)
    assert table["less"]["coverage"] < 0.8 < table["less"]["truth"]
    assert table["false"]["truth"] < 0.8
    assert table["false"]["words"] == table["true"]["words"] > table["less"]["words"]


def test_mentions_of_captions_that_others_wrote(shared_data: Path, tmp_path: Path) -> None:
    """The caption of `tgif_cat_drinks`, by eye.

    Things: a calico cat, a sink, a chrome tap, a thin stream, a round green object. Colours: green.
    Order: again, again. Places: under, beside (relation), close-up (depth).
    """
    folder = shared_data / "release"
    levels = {"release": {"of": "folder", "folder": str(folder)}, "own": {"of": "pretrained"}}
    experiment = _experiment(levels, of="own")
    node = CaptionQuality().plan(experiment, SCALES["tiny"], [0])["release", 0]["captions"]
    out = tmp_path / "out"
    out.mkdir()
    work = Work(out, node.settings, {})
    assert CaptionQuality.stages["caption_quality"].work(work)["n"] == 5
    rows = {row["video"]: row for _, row in read_jsonl(out / "captions.jsonl")}
    mentions = rows["tgif_cat_drinks"]["mentions"]
    assert mentions["things/introduced by an article"] == 5
    assert mentions["attributes/colour"] == 1
    assert mentions["time/order"] == 2
    assert (mentions["space/relation"], mentions["space/depth"]) == (2, 1)
    assert mentions["certainty/hedge"] == 0
    assert rows["tgif_cat_drinks"]["facts"] is None
    assert rows["msrvtt_clip"]["mentions"]["things/introduced by an article"] == 19


def test_a_folder_is_read_anew_where_its_files_change(tmp_path: Path) -> None:
    level = {"of": "folder", "folder": str(tmp_path)}
    experiment = _experiment({"some": level, "own": {"of": "pretrained"}}, of="own")
    keys = []
    for text in (None, "one", "longer"):
        if text is not None:
            (tmp_path / "rows.jsonl").write_text(text, encoding="utf-8")
        plan = CaptionQuality().plan(experiment, SCALES["tiny"], [0, 1])
        assert ("some", 1) not in plan  # no seed changes a folder
        keys.append(plan["some", 0]["captions"].key)
    assert len(set(keys)) == 3


def test_shipped_levels_share_pieces_of_work() -> None:
    """Eleven levels: three kinds of the world's captions, one of the model's own, a folder."""
    plan = CaptionQuality().plan(load_experiment("caption_quality"), SCALES["small"], [0])
    assert len({nodes["captions"].key for nodes in plan.values()}) == 5


def _experiment(levels: dict[str, Any], *, of: str, against: str = "") -> Experiment:
    return Experiment(
        name="made_up",
        number=1,
        title="t",
        question="q",
        kind="caption_quality",
        figure="coverage",
        seeds=2,
        levels=levels,
        contrast=Contrast(of=of, against=against, expect="less", refuted_by="as much"),
    )


def _done(
    experiment: Experiment, folder: Path, seeds: list[int], inputs: dict[str, Path]
) -> dict[tuple[str, int], dict[str, Done]]:
    """Do what the experiment plans, with these in place of the parents."""
    stage = CaptionQuality.stages["caption_quality"]
    done = {}
    for where, nodes in CaptionQuality().plan(experiment, SCALES["tiny"], seeds).items():
        node = nodes["captions"]
        out = folder / node.key
        out.mkdir(exist_ok=True)
        parents = {name: inputs[name] for name in node.parents}
        done[where] = {"captions": Done(out, stage.work(Work(out, node.settings, parents)), 1.0)}
    return done
