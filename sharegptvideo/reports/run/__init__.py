"""The figures of a run as text; `writing` puts them and every sample into a folder."""

from sharegptvideo.reports.run.text import (
    format_estimate,
    format_interval,
    markdown_table,
)

__all__ = ["format_estimate", "format_interval", "markdown_table"]
