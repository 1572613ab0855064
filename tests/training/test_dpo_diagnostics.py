"""Early warnings: thresholds by hand, real trainings that go wrong, and one that does not."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo._io import read_json, write_jsonl
from sharegptvideo.training import DpoRecipe, SftRecipe, run_recipe
from sharegptvideo.training.dpo_diagnostics import Diagnostics, DpoSettings

PLAIN = DpoSettings(beta=0.1, pairs=10, warmup=0, steps=100)


def entry(step: int, **figures: float) -> dict[str, Any]:
    """A line of a DPO that goes well, with some figures otherwise."""
    names = {"accuracy": "rewards/accuracies", "margin": "rewards/margins",
             "chosen": "rewards/chosen", "logp": "logps/chosen"}  # fmt: skip
    well = {"accuracy": 0.8, "margin": 0.5, "chosen": -0.1, "logp": -30.0}
    found = {names[key]: value for key, value in (well | figures).items()}
    return {"step": step, "loss": 0.6, **found}


def warnings(watch: Diagnostics, entries: list[dict[str, Any]]) -> list[str]:
    return [text for one in entries for text in watch.log_warnings(one)]


def test_a_training_that_goes_well_is_not_warned_of() -> None:
    assert warnings(Diagnostics(PLAIN), [entry(step) for step in range(1, 101)]) == []


@pytest.mark.parametrize(
    ("accuracy", "warned"),
    # 200 pairs: 0.5 + 1.96 · sqrt(1/4 / 200) = 0.5693
    [(0.5, True), (0.30, True), (0.569, True), (0.570, False), (0.65, False)],
)
def test_accuracy_is_held_against_chance(accuracy: float, warned: bool) -> None:
    found = warnings(Diagnostics(PLAIN), [entry(step, accuracy=accuracy) for step in range(1, 41)])
    assert len(found) == warned
    if warned:
        share = f"{100 * accuracy:.1f} % (95 % interval {100 * accuracy - 6.93:.1f} to "
        assert f"step 20: reward accuracy is stuck at {share}" in found[0]
        assert "; 200 pairs since step 1)" in found[0]


def test_chance_needs_pairs_and_is_not_looked_for_in_the_warm_up() -> None:
    """Of 19 steps of 10 pairs nothing can be said; nor of 20 when the first ten warm up."""
    entries = [entry(step, accuracy=0.5) for step in range(1, 30)]
    assert warnings(Diagnostics(PLAIN), entries[:19]) == []
    warming = DpoSettings(beta=0.1, pairs=10, warmup=10, steps=100)
    assert warnings(Diagnostics(warming), entries) == []
    found = warnings(Diagnostics(warming), [*entries, entry(30, accuracy=0.5)])
    assert len(found) == 1
    assert "; 200 pairs since step 11)" in found[0]


def test_in_a_long_training_a_tenth_of_it_is_looked_at() -> None:
    """10,000 pairs: the first 1,000 have to pass, however large a step is."""
    long = DpoSettings(beta=0.1, pairs=100, warmup=0, steps=100)
    entries = [entry(step, accuracy=0.5) for step in range(1, 11)]
    assert warnings(Diagnostics(long), entries[:9]) == []
    assert len(warnings(Diagnostics(long), entries)) == 1


def test_accuracy_that_rises_late_and_lines_of_several_steps() -> None:
    """A line of n steps weighs n times as much: 0.9 over 15 steps, then 0.5 over 5, is 0.8."""
    entries = [entry(1, accuracy=0.0), entry(16, accuracy=0.9), entry(21, accuracy=0.5)]
    assert warnings(Diagnostics(PLAIN), entries) == []
    turned = [entry(1, accuracy=0.0), entry(6, accuracy=0.9), entry(21, accuracy=0.45)]
    assert len(warnings(Diagnostics(PLAIN), turned)) == 1


def test_each_is_told_once() -> None:
    entries = [entry(step, accuracy=0.5, margin=30.0) for step in range(1, 101)]
    found = warnings(Diagnostics(PLAIN), entries)
    assert len(found) == 2
    assert "the margin between chosen and rejected has grown to 30.0" in found[0]


@pytest.mark.parametrize(
    ("chosen", "margin", "logp", "warned"),
    [
        # reward -2 = -20 nats; the reference's log-probability is logp + 20.
        (-2.0, 1.0, -60.0, True),  # -40 before: half of it lost, more than the margin of 10
        (-2.0, 1.0, -60.2, False),  # -40.2 before: a little less than half
        (-2.0, 2.1, -60.0, False),  # rejected ones fell by twice as much: DPO as usual
        (-0.19, 0.0, -3.0, False),  # 1.9 nats
        (-0.21, 0.0, -3.0, True),
        (2.0, -3.0, -3.0, False),  # chosen answers rose
    ],
)
def test_chosen_answers_that_become_less_likely(
    chosen: float, margin: float, logp: float, warned: bool
) -> None:
    entries = [entry(step, chosen=chosen, margin=margin, logp=logp) for step in range(1, 6)]
    assert warnings(Diagnostics(PLAIN), entries[:4]) == [], "50 pairs at the least"
    found = warnings(Diagnostics(PLAIN), entries)
    assert len(found) == warned
    if warned and chosen == -2.0:
        assert "log-probability −60.0, −40.0 under the reference" in found[0]
        assert "the margin over rejected ones is 10.0" in found[0]


@pytest.mark.parametrize(("margin", "warned"), [(10.1, True), (9.9, False), (-20.0, False)])
def test_margin(margin: float, warned: bool) -> None:
    entries = [entry(step, margin=margin) for step in range(1, 10)]
    assert len(warnings(Diagnostics(PLAIN), entries)) == warned


def lengths(words: float, *, error: float = 0.1, step: int = 5, first: float = 10.0) -> list[str]:
    watch = Diagnostics(PLAIN)
    rows = [
        {"step": 0, "task": "t", "words": first, "words_se": error},
        {"step": step, "task": "t", "words": words, "words_se": error},
    ]
    assert watch.evaluation_warnings(rows[0]) == []
    assert watch.evaluation_warnings(rows[1] | {"task": "another"}) == [], "of another task"
    return watch.evaluation_warnings(rows[1])


def test_length_of_answers() -> None:
    """1.5 times or less than 1/1.5 of what they were, and surely so: 1.96 · sqrt(2) · 2 = 5.5."""
    assert lengths(15.1)[0].startswith("step 5: answers to t have become longer: 15.1 words")
    assert "shorter: 6.6 words on average, 10.0 before the first step" in lengths(6.6)[0]
    assert lengths(14.9) == lengths(6.7) == []
    assert lengths(15.4, error=2.0) == []
    assert len(lengths(15.6, error=2.0)) == 1
    assert len(lengths(3.0, first=0.0)) == 1


def test_only_dpo_is_watched() -> None:
    watch = Diagnostics(None)
    assert warnings(watch, [entry(step, accuracy=0.0, margin=99.0) for step in range(1, 99)]) == []
    for step, words in ((0, 5.0), (1, 50.0)):
        assert watch.evaluation_warnings({"step": step, "task": "t", "words": words}) == []


# Real trainings.


@pytest.fixture
def many_pairs(
    release: Path, tmp_path: Path, dpo_recipe: DpoRecipe, change: Callable[..., Any]
) -> Callable[..., DpoRecipe]:
    """`many_pairs(random_labels=..., ...)`: DPO on 256 pairs about four clips, in 32 steps."""

    def make(*, random_labels: bool, **optimisation: Any) -> DpoRecipe:
        drawn = random.Random(0)
        colours = ("red", "green", "blue", "white")
        rows = []
        for number in range(256):
            right = colours[number % 4]
            wrong = drawn.choice([one for one in colours if one != right])
            answers = [f"It is {right}.", f"It is {wrong}."]
            if random_labels:
                answers = [f"It is {drawn.choice(colours)}." for _ in range(2)]
                while answers[0] == answers[1]:
                    answers[1] = f"It is {drawn.choice(colours)}."
            rows.append(
                {"id": f"p{number}", "video": f"clip_{right}", "prompt": "What colour is it?",
                 "answer": answers[0], "chosen": answers[0], "chosen_score": 5,
                 "rejected": answers[1], "rejected_score": 1}
            )  # fmt: skip
        root = tmp_path / f"random-{random_labels}"
        write_jsonl(root / "video_instruction" / "train" / "dpo" / "sft_dpo_17k.jsonl", rows)
        settings = {"max_steps": 30, "per_device_batch_size": 8, "warmup_ratio": 0.1}
        return change(  # type: ignore[no-any-return]
            dpo_recipe,
            data={"data_dir": str(root), "media": str(release)},
            optimisation=settings | optimisation,
            freeze={"vision_tower": True, "projector": False},
        )

    return make


def test_random_labels_are_noticed_in_training(many_pairs: Callable[..., DpoRecipe]) -> None:
    reported: list[str] = []
    recipe = many_pairs(random_labels=True, learning_rate=1e-5)
    result = run_recipe(recipe, report=reported.append)
    stuck = [text for text in reported if "reward accuracy is stuck at " in text]
    assert len(stuck) == 1
    assert stuck[0] in result.notes
    assert stuck[0] in read_json(Path(recipe.output) / "run.json")["notes"]
    card = (Path(recipe.output) / "README.md").read_text("utf-8")
    assert f"Noted in training: {stuck[0]}" in card


def test_labels_that_can_be_learnt_and_a_resume_are_quiet(
    many_pairs: Callable[..., DpoRecipe],
) -> None:
    reported: list[str] = []
    recipe = many_pairs(random_labels=False, learning_rate=1e-3)
    log = run_recipe(recipe, report=reported.append).log
    assert [text for text in reported if text.startswith("step ")] == []
    assert log[-1]["rewards/accuracies"] > 0.6, "the test needs one that learns"


def test_a_huge_learning_rate_is_noticed_and_a_resume_does_not_repeat_it(
    many_pairs: Callable[..., DpoRecipe], sft_recipe: SftRecipe, change: Callable[..., Any]
) -> None:
    """A model that knows its answers; random labels at a rate that breaks it."""
    known = change(sft_recipe, optimisation={"max_steps": 50, "learning_rate": 3e-3})
    run_recipe(known)
    recipe = many_pairs(random_labels=True, learning_rate=1e-2)
    recipe = recipe.model_copy(update={"save_every": 5, "model": known.output})
    reported: list[str] = []

    def stop(done: int, _total: int, what: str) -> None:
        if what.startswith("training") and done == 28:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, report=reported.append, progress=stop)
    first = [text for text in reported if "less likely" in text]
    assert len(first) == 1
    assert int(first[0].split(":")[0].removeprefix("step ")) <= 25, "the resume begins behind it"
    result = run_recipe(recipe, report=reported.append)
    assert result.resumed_from == 25
    assert [text for text in reported if "less likely" in text] == first
    assert [text for text in result.notes if "less likely" in text] == first


def test_what_was_noted_behind_the_checkpoint_is_noted_again(
    many_pairs: Callable[..., DpoRecipe],
) -> None:
    """Warned at step 25 or later, cut off, and resumed from step 10."""
    recipe = many_pairs(random_labels=True, learning_rate=1e-5)
    recipe = recipe.model_copy(update={"save_every": 10, "output": f"{recipe.output}-again"})
    reported: list[str] = []

    def stop(_done: int, _total: int, what: str) -> None:
        if what.startswith("training") and any("stuck" in text for text in reported):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, report=reported.append, progress=stop)
    assert sum("stuck" in text for text in reported) == 1
    result = run_recipe(recipe, report=reported.append)
    stuck = [text for text in reported if "stuck" in text]
    assert stuck[0] == stuck[-1], "the same steps, the same figures"
    assert [text for text in result.notes if "stuck" in text] == stuck[:1]
    assert len(stuck) == 2
