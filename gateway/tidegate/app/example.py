"""Where the examples are that `tidegate demo` runs: in a checkout, or among the installed package's own files."""

from __future__ import annotations

from pathlib import Path

from tidegate.core import TidegateError


class ExampleError(TidegateError):
    """An example is not there."""


def example_folder(name: str) -> Path:
    """Return the folder of an example. Raises ExampleError."""
    here = Path(__file__)
    installed, checkout = here.parent / "examples" / name, here.parents[3] / "examples" / name
    found = next((folder for folder in (installed, checkout) if folder.is_dir()), None)
    if found is None:
        raise ExampleError(f"the example {name} is neither in {installed.parent} nor in {checkout.parent}")
    return found
