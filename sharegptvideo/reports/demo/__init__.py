"""`DIR/index.html`: what a demo did and found, on one page that loads nothing."""

from sharegptvideo.reports.demo.writing import write_page

__all__ = ["write_page"]
