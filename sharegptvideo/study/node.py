"""What an experiment is made of: pieces of work that are kept by the hash of their settings."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sharegptvideo._concurrency import Progress
from sharegptvideo._io import dumps, read_json, sha256_text
from sharegptvideo.errors import UserError

__all__ = ["DONE", "Findings", "Node", "Stage", "Work", "read_done", "with_ancestors"]

DONE = "done.json"
"""What a finished piece of work has in its folder: `identity`, `findings`, `seconds`."""

Findings = dict[str, Any]


@dataclass(frozen=True)
class Node:
    """One piece of work: a stage, its settings, and the pieces that it builds on.

    Equal settings on equal parents are one piece, whichever experiment asks for it.

    Attributes:
        stage: a name of `sharegptvideo.study.catalogue.all_stages()`.
        version: of the stage; raised where the same settings come to give something else.
        settings: all that the result depends on, as plain JSON values.
        parents: by the names under which the stage knows them.
        label: for people, such as "judge quality, flips 20 %, seed 3"; no part of what it is.
    """

    stage: str
    version: int
    settings: Mapping[str, Any]
    parents: Mapping[str, Node] = field(default_factory=dict)
    label: str = field(default="", compare=False)

    @functools.cached_property
    def key(self) -> str:
        """The stage's name and a hash: the name of the node's folder."""
        return f"{self.stage}-{sha256_text(dumps(self.identity()))[:16]}"

    def identity(self) -> dict[str, Any]:
        """Return all that the key is made of."""
        return {
            "stage": self.stage,
            "version": self.version,
            "settings": self.settings,
            "parents": {name: parent.key for name, parent in sorted(self.parents.items())},
        }


@dataclass(frozen=True, slots=True)
class Work:
    """What a stage gets: the folder that is its own, its settings, and its parents' folders.

    The folder may hold what an interrupted call has left there; the work goes on from that.
    """

    folder: Path
    settings: Mapping[str, Any]
    inputs: Mapping[str, Path]
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """A kind of work.

    Attributes:
        work: does it, and returns findings as plain JSON values, which are kept.
        version: see `Node`.
        seconds: about how long one takes at scale `small` on one core, before any was measured.
    """

    work: Callable[[Work], Findings]
    version: int = 1
    seconds: float = 5.0


def with_ancestors(nodes: Iterable[Node]) -> Iterator[Node]:
    """Yield nodes and all that they build on, each once, parents first."""
    seen: set[str] = set()

    def walk(node: Node) -> Iterator[Node]:
        if node.key not in seen:
            seen.add(node.key)
            for parent in node.parents.values():
                yield from walk(parent)
            yield node

    for node in nodes:
        yield from walk(node)


def read_done(folder: Path) -> dict[str, Any] | None:
    """Return what a finished piece of work has left, None where it is not finished.

    Raises:
        UserError: the file is broken.
    """
    file = folder / DONE
    if not file.is_file():
        return None
    fix = f"remove {folder} and run the same command again"
    try:
        done = read_json(file)
    except UserError as error:
        raise UserError(f"{error}; {fix}", exit_code=1) from error
    if not isinstance(done, dict) or not {"findings", "seconds"} <= done.keys():
        raise UserError(f"{file}: not what a piece of work leaves; {fix}", exit_code=1)
    return done
