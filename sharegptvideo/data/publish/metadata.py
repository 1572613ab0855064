"""What the Hub and `datasets` read: the block at the top of the front page, and `eval.yaml`.

`configs` names the files of each config and split, and `dataset_info` columns and counts, so
that `datasets.load_dataset(ID, "qa")` and the viewer work without this package. `eval.yaml`
makes the test sets a benchmark of the Hub (https://huggingface.co/docs/hub/eval-results): model
repositories name `task_id` from it in their `.eval_results`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from sharegptvideo.data.publish.facts import ConfigFacts

__all__ = ["EVAL_FILE", "FRAMEWORK", "eval_yaml", "front_matter"]

EVAL_FILE = "eval.yaml"

FRAMEWORK = "sharegptvideo"
"""Who scores: the Hub keeps a list of frameworks and shows a leaderboard only for those on it;
other names are taken as they are."""

_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
_MORE = "1M<n<10M"


def front_matter(configs: Sequence[ConfigFacts], *, repo_id: str, title: str) -> str:
    """The front page's block, with its `---` lines."""
    heads = [facts.template.head for facts in configs]
    licences = {head["license"] for head in heads}
    rows = sum(facts.rows for facts in configs)
    block: dict[str, Any] = {"pretty_name": title}
    if len(licences) == 1:
        block["license"] = licences.pop()
    else:
        block["license"] = "other"
        block["license_name"] = "by-config"
        block["license_link"] = f"https://huggingface.co/datasets/{repo_id}#licences"
    for name in ("language", "task_categories", "tags"):
        block[name] = _union(head[name] for head in heads)
    block["size_categories"] = [next((size for most, size in _SIZES if rows < most), _MORE)]
    block["configs"] = [_config(facts, default=number == 0) for number, facts in enumerate(configs)]
    infos = [_info(facts) for facts in configs]
    block["dataset_info"] = infos[0] if len(infos) == 1 else infos
    text = yaml.safe_dump(block, sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{text}---\n"


def _union(lists: Any) -> list[str]:
    return list(dict.fromkeys(value for values in lists for value in values))


def _config(facts: ConfigFacts, *, default: bool) -> dict[str, Any]:
    name = facts.config.name
    entry: dict[str, Any] = {"config_name": name}
    if default:
        entry["default"] = True
    entry["data_files"] = [
        {"split": split, "path": f"{name}/{split}-*.parquet"} for split in facts.splits
    ]
    return entry


def _info(facts: ConfigFacts) -> dict[str, Any]:
    splits = facts.splits
    return {
        "config_name": facts.config.name,
        "features": facts.features._to_yaml_list(),
        "splits": [
            {"name": name, "num_bytes": split.data_bytes, "num_examples": split.rows}
            for name, split in splits.items()
        ],
        "download_size": sum(split.bytes for split in splits.values()),
        "dataset_size": sum(split.data_bytes for split in splits.values()),
    }


def eval_yaml(configs: Sequence[ConfigFacts], *, title: str) -> str | None:
    """`eval.yaml` for the test sets among the configs; None where there are none."""
    tests = [facts for facts in configs if facts.config.is_task and "test" in facts.splits]
    if not tests:
        return None
    content = {
        "name": title,
        "description": "Questions about videos with reference answers: "
        + "; ".join(facts.template.title for facts in tests)
        + ". Accuracy is the share of answers that a judge accepts; a model that fails to "
        "answer is wrong.",
        "evaluation_framework": FRAMEWORK,
        "tasks": [
            {"id": facts.config.name, "config": facts.config.name, "split": "test"}
            for facts in tests
        ],
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
