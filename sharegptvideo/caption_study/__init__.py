"""What a set of captions is like: length, words, repetition, what it speaks of.

`study` reads a folder and gives the figures of `stats.json`; `write_report` writes them, and the
page that shows them.
"""

from sharegptvideo.caption_study.report import prepare_folder, write_report
from sharegptvideo.caption_study.running import Settings, study

__all__ = ["Settings", "prepare_folder", "study", "write_report"]
