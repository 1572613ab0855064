"""The whole loop, offline: `sharegptvideo demo`.

Like `cli`, this package may use everything, and nothing but `cli` uses it.
"""

from sharegptvideo.demo.run import Watcher, run_demo

__all__ = ["Watcher", "run_demo"]
