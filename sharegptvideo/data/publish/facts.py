"""What the cards tell of the files that were written: counts, sources, an example row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sharegptvideo.data.publish.shards import SplitFiles
from sharegptvideo.data.publish.templates import CardTemplate
from sharegptvideo.data.schema import CLIP, Config, features

if TYPE_CHECKING:
    from datasets import Features

__all__ = ["ClipCount", "ConfigFacts", "facts_of"]


@dataclass(slots=True)
class ClipCount:
    """Clips put into the files: rows with one, and rows whose clip was absent or unreadable."""

    rows_with: int = 0
    rows_without: int = 0


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
        released: whether the rows were read in the release's layout and are its own as far
            as can be told; the package's cards describe those.
        left: columns of the source that are not published, since no schema has them.
        clips: how many rows have their clip with them; None where clips were not put in.
    """

    config: Config
    template: CardTemplate
    splits: dict[str, SplitFiles]
    origin: str
    example: dict[str, Any]
    sources: dict[str, tuple[int, int]] = field(default_factory=dict)
    released: bool = True
    left: tuple[str, ...] = ()
    clips: ClipCount | None = None

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
        from datasets import Video

        found = features(self.config.name)
        if self.clips is not None:
            found[CLIP] = Video()
        return found


def facts_of(
    config: Config,
    template: CardTemplate,
    splits: dict[str, SplitFiles],
    origin: str,
    *,
    released: bool = True,
    left: tuple[str, ...] = (),
    clips: ClipCount | None = None,
) -> ConfigFacts:
    """The facts of files that lie on disk; reads two columns of them and one row."""
    import pyarrow.parquet as pq

    first = next(iter(splits.values())).files[0]
    batch = next(pq.ParquetFile(first).iter_batches(1, columns=list(config.columns)))
    sources = _sources(splits) if "source" in config.columns else {}
    example = batch.to_pylist()[0]
    return ConfigFacts(config, template, splits, origin, example, sources, released, left, clips)


def _sources(splits: dict[str, SplitFiles]) -> dict[str, tuple[int, int]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = [path for files in splits.values() for path in files.files]
    # File by file: read as one dataset, folder names could become columns.
    table = pa.concat_tables(pq.ParquetFile(path).read(["source", "video"]) for path in paths)
    grouped = table.group_by("source").aggregate([("video", "count"), ("video", "count_distinct")])
    found = {
        row["source"]: (row["video_count"], row["video_count_distinct"])
        for row in grouped.to_pylist()
    }
    return dict(sorted(found.items(), key=lambda item: (-item[1][0], item[0])))
