"""The page of a demo: what it did, and whether DPO helped, in one file, with clips that play."""

from sharegptvideo.reports.demo.page import write_page

__all__ = ["write_page"]
