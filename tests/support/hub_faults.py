"""What goes wrong on demand: a list of faults that the test Hub looks through at each request."""

from __future__ import annotations

import re
import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal, get_args

__all__ = ["Fault", "Faults", "Kind"]

Kind = Literal[
    "status",
    "drop",
    "lost",
    "cut",
    "cut-whole",
    "stall",
    "short",
    "wrong",
    "ignore-range",
    "endless",
]


@dataclass
class Fault:
    """One fault; `times` counts down to 0, `hits` says how often it was taken.

    `struck` is set when it has done its harm: `fault.struck.wait(10)`, then kill the client.
    """

    match: re.Pattern[str]
    kind: Kind
    method: str | None
    after: int
    times: int
    status: int
    headers: dict[str, str]
    skip: int
    hits: int = 0
    struck: threading.Event = field(default_factory=threading.Event)


@dataclass
class Faults:
    """The faults in force, in the order in which they were added."""

    all: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(
        self,
        match: str = "",
        kind: Kind = "status",
        *,
        method: str | None = None,
        after: int = 0,
        times: int = 1,
        skip: int = 0,
        status: int = 500,
        retry_after: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> Fault:
        """Let the next `times` requests fail whose path holds the regular expression `match`.

        Paths are without the query and unquoted; that of a file's bytes ends in its path in the
        repository. `method` narrows it, and the first `skip` of them pass. Kinds:

        - `status`: answers `status`, with `Retry-After: retry_after` where given.
        - `drop`: closes the connection instead of doing anything.
        - `lost`: does what was asked and closes the connection instead of saying so.

        and these only where a file's own bytes move, so that no other request uses them up:

        - `cut`: closes the connection after `after` bytes, sent or (an upload) received.
        - `cut-whole`: does the same to a file that it sends from its beginning, with 200, even
          where a part was asked for.
        - `stall`: after `after` bytes, sends or reads nothing more until the client closes.
        - `short`: sends `after` bytes and claims that this is all.
        - `wrong`: sends the right number of bytes, the one at `after` changed.
        - `endless`: sends 200 MB after the file; struck when the client closes before.
        - `ignore-range`: sends the whole file, with 200, to a client that asks for a part.
        """
        assert kind in get_args(Kind), f"no kind of fault {kind!r}"
        extra = dict(headers or {})
        if retry_after is not None:
            extra["Retry-After"] = str(retry_after)
        fault = Fault(re.compile(match), kind, method, after, times, status, extra, skip)
        with self._lock:
            self.all.append(fault)
        return fault

    def clear(self) -> None:
        """No more faults."""
        with self._lock:
            self.all.clear()

    def take(self, method: str, path: str, kinds: Collection[Kind]) -> Fault | None:
        """The first fault of these kinds for a request, used up once."""
        with self._lock:
            for fault in self.all:
                if (
                    fault.times > 0
                    and fault.kind in kinds
                    and fault.method in {None, method}
                    and fault.match.search(path)
                ):
                    if fault.skip > 0:
                        fault.skip -= 1
                        continue
                    fault.times -= 1
                    fault.hits += 1
                    return fault
        return None
