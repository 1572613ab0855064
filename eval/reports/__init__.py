"""The figures of a run as text."""

from sharegptvideo.eval.reports.text import format_estimate, format_share, markdown_table

__all__ = ["format_estimate", "format_share", "markdown_table"]
