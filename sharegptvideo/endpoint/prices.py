"""What a model costs, from a dated table that a user's own file goes before."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sharegptvideo._io import parse_yaml, read_text
from sharegptvideo.errors import UserError

__all__ = ["Price", "find_price"]

# Where the table does not say: as most models cut a picture of 768 pixels.
_IMAGE_TOKENS = 1600


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per token; `batch` is the share of it under the Batch API; `date` of the table."""

    prompt: float
    completion: float
    image_tokens: int
    batch: float
    date: str

    def of(self, prompt_tokens: float, completion_tokens: float, *, batch: bool = False) -> float:
        """US dollars for a call."""
        cost = prompt_tokens * self.prompt + completion_tokens * self.completion
        return cost * self.batch if batch else cost


class _Entry(BaseModel):
    """US dollars per million tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: float = Field(ge=0, allow_inf_nan=False)
    completion: float = Field(ge=0, allow_inf_nan=False)
    image_tokens: int = Field(default=_IMAGE_TOKENS, ge=0)


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    date: datetime.date
    batch: float = Field(default=0.5, ge=0, le=1)
    hosts: dict[str, dict[str, _Entry]]

    def find(self, host: str, model: str) -> Price | None:
        """The entry whose name fits and is longest."""
        entries = self.hosts.get(host, {})
        fitting = [
            name
            for name in entries
            if name == model or (name.endswith("*") and model.startswith(name[:-1]))
        ]
        if not fitting:
            return None
        entry = entries[max(fitting, key=lambda name: (name == model, len(name)))]
        return Price(
            prompt=entry.prompt / 1e6,
            completion=entry.completion / 1e6,
            image_tokens=entry.image_tokens,
            batch=self.batch,
            date=self.date.isoformat(),
        )


def find_price(base_url: str, model: str, file: Path | None = None) -> Price | None:
    """The price of `model` at an endpoint: from `file`, else from the table that comes along.

    Raises:
        UserError: `file` cannot be read, or is no such table; says where.
    """
    host = urlsplit(base_url).hostname or ""
    for table in ([_read(file)] if file else []) + [_builtin()]:
        found = table.find(host, model)
        if found is not None:
            return found
    return None


@cache
def _builtin() -> _Table:
    text = (resources.files(__package__) / "prices.yaml").read_text(encoding="utf-8")
    return _Table.model_validate(parse_yaml("prices.yaml", text))


def _read(file: Path) -> _Table:
    text = read_text(file, "name another file as --prices")
    try:
        return _Table.model_validate(parse_yaml(str(file), text))
    except ValidationError as error:
        causes = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'the file'}: {one['msg']}"
            for one in error.errors()[:5]
        )
        raise UserError(
            f"{file}: no price table ({causes}); write date: YYYY-MM-DD and"
            " hosts: {HOST: {MODEL: {prompt: 1.0, completion: 2.0}}}"
        ) from error
