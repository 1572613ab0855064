"""A stream whose rows are of their types already, so that `datasets` need not make them so.

`datasets` encodes and decodes every value of every streamed row again, which takes several times
as long as reading it. Our readers give what the features say; the stream says so.
"""

from __future__ import annotations

from typing import Any

from datasets import Features
from datasets.iterable_dataset import ExamplesIterable

__all__ = ["TypedRows"]


class TypedRows(ExamplesIterable):  # type: ignore[misc]  # datasets is untyped
    """`ExamplesIterable` with rows that have exactly the values that `features` decodes to."""

    def __init__(self, rows: ExamplesIterable, features: Features) -> None:
        super().__init__(rows.generate_examples_fn, rows.kwargs, rows.generate_more_kwargs_fn)
        self._typed_features = features

    @property
    def features(self) -> Features:
        """What the rows are; asked for these, `datasets` passes them on as they come.

        `is_typed` stays false: it would keep `cast` from casting.
        """
        return self._typed_features

    def shuffle_data_sources(self, *args: Any, **kwargs: Any) -> TypedRows:
        """As `ExamplesIterable`, typed still."""
        return TypedRows(super().shuffle_data_sources(*args, **kwargs), self._typed_features)

    def shard_data_sources(self, *args: Any, **kwargs: Any) -> TypedRows:
        """As `ExamplesIterable`, typed still."""
        return TypedRows(super().shard_data_sources(*args, **kwargs), self._typed_features)
