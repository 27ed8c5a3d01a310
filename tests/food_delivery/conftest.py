"""The example's modules are scripts beside each other, so its folder must be on the path, as it is when one is run."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "examples" / "food_delivery"))
