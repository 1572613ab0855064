"""No test patches a private name of the package: what a test sets is an argument."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
# Private names of other projects, for which there is no other way.
THEIRS = {
    "_scaled_dot_product_efficient_attention",  # torch.ops.aten: only a GPU has it
    "_scaled_dot_product_flash_attention",  # likewise
    "_use_triton",  # TRL: its way on a GPU
    "torch.nn.attention.flex_attention._validate_device",
}


def patched(tree: ast.AST) -> Iterator[str]:
    """Yield the names, dotted or not, that `setattr` of pytest's monkeypatch is given."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "setattr"
        ):
            for word in node.args[:2]:
                if isinstance(word, ast.Constant) and isinstance(word.value, str):
                    yield word.value


def test_no_private_name_is_patched() -> None:
    found = [
        f"{path.relative_to(TESTS)}: {name}"
        for path in sorted(TESTS.rglob("*.py"))
        for name in patched(ast.parse(path.read_text(encoding="utf-8")))
        if name not in THEIRS
        and (last := name.rpartition(".")[2]).startswith("_")
        and not last.startswith("__")
    ]
    assert found == []
