"""What the cards of a published repository are made from: templates, and facts of the files.

Templates are those of `datasets_cards`, or one's own in their place; counts, sources and an
example row come from the files that were written.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from sharegptvideo._io import parse_yaml, read_text
from sharegptvideo._shipped import shipped
from sharegptvideo.data.publish.clips import ClipCount
from sharegptvideo.data.publish.shards import SplitFiles, columns_of
from sharegptvideo.data.schema import Config
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
        own: whether it is the user's, not the package's.
    """

    head: dict[str, Any]
    body: str
    own: bool

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


def card_template(config: Config, cards: Path | None) -> CardTemplate:
    """Return the template of a config: `cards/NAME.md` if it is there, else the package's.

    Raises:
        UserError: no such folder, or a template whose block or places are not right.
    """
    name = f"{config.name}.md"
    if cards is not None and not cards.is_dir():
        raise UserError(f"{cards}: no such folder; --cards is a folder with {name} and the like")
    own = cards is not None and (cards / name).is_file()
    if not own or cards is None:
        text = (templates_folder() / name).read_text("utf-8")
        return _parsed(name, text, own=False)
    return _parsed(str(cards / name), read_text(cards / name), own=True)


def _parsed(where: str, text: str, *, own: bool) -> CardTemplate:
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
    return CardTemplate(head, parts[2], own)


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
        released: whether the rows were read in the release's layout and seem to be its own;
            the package's cards describe those.
        left: columns of the source that are not published, since no schema has them.
        clips: how many rows have their clip with them; None where clips were not put in.
    """

    config: Config
    template: CardTemplate
    splits: dict[str, SplitFiles]
    origin: str
    example: dict[str, Any]
    sources: dict[str, tuple[int, int]]
    released: bool
    left: tuple[str, ...]
    clips: ClipCount | None

    @property
    def describes_others(self) -> bool:
        """Whether the card may speak of rows that were made in another way than these."""
        return not self.released and not self.template.own

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
