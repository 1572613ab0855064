"""The base of what is read from YAML: unknown keys, infinities and odd numbers are errors."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

__all__ = ["StrictModel"]


class StrictModel(BaseModel):
    """Contents of a file: frozen, of known keys only, numbers finite and never booleans."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=()
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_number(cls, value: object, info: ValidationInfo) -> object:
        # pydantic takes true for 1, and YAML takes "yes" and "on" for true.
        if isinstance(value, bool) and info.field_name is not None:
            kinds = _kinds(cls.model_fields[info.field_name].annotation)
            if bool not in kinds and kinds & {int, float}:
                raise ValueError("must be a number")
        return value


def _kinds(annotation: Any) -> set[Any]:
    """Return a type, or the members of a union."""
    return {annotation, *(kind for part in get_args(annotation) for kind in _kinds(part))}
