"""lmms-eval's command line with its Video-LLaVA adapter fixed, in this process only.

In 0.7.3 that adapter calls `read_video(path, 8)`, which takes the count by keyword.
`python lmms_eval_cli.py OPTIONS` is `lmms-eval OPTIONS` but for that.
"""

from __future__ import annotations

from typing import Any

__all__ = ["fix_video_llava"]


def fix_video_llava() -> None:
    """Let the adapter's `read_video(path, count)` work."""
    from lmms_eval.models.simple import video_llava

    read = video_llava.read_video

    def read_video(path: Any, count: int) -> Any:
        return read(path, num_frm=count)

    video_llava.read_video = read_video


if __name__ == "__main__":
    from lmms_eval.__main__ import cli_evaluate

    fix_video_llava()
    cli_evaluate()
