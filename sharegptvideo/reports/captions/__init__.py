"""The page of `data stats`: what a set of captions is like, in tables and charts."""

from sharegptvideo.reports.captions.page import prepare_folder, write_report

__all__ = ["prepare_folder", "write_report"]
