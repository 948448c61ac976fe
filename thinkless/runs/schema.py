"""The one rule of every settings class: frozen, and strict about names and types."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Part of a profile. An unknown name or a value of another type is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)
