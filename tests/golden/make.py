"""Write the golden results anew: `python tests/golden/make.py [NAME ...]`, all without a name.

First raise the version that goes with what changed: results that differ under the same version are
not written, and the line that says so names the version.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.golden import renew
from tests.support.golden_pins import PINS


def main(names: list[str]) -> int:
    """Write the files of the pins called `names`; gives how many could not be."""
    known = {pin.name: pin for pin in PINS}
    if unknown := [name for name in names if name not in known]:
        print(f"no golden file is called {', '.join(unknown)}; there are {', '.join(known)}")
        return 2
    refused = 0
    for name in names or known:
        with tempfile.TemporaryDirectory() as scratch:
            problem = renew(known[name], Path(scratch))
        refused += problem is not None
        print(problem or f"{name}: written")
    return min(refused, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
