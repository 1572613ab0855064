"""The pages of a published repository: its front page, a card for each config, and `eval.yaml`.

The texts are the templates of `datasets_cards`; counts, splits, sources and the
example row are computed from the files that were written.

The front page opens with the block that the Hub and `datasets` read: `configs` names the files of
each config and split, and `dataset_info` columns and counts, so that `datasets.load_dataset(ID,
"qa")` and the viewer work without this package. `eval.yaml` makes the test sets a benchmark of the
Hub (https://huggingface.co/docs/hub/eval-results): model repositories name `task_id` from it in
their `.eval_results`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from importlib.resources import files
from string import Template
from typing import Any

import yaml

from sharegptvideo._markdown import fenced, markdown_cell
from sharegptvideo._text import byte_size, number, plural, shortened
from sharegptvideo.data.publish.facts import UNKNOWN_SOURCE, ConfigFacts
from sharegptvideo.data.publish.shards import SplitFiles
from sharegptvideo.data.schema import CLIP
from sharegptvideo.errors import UserError

__all__ = [
    "EVAL_FILE",
    "FRAMEWORK",
    "card",
    "changelog_entries",
    "eval_yaml",
    "front_matter",
    "front_page",
    "with_entry",
]

_SHOWN = 400
_TERMS = {
    "WebVid": "WebVid (github.com/m-bain/webvid)",
    "VIDAL": "VIDAL-10M (github.com/PKU-YuanGroup/LanguageBind)",
    "ActivityNet": "ActivityNet (activity-net.org)",
    "MSRVTT": "MSR-VTT",
    "MSVD": "MSVD",
    "TGIF": "TGIF, for academic use (raingo.github.io/TGIF-Release)",
    "SSV2": "Something-Something v2",
    "synthetic": "rendered by sharegptvideo, Apache-2.0",
    UNKNOWN_SOURCE: "the rows do not say where these clips are from",
}


def card(facts: ConfigFacts) -> str:
    """Return the card of one config, without the block for the Hub that its template opens with."""
    text = facts.template.filled(
        example=_example(facts),
        splits=_splits(facts),
        origin=facts.origin,
        rights=_rights(facts),
    )
    if not facts.checks:
        return text
    lines = "\n".join(f"- {line}" for line in facts.checks)
    return f"{text.rstrip()}\n\n## Checks before publishing\n\n{lines}\n"


def _example(facts: ConfigFacts) -> str:
    row = json.dumps(_shortened(facts.example), ensure_ascii=False, indent=2)
    split = next(iter(facts.splits))
    text = f"The first row of `{split}`, long texts cut:\n\n{fenced(row, 'json')}"
    if facts.clips is None:
        return text
    return (
        f"A further column, `{CLIP}` (video, may be null), holds the clip itself: "
        f"{plural(facts.clips.rows_with, 'row')} with theirs, "
        f"{number(facts.clips.rows_without)} without. "
        "Frame folders are in it as Motion-JPEG films of the same frames, two a second.\n\n" + text
    )


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        return shortened(value, _SHOWN)
    if isinstance(value, list):
        return [_shortened(one) for one in value]
    return {k: _shortened(v) for k, v in value.items()} if isinstance(value, dict) else value


def _splits(facts: ConfigFacts) -> str:
    lines = ["| split | rows | media | files | size |", "| --- | --- | --- | --- | --- |"]
    for name, split in facts.splits.items():
        lines.append(
            f"| {name} | {number(split.rows)} | {_media([split])} | {number(len(split.files))} "
            f"| {byte_size(split.bytes)} |"
        )
    return "\n".join(lines)


def _media(splits: Iterable[SplitFiles]) -> str:
    """Return how many different videos and images the rows name, split by split."""
    splits = list(splits)
    counts = {
        "video": sum(split.videos for split in splits),
        "image": sum(split.images for split in splits),
    }
    return ", ".join(plural(count, noun) for noun, count in counts.items() if count) or "none"


def _rights(facts: ConfigFacts) -> str:
    if not facts.sources:
        return "All rows come under what is said above."
    lines = ["| source | rows | videos | terms of the clips |", "| --- | --- | --- | --- |"]
    for name, (rows, videos) in facts.sources.items():
        # Of rows without a description, `source` may be the reader's guess by a clip's name.
        known = {} if facts.template.neutral and name != "synthetic" else _TERMS
        terms = known.get(name, "not known here; ask the publisher of the rows")
        lines.append(f"| {markdown_cell(name)} | {number(rows)} | {number(videos)} | {terms} |")
    return "\n".join(lines)


def front_page(
    configs: Sequence[ConfigFacts], *, repo_id: str, title: str, changelog: Sequence[str]
) -> str:
    """Return the front page, without its block for the Hub; the changelog's newest entry first."""
    first = configs[0]
    text = files("sharegptvideo.data.publish").joinpath("repository.md").read_text("utf-8")
    rows = sum(facts.rows for facts in configs)
    with_clips = any(facts.clips is not None for facts in configs)
    return Template(text).substitute(
        title=markdown_cell(title),
        lead=f"{plural(rows, 'row')} in {plural(len(configs), 'config')}, as Parquet: captions, "
        "questions and preferences about videos and images, in the columns of the Python package "
        "`sharegptvideo`.",
        table="\n".join(_line(facts) for facts in configs),
        repo_id=repo_id,
        first=first.config.name,
        split=next(iter(first.splits)),
        clips=f"Where there is a column `{CLIP}`, the clip is in the row."
        if with_clips
        else "The clips are not in this repository.",
        licences="\n".join(
            f"| `{facts.config.name}` | {facts.template.licence} "
            f"([card]({facts.config.name}/README.md#licence)) |"
            for facts in configs
        ),
        checks=_checks_section(configs),
        changelog="\n".join(changelog),
    )


def _checks_section(configs: Sequence[ConfigFacts]) -> str:
    """Return the section with what the checks found and what is published all the same."""
    lines = [f"- `{one.config.name}`: {line}" for one in configs for line in one.checks]
    return "## Checks before publishing\n\n" + "\n".join(lines) + "\n\n" if lines else ""


def _line(facts: ConfigFacts) -> str:
    name = facts.config.name
    splits = facts.splits
    total = byte_size(sum(split.bytes for split in splits.values()))
    about = markdown_cell(facts.template.title)
    return (
        f"| [`{name}`]({name}/README.md) | {about} | {', '.join(splits)} | {number(facts.rows)} "
        f"| {_media(splits.values())} | {total} |"
    )


_HEADING = "## Changelog\n"


def changelog_entries(page: str) -> list[str]:
    """Return the entries of a page that `front_page` wrote, newest first."""
    section = page.partition(_HEADING)[2].split("\n## ", 1)[0]
    return [line for line in section.splitlines() if line.startswith("- ")]


def with_entry(earlier: Sequence[str], version: str, text: str) -> list[str]:
    """Return the entries with `- VERSION: TEXT` in front, unless it stands there already.

    Raises:
        UserError: the text is empty or has more than one line.
    """
    if not text.strip() or "\n" in text.strip():
        raise UserError("--changelog takes one line that says what is new")
    entry = f"- {version}: {text.strip()}"
    return list(earlier) if earlier and earlier[0] == entry else [entry, *earlier]


EVAL_FILE = "eval.yaml"

FRAMEWORK = "sharegptvideo"
"""The framework that scores. The Hub keeps the list of those that it knows; docs/hub-request.md
has the text that asks for this one."""

_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
_MORE = "1M<n<10M"


def front_matter(configs: Sequence[ConfigFacts], *, repo_id: str, title: str) -> str:
    """Return the front page's block, with its `---` lines."""
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
        if values := _union(head[name] for head in heads):
            block[name] = values
    block["size_categories"] = [next((size for most, size in _SIZES if rows < most), _MORE)]
    block["configs"] = [_config(facts, default=number == 0) for number, facts in enumerate(configs)]
    infos = [_info(facts) for facts in configs]
    block["dataset_info"] = infos[0] if len(infos) == 1 else infos
    text = yaml.safe_dump(block, sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{text}---\n"


def _union(lists: Iterable[list[str]]) -> list[str]:
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
    """Return `eval.yaml` for the test sets among the configs; None where there are none."""
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
