"""The caches of the machine, and which of them holds the weights of a case."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path("/sys/devices/system/cpu/cpu0/cache")
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}

MEMORY = "memory"


def sizes() -> dict[int, int]:
    """Bytes of each data cache of the first processor by level; empty where Linux tells none."""
    found = {}
    for cache in FOLDER.glob("index*"):
        try:
            level, kind, size = (
                (cache / name).read_text(encoding="ascii").strip()
                for name in ("level", "type", "size")
            )
            if kind != "Instruction":
                found[int(level)] = int(size[:-1]) * UNITS[size[-1]]
        except (OSError, ValueError, KeyError, IndexError):
            continue
    return dict(sorted(found.items()))


def holder(size: int, num_threads: int, caches: dict[int, int]) -> str:
    """The smallest cache that an array of so many bytes fits in: ``"L2"``, or ``"memory"``.

    Each thread has a part of the array in caches of its own core; those of the last level share
    one. An array exactly as large as a cache does not fit, since something else is always there.
    """
    for level, room in sorted(caches.items()):
        part = size if level == max(caches) else size / num_threads
        if part < room:
            return f"L{level}"
    return MEMORY
