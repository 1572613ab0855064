"""The kinds of GPUs that a plan is made for: peak, memory, and the names that `--gpus` takes.

Nothing heavy is imported: a name with a typing mistake is refused at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sharegptvideo.errors import UserError, unknown_name

__all__ = ["GPUS", "Gpu", "Gpus", "parse_gpus"]

_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Gpu:
    """A kind of GPU.

    Attributes:
        teraflops: peak in bf16 without sparsity, accumulated in float32, 10¹² operations a second.
        memory: bytes on the device.
        source: where the figures are published.
        bf16: whether its tensor cores compute in bf16; else `teraflops` is for float16.
    """

    name: str
    teraflops: float
    memory: int
    source: str
    bf16: bool = True


def _table(*rows: tuple[str, float, int, str]) -> dict[str, Gpu]:
    return {
        name: Gpu(name, flops, size * _GIB, source, bf16=name not in {"V100", "T4"})
        for name, flops, size, source in rows
    }


GPUS: dict[str, Gpu] = _table(
    ("A100-40", 312, 40, "NVIDIA A100 data sheet"),
    ("A100-80", 312, 80, "NVIDIA A100 data sheet"),
    ("H100", 989, 80, "NVIDIA H100 data sheet, SXM5; half of the figure with sparsity"),
    ("H100-PCIe", 756, 80, "NVIDIA H100 data sheet, PCIe; half of the figure with sparsity"),
    ("H200", 989, 140, "NVIDIA H200 data sheet, SXM; half of the figure with sparsity"),
    ("B200", 2250, 179, "NVIDIA HGX B200 data sheet; half of the figure with sparsity"),
    ("L40S", 362, 48, "NVIDIA L40S data sheet"),
    ("L4", 121, 24, "NVIDIA L4 data sheet; half of the figure with sparsity"),
    ("A10", 125, 24, "NVIDIA A10 data sheet"),
    ("A6000", 155, 48, "NVIDIA RTX A6000 data sheet; half of the figure with sparsity"),
    ("3090", 71, 24, "NVIDIA Ampere GA102 white paper, table of GeForce cards"),
    ("4090", 165, 24, "NVIDIA Ada white paper, table of GeForce cards"),
    ("5090", 209, 32, "NVIDIA RTX Blackwell white paper, table of GeForce cards"),
    ("MI300X", 1307, 192, "AMD Instinct MI300X data sheet"),
    ("V100", 125, 32, "NVIDIA V100 data sheet; float16"),
    ("T4", 65, 16, "NVIDIA T4 data sheet; float16"),
)
"""Kinds of GPUs by the name that `--gpus` takes."""


@dataclass(frozen=True, slots=True)
class Gpus:
    """So many GPUs of one kind."""

    count: int
    gpu: Gpu

    def __str__(self) -> str:
        return f"{self.count} × {self.gpu.name}"


def parse_gpus(text: str) -> Gpus:
    """Read `8xH100`, `1x4090` or `L4`: how many of which; names without regard to case.

    Raises:
        UserError: a form or a name that is not known.
    """
    match = re.fullmatch(r"(?:(\d{1,5})\s*[x×*]\s*)?([\w-]+)", text.strip())
    if not match or match[1] == "0":
        raise UserError(f"--gpus {text!r}: write it as in 8xH100 or 1x4090")
    wanted = match[2].lower().removeprefix("rtx").strip("-_")
    for name, gpu in GPUS.items():
        if name.lower() == wanted or name.lower().replace("-", "") == wanted:
            return Gpus(int(match[1] or 1), gpu)
    near = [name for name in GPUS if name.lower().startswith(f"{wanted}-")]
    if near:
        raise UserError(f"--gpus {text!r}: which, {' or '.join(near)}?")
    raise unknown_name("kind of GPU", match[2], GPUS)
