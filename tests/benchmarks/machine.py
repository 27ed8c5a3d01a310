"""What the numbers belong to: the machine, and the versions of every part."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tests.benchmarks.contender import CONTENDERS
from tests.support.server import MOSQUITTO, NATS_SERVER

_PACKAGES = ("mqtt5", "nats-py", "aiomqtt", "orjson", "uvloop", "iotcore")


def machine() -> dict[str, str]:
    """Return what the machine is."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Return the version of each part that is here."""
    servers = {"mosquitto": _first_line(str(MOSQUITTO), "-h"), "nats-server": _first_line(str(NATS_SERVER), "-v")}
    contenders = {contender.name: contender.version() for contender in CONTENDERS if contender.name != "naive"}
    found = {**servers, **contenders, **{package: _version(package) for package in _PACKAGES}}
    return {name: _number(text) for name, text in found.items() if text}


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.lower().startswith(("model name", "hardware")))
    return next(names, platform.processor() or "unknown")


def _first_line(*command: str) -> str:
    said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout
    return next(iter(said.splitlines()), "")


def _number(text: str) -> str:
    """Return the version in what a program says of itself; a build of one's own may not know it."""
    found = re.search(r"\d+(\.\d+)+", text)
    return found[0] if found else "of unknown version"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
