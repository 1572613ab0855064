"""The pages of a published repository: its front page, and a card for each config.

The texts are the templates of `datasets_cards`; counts, splits, sources and the
example row are computed from the files that were written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from string import Template
from typing import Any

from sharegptvideo._text import byte_size, plural, shortened
from sharegptvideo.data.publish.facts import ConfigFacts
from sharegptvideo.data.schema import CLIP
from sharegptvideo.errors import UserError

__all__ = ["card", "changelog_entries", "front_page", "with_entry"]

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
    "release": "one of WebVid, VIDAL and ActivityNet; the row does not tell which",
}


def card(facts: ConfigFacts) -> str:
    """The card of one config, without the block for the Hub that its template opens with."""
    return facts.template.filled(
        example=_example(facts),
        splits=_splits(facts),
        origin=facts.origin,
        rights=_rights(facts),
    )


def _example(facts: ConfigFacts) -> str:
    row = json.dumps(_shortened(facts.example), ensure_ascii=False, indent=2)
    split = next(iter(facts.splits))
    text = f"The first row of `{split}`, long texts cut:\n\n```json\n{row}\n```"
    if facts.clips is None:
        return text
    return (
        f"A further column, `{CLIP}` (video, may be null), holds the clip itself: "
        f"{facts.clips.rows_with:,} rows have theirs, {facts.clips.rows_without:,} do not. "
        "Frame folders are in it as Motion-JPEG films of the same frames, two a second.\n\n" + text
    )


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        return shortened(value, _SHOWN)
    if isinstance(value, list):
        return [_shortened(one) for one in value]
    return {k: _shortened(v) for k, v in value.items()} if isinstance(value, dict) else value


def _splits(facts: ConfigFacts) -> str:
    lines = ["| split | rows | videos | files | size |", "| --- | --- | --- | --- | --- |"]
    for name, split in facts.splits.items():
        lines.append(
            f"| {name} | {split.rows:,} | {split.videos:,} | {len(split.files)} "
            f"| {byte_size(split.bytes)} |"
        )
    return "\n".join(lines)


def _rights(facts: ConfigFacts) -> str:
    if not facts.sources:
        return "All rows come under what is said above."
    lines = ["| source | rows | videos | terms of the clips |", "| --- | --- | --- | --- |"]
    for name, (rows, videos) in facts.sources.items():
        terms = _TERMS.get(name, "not known here; ask whoever published the rows")
        lines.append(f"| {_cell(name)} | {rows:,} | {videos:,} | {terms} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    """A text as one cell of a Markdown table."""
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split())


def front_page(
    configs: Sequence[ConfigFacts], *, repo_id: str, title: str, changelog: Sequence[str]
) -> str:
    """The front page, without its block for the Hub; `changelog` has the newest entry first."""
    first = configs[0]
    text = files("sharegptvideo.data.publish").joinpath("repository.md").read_text("utf-8")
    rows = sum(facts.rows for facts in configs)
    with_clips = any(facts.clips is not None for facts in configs)
    return Template(text).substitute(
        title=title,
        lead=f"{rows:,} rows in {plural(len(configs), 'config')}, as Parquet: captions, questions "
        "and preferences about videos, in the columns of the Python package `sharegptvideo`.",
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
        changelog="\n".join(changelog),
    )


def _line(facts: ConfigFacts) -> str:
    name = facts.config.name
    splits = facts.splits
    videos = sum(split.videos for split in splits.values())
    total = byte_size(sum(split.bytes for split in splits.values()))
    about = _cell(facts.template.title)
    return (
        f"| [`{name}`]({name}/README.md) | {about} | {', '.join(splits)} | {facts.rows:,} "
        f"| {videos:,} | {total} |"
    )


_HEADING = "## Changelog\n"


def changelog_entries(page: str) -> list[str]:
    """The entries of a page that `front_page` wrote, newest first; none where it has none."""
    _, found, rest = page.partition(_HEADING)
    section = rest.split("\n## ", 1)[0] if found else ""
    return [line for line in section.splitlines() if line.startswith("- ")]


def with_entry(earlier: Sequence[str], version: str, text: str) -> list[str]:
    """The entries with `- VERSION: TEXT` in front, unless it stands there already.

    Raises:
        UserError: the text is empty or has more than one line.
    """
    if not text.strip() or "\n" in text.strip():
        raise UserError("--changelog takes one line that says what is new")
    entry = f"- {version}: {text.strip()}"
    return list(earlier) if earlier and earlier[0] == entry else [entry, *earlier]
