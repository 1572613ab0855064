"""Experiments as files."""

from __future__ import annotations

from pathlib import Path

import pytest

from sharegptvideo._shipped import shipped
from sharegptvideo.errors import UserError
from sharegptvideo.study import SCALES, list_experiments, load_experiment
from sharegptvideo.study.catalogue import KINDS
from sharegptvideo.study.node import with_ancestors

FILES = sorted(shipped("eval/study").glob("*.yaml"))


def test_every_file_is_an_experiment_with_a_number_of_its_own():
    experiments = list_experiments()
    assert len(experiments) == len(FILES) > 0
    assert [one.number for one in experiments] == sorted({one.number for one in experiments})


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_file_opens_with_the_command_that_runs_it(file):
    assert f"#   sharegptvideo study run {file.stem}\n" in file.read_text(encoding="utf-8")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_seeds_share_no_world(file):
    experiment = load_experiment(file.stem)
    plan = KINDS[experiment.kind].plan(experiment, SCALES["small"], [0, 1])
    worlds = {
        seed: {
            node.key
            for (_, at), nodes in plan.items()
            if at == seed
            for node in with_ancestors(nodes.values())
            if node.stage == "world"
        }
        for seed in (0, 1)
    }
    assert not worlds[0] & worlds[1]


def test_a_level_that_its_kind_does_not_know_is_one_line(tmp_path: Path):
    text = (shipped("eval/study") / "video_used.yaml").read_text(encoding="utf-8")
    file = tmp_path / "video_used.yaml"
    file.write_text(text.replace("{clip: blank}", "{clips: blank}"), encoding="utf-8")
    with pytest.raises(
        UserError, match=r"level a blank clip in training: unknown key .*clips"
    ) as e:
        load_experiment(str(file))
    assert "\n" not in str(e.value)


def test_a_contrast_of_unknown_levels_is_refused(tmp_path: Path):
    text = (shipped("eval/study") / "video_used.yaml").read_text(encoding="utf-8")
    file = tmp_path / "video_used.yaml"
    changed = text.replace("  of: a blank clip in training", "  of: a blank clip in trainin")
    file.write_text(changed, encoding="utf-8")
    with pytest.raises(UserError, match="did you mean a blank clip in training"):
        load_experiment(str(file))


def test_unknown_experiment_names_the_nearest():
    with pytest.raises(UserError, match="did you mean video_used"):
        load_experiment("video_use")
