"""Everything whose identity is a version: where the version stands, and what it gives."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from tests.support.golden import Pin
from tests.support.golden_answers import answer_match, choices, claim_match, exact, exact_state
from tests.support.golden_build import captions_prompt, qa_prompt
from tests.support.golden_gates import gates
from tests.support.golden_lexicon import lexicon
from tests.support.golden_rows import pictures, tables, world
from tests.support.golden_training import training

__all__ = ["PINS"]


def _constant(module: str, name: str) -> Callable[[], int]:
    """Reads a constant when it is asked for, so that a test can change it."""
    return lambda: int(getattr(import_module(module), name))


def _lexicon_version() -> int:
    from sharegptvideo.data.stats.lexicon import built_in

    return built_in().version


def _captions_version() -> int:
    from sharegptvideo.build.captions import caption_wording

    return caption_wording().version


def _qa_version() -> int:
    from sharegptvideo.build.qa import qa_wording

    return qa_wording().version


_RULES, _WORLD = "RULES_VERSION", "WORLD_VERSION"

PINS = (
    Pin(
        "answer_match",
        _RULES,
        "sharegptvideo/judges/rules/answer_match.py",
        _constant("sharegptvideo.judges.rules.answer_match", _RULES),
        answer_match,
    ),
    Pin(
        "captions_prompt",
        "version",
        "datasets_cards/prompts/captions.yaml",
        _captions_version,
        captions_prompt,
    ),
    Pin(
        "choices",
        _RULES,
        "sharegptvideo/judges/rules/choices.py",
        _constant("sharegptvideo.judges.rules.choices", _RULES),
        choices,
    ),
    Pin(
        "claim_match",
        _RULES,
        "sharegptvideo/judges/rules/claim_match.py",
        _constant("sharegptvideo.judges.rules.claim_match", _RULES),
        claim_match,
    ),
    Pin(
        "exact",
        _RULES,
        "sharegptvideo/judges/exact.py",
        _constant("sharegptvideo.judges.exact", _RULES),
        exact,
    ),
    Pin(
        "exact_state",
        _RULES,
        "sharegptvideo/synthetic/exact.py",
        _constant("sharegptvideo.synthetic.exact", _RULES),
        exact_state,
    ),
    Pin(
        "gates",
        "GATES_VERSION",
        "sharegptvideo/build/gates.py",
        _constant("sharegptvideo.build.gates", "GATES_VERSION"),
        gates,
    ),
    Pin(
        "lexicon",
        "version",
        "sharegptvideo/data/stats/lexicon.yaml",
        _lexicon_version,
        lexicon,
    ),
    Pin(
        "qa_prompt",
        "version",
        "datasets_cards/prompts/qa.yaml",
        _qa_version,
        qa_prompt,
    ),
    Pin(
        "tables",
        "TABLES_VERSION",
        "sharegptvideo/data/registration.py",
        _constant("sharegptvideo.data.registration", "TABLES_VERSION"),
        tables,
    ),
    Pin(
        "world",
        _WORLD,
        "sharegptvideo/synthetic/world.py",
        _constant("sharegptvideo.synthetic.world", _WORLD),
        world,
    ),
    Pin(
        "world_pictures",
        _WORLD,
        "sharegptvideo/synthetic/world.py",
        _constant("sharegptvideo.synthetic.world", _WORLD),
        pictures,
        tolerance=3,  # levels of 255, for another build of the codec
    ),
    Pin(
        "training",
        "TRAINING_VERSION",
        "sharegptvideo/training/run_dir.py",
        _constant("sharegptvideo.training.run_dir", "TRAINING_VERSION"),
        training,
        tolerance=5e-4,  # for sums in another order, on another CPU; one step moves the loss more
    ),
)
