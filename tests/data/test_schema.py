"""The columns that users were promised, and the Features that follow from the row types."""

from __future__ import annotations

import pytest
from datasets import List, Value

from sharegptvideo.data.schema import CONFIGS, features

TASK = "id video question answer caption? question_type?"
TASKS = (
    "msvd_qa",
    "msrvtt_qa",
    "tgif_qa",
    "activitynet_qa",
    "ssv2_qa",
    "vidal_qa",
    "webvid_qa",
    "msvd_qa_official",
    "msrvtt_qa_official",
    "tgif_qa_official",
    "activitynet_qa_official",
    "synthetic_qa",
    "synthetic_ood_qa",
)
PROMISED = {
    "captions": "id video source? prompt caption",
    "qa": "id video source? question answer caption?",
    "sft": "id video? image? messages",
    "image_captions": "id image prompt caption",
    "preferences": (
        "id video source? prompt chosen rejected chosen_score? rejected_score? answer? caption?"
    ),
    **dict.fromkeys(TASKS, TASK),
}


def test_configs_are_those_promised() -> None:
    assert set(CONFIGS) == set(PROMISED)


@pytest.mark.parametrize("name", CONFIGS)
def test_columns_and_nullability(name: str) -> None:
    config = CONFIGS[name]
    reported = [column + "?" * (column in config.nullable) for column in config.columns]
    assert reported == PROMISED[name].split()
    assert list(features(name)) == list(config.columns)
    paths = [f"{medium}_path" for medium in ("video", "image") if medium in config.columns]
    assert list(features(name, media=True)) == [*config.columns, *paths]


def test_feature_types() -> None:
    assert features("preferences")["chosen_score"] == Value("float64")
    assert features("qa")["caption"] == Value("string")
    assert features("sft")["messages"] == List(
        {"role": Value("string"), "content": Value("string")}
    )


def test_splits_of_training_and_test_sets() -> None:
    assert CONFIGS["qa"].splits == ("train", "validation")
    assert CONFIGS["msvd_qa"].splits == CONFIGS["msvd_qa_official"].released == ("test",)
    # Converted from the authors' files, all three are there; the one to show first leads.
    assert CONFIGS["msvd_qa_official"].splits == ("test", "train", "validation")
    assert CONFIGS["activitynet_qa_official"].released == ()
    assert [name for name, config in CONFIGS.items() if not config.is_task] == [
        "captions",
        "qa",
        "sft",
        "image_captions",
        "preferences",
    ]
