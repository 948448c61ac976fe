"""The rules of every settings class: frozen, strict about names and types, marked with what depends on it."""

import re
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, model_validator

StageKind = Literal["fetch", "base", "distill", "sft", "rl", "eval"]
"""What a stage does; `fetch` stands for `base` where the base model is a published one."""


class For:
    """Marks a setting, or a section for all settings in it: results of these kinds of stage depend on it.

    A mark of a setting overrules its section's. ``For()`` says where and how often, not what.
    """

    def __init__(self, *kinds: StageKind):
        self.kinds = kinds


class Section(BaseModel):
    """Part of a profile. An unknown name or a value of another type is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _powers_of_ten(cls, values: Any) -> Any:
        """Read ``1e-3`` where a number is expected; to YAML 1.1 it is text, for want of a point."""
        if not isinstance(values, dict):
            return values
        kinds = {name: field.annotation for name, field in cls.model_fields.items()}
        numbers = {name for name, kind in kinds.items() if _has_floats(kind)}
        return {name: _number(value) if name in numbers else value for name, value in values.items()}

    def settings_for(self, kind: StageKind) -> dict[str, Any]:
        """The settings, in nested sections, that the result of a kind of stage depends on."""
        chosen = self.model_dump(include=self._seen_by(kind, ()))
        return {name: value for name, value in chosen.items() if value != {}}

    def _seen_by(self, kind: StageKind, inherited: tuple[str, ...]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            kinds = next((mark.kinds for mark in field.metadata if isinstance(mark, For)), inherited)
            value = getattr(self, name)
            if isinstance(value, Section):
                if inside := value._seen_by(kind, kinds):
                    seen[name] = inside
            elif kind in kinds:
                seen[name] = True
        return seen


def _has_floats(kind: Any) -> bool:
    return kind is float or any(map(_has_floats, get_args(kind)))


def _number(value: Any) -> Any:
    """The number that a text such as ``1e-3`` spells, also in a list; anything else as it is."""
    if isinstance(value, list):
        return [_number(part) for part in value]
    spelled = isinstance(value, str) and re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+", value, re.ASCII)
    return float(value) if spelled else value
