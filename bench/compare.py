"""Compare two runs of ``rnnfast bench``: ``python bench/compare.py OLD.json NEW.json``.

A case has slowed down if its lower quartile now lies above its upper quartile then, and its
median has grown by more than the slack: beyond both the spread of the two runs and what one run
differs from the next. Exit code 0 if none has, 1 if one has, 2 if the runs cannot be compared.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMA = 1
SUBJECT = "rnnfast"
SAME = ("cpu", "isa", "threads", "dtype")


class IncomparableError(ValueError):
    """The two runs have nothing to say about each other."""


@dataclass(frozen=True)
class Change:
    """One case in both runs.

    Attributes
    ----------
    name : str
        The case.
    old, new : float
        Median seconds.
    verdict : str
        ``"slower"``, ``"faster"`` or ``""`` for a change within the spread.
    """

    name: str
    old: float
    new: float
    verdict: str

    @property
    def ratio(self) -> float:
        """New time over old."""
        return self.new / self.old


def load(path: Path) -> dict[str, Any]:
    """Read one run.

    Raises
    ------
    IncomparableError
        If the file cannot be read or is not a run of this schema.
    """
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise IncomparableError(f"{path}: {error}") from None
    if not isinstance(run, dict) or run.get("schema") != SCHEMA:
        raise IncomparableError(f"{path}: not a result of `rnnfast bench` of schema {SCHEMA}")
    return run


def compare(old: Mapping[str, Any], new: Mapping[str, Any], slack: float) -> list[Change]:
    """Pair the cases of two runs.

    Parameters
    ----------
    old, new : mapping
        Documents of ``rnnfast bench``.
    slack : float
        Change of the median that is never called one, as a fraction.

    Returns
    -------
    list of Change
        In the order of `new`, of cases in both.

    Raises
    ------
    IncomparableError
        If machine, instruction set, threads or element type differ, or no case is in both.
    """
    for key in SAME:
        then, now = old["machine"][key], new["machine"][key]
        if then != now:
            raise IncomparableError(f"{key} differs: {then!r} then, {now!r} now")
    before = times(old)
    changes = [
        Change(name, before[name]["median"], now["median"], verdict(before[name], now, slack))
        for name, now in times(new).items()
        if name in before
    ]
    if not changes:
        raise IncomparableError("no case is in both runs")
    return changes


def times(run: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Spread of rnnfast's time by case."""
    return {case["name"]: case["subjects"][SUBJECT]["seconds"] for case in run["cases"]}


def verdict(old: Mapping[str, float], new: Mapping[str, float], slack: float) -> str:
    """Judge one case by the quartiles and medians of its times."""
    if new["q1"] > old["q3"] and new["median"] > old["median"] * (1 + slack):
        return "slower"
    if new["q3"] < old["q1"] and new["median"] < old["median"] / (1 + slack):
        return "faster"
    return ""


def render(changes: Sequence[Change], old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The changes beyond the spread, slowest first, and a summary."""
    shown = sorted((c for c in changes if c.verdict), key=lambda c: c.ratio, reverse=True)
    lines = [
        f"{c.verdict}  {c.ratio:6.3f}  {c.old * 1e3:10.4g} ms -> {c.new * 1e3:10.4g} ms  {c.name}"
        for c in shown
    ]
    slower = sum(c.verdict == "slower" for c in changes)
    faster = sum(c.verdict == "faster" for c in changes)
    missing = len(times(old).keys() - times(new).keys())
    lines.append(
        f"{len(changes)} cases compared: {slower} slower, {faster} faster, "
        f"the rest within the spread; {missing} only in the old run"
    )
    lines.append(f"FMA peak then {peak(old):.0f}, now {peak(new):.0f} GFLOP/s")
    return "\n".join(lines)


def peak(run: Mapping[str, Any]) -> float:
    """Mean of the peaks of a run, in GFLOP/s: tells a slower machine from slower code."""
    peaks = [case["peak_gflops"]["median"] for case in run["cases"]]
    return float(sum(peaks)) / len(peaks)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(description="Compare two runs of `rnnfast bench`.")
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument(
        "--slack", type=float, default=0.05, help="fraction never called a change (default 0.05)"
    )
    options = parser.parse_args(arguments)
    try:
        old, new = load(options.old), load(options.new)
        changes = compare(old, new, options.slack)
    except IncomparableError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    print(render(changes, old, new))
    return int(any(change.verdict == "slower" for change in changes))


if __name__ == "__main__":
    sys.exit(main())
