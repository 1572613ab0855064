"""What the cards of a published repository are made from: templates, and facts of the files.

Templates are those of `datasets_cards`, or one's own in their place; counts, sources and an
example row come from the files that were written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from sharegptvideo._io import parse_yaml, read_text
from sharegptvideo._shipped import shipped
from sharegptvideo.data.publish.clips import ClipCount
from sharegptvideo.data.publish.shards import SplitFiles, columns_of
from sharegptvideo.data.schema import Config, features
from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    from datasets import Features

__all__ = [
    "PLACES",
    "UNKNOWN_SOURCE",
    "CardTemplate",
    "ConfigFacts",
    "card_template",
    "count_sources",
    "first_row",
    "templates_folder",
]

PLACES = ("example", "origin", "splits", "rights")
"""Places to fill in: an example row, where the rows come from, counts by split and by source."""

UNKNOWN_SOURCE = "not known"
"""What stands for a `source` that is null."""

_LISTS = ("language", "task_categories", "tags")


@dataclass(frozen=True, slots=True)
class CardTemplate:
    """A card before it is filled in.

    Attributes:
        head: the block that it opens with: licence, language, task_categories, tags, title.
        body: the text below, with `$name` for each of `PLACES`.
        neutral: whether it says nothing of how the rows came about but what a run of building
            says of them.
        built: whether such a run made them.
    """

    head: dict[str, Any]
    body: str
    neutral: bool = False
    built: bool = False

    @property
    def title(self) -> str:
        """The config's title."""
        return str(self.head["pretty_name"])

    @property
    def licence(self) -> str:
        """The Hub's name for the licence of the rows."""
        return str(self.head["license"])

    def filled(self, **values: str) -> str:
        """Return the text with all places filled in."""
        return Template(self.body).substitute(values)


def templates_folder() -> Path:
    """Return the folder with the package's templates, to copy one from."""
    return shipped("datasets_cards")


def card_template(
    config: Config,
    cards: Path | None,
    *,
    described: bool,
    built: bool = False,
    licence: str | None = None,
) -> CardTemplate:
    """Return the template of a config: `cards/NAME.md` if it is there, else one of the package's.

    Args:
        config: which one.
        cards: a folder with templates of the user's own.
        described: whether the package's card of this config speaks of these very rows; any others
            get a neutral card.
        built: whether a run of building made the rows, and says how: a neutral card has that.
        licence: the licence that a neutral card names, as the Hub does; unknown if None.

    Raises:
        UserError: no such folder, or a template whose block or places are not right.
    """
    name = f"{config.name}.md"
    if cards is not None and not cards.is_dir():
        raise UserError(f"{cards}: no such folder; --cards is a folder with {name} and the like")
    if cards is not None and (cards / name).is_file():
        return _parsed(str(cards / name), read_text(cards / name))
    template = _parsed(name, (templates_folder() / name).read_text("utf-8"))
    return template if described else _neutral(config, template, licence, built)


def _neutral(
    config: Config, described: CardTemplate, licence: str | None, built: bool
) -> CardTemplate:
    """Return a card without a word about how the rows came about, but for what its places say."""
    if licence is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", licence):
        raise UserError(
            f"--license {licence!r}: name it as the Hub does, in small letters: cc-by-4.0, other"
        )
    head = {
        "license": licence or "unknown",
        "task_categories": described.head["task_categories"],  # they go by the columns
        "language": [],
        "tags": described.head["tags"],
        "pretty_name": f"Rows of the kind {config.name}",
    }
    text = (
        files("sharegptvideo.data.publish")
        .joinpath("built.md" if built else "neutral.md")
        .read_text("utf-8")
    )
    columns = (
        f"| `{column}` | {_type_of(feature)}"
        f"{', may be null' if column in config.nullable else ''} |"
        for column, feature in features(config.name).items()
    )
    body = Template(text).substitute(
        title=head["pretty_name"],
        name=config.name,
        columns="\n".join(columns),
        licence=f"`{licence}`" if licence else "the licence is not known",
    )
    return CardTemplate(head, body, neutral=True, built=built)


def _type_of(feature: Any) -> str:
    from datasets import Value

    return str(feature.dtype) if isinstance(feature, Value) else "list of {role, content}"


def _parsed(where: str, text: str) -> CardTemplate:
    parts = text.removeprefix("\ufeff").replace("\r\n", "\n").split("---\n", 2)
    if len(parts) != 3 or parts[0]:
        raise UserError(f"{where}: opens with no block between two lines of ---")
    head = parse_yaml(f"{where}: the block at the top", parts[1])
    head = head if isinstance(head, dict) else {}
    for name in ("pretty_name", "license"):
        if not isinstance(head.get(name), str):
            raise UserError(f"{where}: the block at the top has no text under {name!r}")
    for name in _LISTS:
        values = head.setdefault(name, [])
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise UserError(f"{where}: {name!r} in the block at the top is not a list of texts")
    body = Template(parts[2])
    unknown = [name for name in body.get_identifiers() if name not in PLACES]
    if unknown or not body.is_valid():
        wrong = f"${unknown[0]}" if unknown else "a $ before no name"
        places = ", ".join(f"${name}" for name in PLACES)
        raise UserError(f"{where}: {wrong} in the text (places: {places}; $$ is a dollar sign)")
    return CardTemplate(head, parts[2])


@dataclass(frozen=True, slots=True)
class ConfigFacts:
    """One config as it was written.

    Attributes:
        config: which one.
        template: its card, before it is filled in.
        splits: what was written of each, in the config's order; none is empty.
        origin: a sentence that says where these rows come from.
        example: the first row of the first split.
        sources: rows and videos by `source`, most rows first; empty without such a column.
        left: columns of the source that are not published, since no schema has them.
        clips: how many rows have their clip with them; None where clips were not put in.
        checks: a line for each check of `data validate` that the rows could fail and be published
            all the same: what it found.
    """

    config: Config
    template: CardTemplate
    splits: dict[str, SplitFiles]
    origin: str
    example: dict[str, Any]
    sources: dict[str, tuple[int, int]]
    left: tuple[str, ...]
    clips: ClipCount | None
    checks: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Rows of all splits."""
        return sum(files.rows for files in self.splits.values())

    @property
    def features(self) -> Features:
        """The columns as `datasets` knows them."""
        return columns_of(self.config, with_clips=self.clips is not None)


def first_row(config: Config, splits: dict[str, SplitFiles]) -> dict[str, Any]:
    """Return the first row of the first split, without its clip."""
    import pyarrow.parquet as pq

    path = next(iter(splits.values())).files[0]
    file = pq.ParquetFile(path, page_checksum_verification=True)
    batch = next(file.iter_batches(1, columns=list(config.columns)))
    row: dict[str, Any] = batch.to_pylist()[0]
    return row


def count_sources(config: Config, splits: dict[str, SplitFiles]) -> dict[str, tuple[int, int]]:
    """Count rows and videos by `source`, most rows first; empty without such a column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if "source" not in config.columns:
        return {}
    paths = [path for files in splits.values() for path in files.files]
    # File by file: read as one dataset, folder names could become columns.
    table = pa.concat_tables(
        pq.ParquetFile(path, page_checksum_verification=True).read(["source", "video"])
        for path in paths
    )
    grouped = table.group_by("source").aggregate([("video", "count"), ("video", "count_distinct")])
    counts = {
        row["source"] or UNKNOWN_SOURCE: (row["video_count"], row["video_count_distinct"])
        for row in grouped.to_pylist()
    }
    return dict(sorted(counts.items(), key=lambda item: (-item[1][0], item[0])))
