"""What the kernel says about a process: processor time and memory, from /proc."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pids: list[int]) -> float:
    """Return user and system time of these processes, with all their threads, to a hundredth of a second."""
    return sum(_cpu(pid) for pid in pids)


def peak_mib(pids: list[int]) -> float:
    """Return the peak of the resident memory, summed over the processes."""
    return sum(_status(pid, "VmHWM:") for pid in pids)


def resident_mib(pids: list[int]) -> float:
    """Return the resident memory, summed over the processes."""
    return sum(_status(pid, "VmRSS:") for pid in pids)


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _status(pid: int, key: str) -> float:
    size = Path(f"/proc/{pid}/status").read_text().partition(key)[2].split()
    if not size:  # it ended, and was not waited for yet
        raise ProcessLookupError(f"process {pid} has ended")
    return int(size[0]) / 1024
