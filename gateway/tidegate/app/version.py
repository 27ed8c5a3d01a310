"""The version of the package. Finding it reads the disk, so it is found once."""

from importlib.metadata import version

VERSION = version("tidegate")
