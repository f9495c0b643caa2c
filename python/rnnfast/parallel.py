"""Several processes that train one model: what they add up, and who writes.

Each takes its part of every batch; the sum of the flat gradients is all that they exchange.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np

from .flat import Array

Result = TypeVar("Result")

# Set by the launchers of Open MPI, MPICH and its kin, and Slurm, in the processes they start.
_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE", "SLURM_STEP_NUM_TASKS")


class Group(Protocol):
    """The processes that take part.

    Attributes
    ----------
    rank : int
        This one, from 0.
    size : int
        How many there are.
    """

    rank: int
    size: int

    def sum(self, values: Array) -> None:
        """Replace the values by their sum over all processes."""
        ...

    def agree(self, value: Any) -> Any:
        """Return the first process's value in all of them."""
        ...

    def any(self, value: bool) -> bool:
        """Tell whether it is true in any of them."""
        ...

    def join(self, part: Array, axis: int) -> Array:
        """Concatenate the parts of all processes, in their order."""
        ...

    def abandon(self) -> None:
        """End the others too when this process ends, which cannot go on with them."""
        ...


class Alone:
    """A single process."""

    rank, size = 0, 1

    def sum(self, values: Array) -> None:
        """Do nothing."""

    def agree(self, value: Any) -> Any:
        """Return the value."""
        return value

    def any(self, value: bool) -> bool:
        """Return the value."""
        return value

    def join(self, part: Array, axis: int) -> Array:
        """Return the part."""
        return part

    def abandon(self) -> None:
        """Do nothing."""


class MPI:
    """The processes that `mpirun` started, by mpi4py."""

    def __init__(self) -> None:
        from mpi4py import MPI as mpi  # noqa: N811

        self._mpi, self._world = mpi, mpi.COMM_WORLD
        self.rank, self.size = self._world.Get_rank(), self._world.Get_size()

    def sum(self, values: Array) -> None:
        """Add up in place, in one all-reduce."""
        self._world.Allreduce(self._mpi.IN_PLACE, values)

    def agree(self, value: Any) -> Any:
        """Broadcast."""
        return self._world.bcast(value)

    def any(self, value: bool) -> bool:
        """Reduce by or."""
        return bool(self._world.allreduce(value, self._mpi.LOR))

    def join(self, part: Array, axis: int) -> Array:
        """Gather everywhere."""
        return np.concatenate(self._world.allgather(part), axis)

    def abandon(self) -> None:
        """Let mpi4py abort in place of the orderly end, which would wait for the others."""
        from mpi4py.run import set_abort_status

        set_abort_status(1)


def join() -> Group:
    """Return the group that this process was started in.

    Raises
    ------
    ValueError
        If a launcher of MPI started several processes, and mpi4py is not installed, finds no MPI or
        another one than the launcher's.
    """
    launched = max(int(os.environ.get(name) or 1) for name in _SIZES)
    if launched == 1:
        return Alone()
    try:
        group = MPI()
    except ImportError:
        raise ValueError("several processes need mpi4py: pip install 'rnnfast[mpi]'") from None
    except RuntimeError as error:
        raise ValueError(f"mpi4py finds no MPI library ({str(error).splitlines()[0]})") from None
    if group.size != launched:
        raise ValueError(
            f"{launched} processes were started, but mpi4py sees {group.size}: it is made for "
            "another MPI than the launcher's"
        )
    return group


class FailedElsewhereError(Exception):
    """Another process could not do its part, and tells why."""


def together(group: Group, make: Callable[[], Result]) -> Result:
    """Do what may fail in some processes so that it fails in all: what each makes, or an error.

    Raises
    ------
    OSError, ValueError, MemoryError
        What `make` raised, in the first process in which it did.
    FailedElsewhereError
        In all the others.
    """
    error: Exception | None = None
    try:
        result = make()
    except (OSError, ValueError, MemoryError) as failure:
        error = failure
    failed = group.join(np.array([error is not None]), axis=0)
    if not failed.any():
        return result
    if error is not None and failed.argmax() == group.rank:
        raise error
    raise FailedElsewhereError


def share(rows: int, group: Group) -> slice:
    """Cut this process's part out of the rows of a batch: parts differ by one at most.

    Raises
    ------
    ValueError
        If there is not a row for each process.
    """
    if rows < group.size:
        raise ValueError(f"batches of {rows} cannot be divided among {group.size} processes")
    return slice(rows * group.rank // group.size, rows * (group.rank + 1) // group.size)
