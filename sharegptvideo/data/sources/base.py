"""What every source of rows offers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from sharegptvideo.data.schema import Config
from sharegptvideo.data.sources.report import OnError, ReadReport

__all__ = ["Row", "Source"]

Row = dict[str, Any]


class Source(Protocol):
    """A place that rows come from. Instances are small and can be pickled."""

    def splits(self, config: Config) -> tuple[str, ...]:
        """The splits that the source has of a config.

        Raises:
            UserError: it has none of the config's files; says where they were looked for.
        """
        ...

    def fingerprint(self, config: Config) -> list[str]:
        """Texts that change when the rows may have changed: the key of a cache."""
        ...

    def rows(
        self, config: Config, split: str, on_error: OnError, report: ReadReport
    ) -> Iterator[Row]:
        """The rows of one split in file order: all columns, checked, ids unique.

        Raises:
            UserError: `FILE:LINE: cause` for a row that breaks the schema, unless `on_error`
                is "skip"; then it is listed in `report`.
        """
        ...
