"""What the parts of the configuration have in common."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the file: unknown keys are errors, and nothing changes once it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False)


def _check_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?", name):
        raise ValueError("should be lower-case letters, digits, '-' and '_', at most 64, as 'plant-1'")
    return name


Name = Annotated[str, AfterValidator(_check_name)]
