"""What every source of rows offers."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from sharegptvideo.data.schema import Config
from sharegptvideo.data.sources.report import OnError, ReadReport

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Part", "Row", "Source", "table_rows"]

Row = dict[str, Any]

Part = tuple[int, int]
"""A file of a split by its number, and a piece of it by its number."""


class Source(Protocol):
    """A place that rows come from. Instances are small and can be pickled."""

    def splits(self, config: Config) -> tuple[str, ...]:
        """Return the splits that the source has of a config.

        Raises:
            UserError: it has none of the config's files; says where they were looked for.
        """
        ...

    def fingerprint(self, config: Config) -> list[str]:
        """Texts that change when the rows may have changed: the key of a cache."""
        ...

    def parts(self, config: Config, split: str) -> list[Part] | None:
        """Parts of a split for several readers, in order; None where it has to be read whole.

        Raises:
            UserError: as `splits`.
        """
        ...

    def tables(
        self,
        config: Config,
        splits: Collection[str],
        on_error: OnError,
        report: ReadReport,
        parts: Collection[Part] | None = None,
    ) -> Iterator[tuple[str, pa.Table]]:
        """Yield `(split, table)` with the rows of some splits: all columns, checked.

        Each split's rows are in file order; tables of different splits may come mixed. `parts`
        are some of what `parts` gives for the only one of `splits`.

        Raises:
            UserError: `FILE:LINE: cause` for a row that breaks the schema, after the rows before
                it, unless `on_error` is "skip"; then it is listed in `report`.
        """
        ...


def table_rows(table: pa.Table) -> Iterator[Row]:
    """Yield the rows of a table as dicts."""
    names = table.column_names
    for values in zip(*(column.to_pylist() for column in table.columns), strict=True):
        yield dict(zip(names, values, strict=True))
