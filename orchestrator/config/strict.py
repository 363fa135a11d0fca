"""What every configuration file has in common: unknown keys are errors, and a fault names the key to mend."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, protected_namespaces=())


def fault(message: str, *keys: str | int) -> PydanticCustomError:
    """A fault found across keys, at the one it should be mended at; the loader gives its line."""
    return PydanticCustomError("value_error", "{text}", {"text": message, "keys": keys})
