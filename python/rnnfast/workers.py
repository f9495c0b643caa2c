"""A few Python threads that share out blocks of NumPy's work.

NumPy lets go of the interpreter's lock inside its loops and products, so that several threads
compute at once. What the blocks are follows from sizes alone, never from the number of threads:
results do not depend on it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeAlias, TypeVar

from ._core import get_num_threads

Item = TypeVar("Item")
Result = TypeVar("Result")
_Invitation: TypeAlias = "tuple[Future[None], Callable[[], None]]"


def spans(size: int, length: int) -> list[slice]:
    """Cut `range(size)` into slices of this length; the last ends where it ends."""
    return [slice(start, min(start + length, size)) for start in range(0, size, length)]


def each(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Call `work` with every item, on at most as many threads as the recurrent layers use.

    Parameters
    ----------
    work : callable
        What is called with one item changes nothing that is called with another reads or changes.
    items : sequence
        In any order; a single one stays on the caller's thread.

    Returns
    -------
    list
        What was returned, in the items' order.

    Raises
    ------
    Exception
        What a call raised. No further one has begun then, and none is still running.
    """
    helpers = min(get_num_threads(), len(items)) - 1
    if helpers < 1:
        return [work(item) for item in items]
    results: list[Any] = [None] * len(items)
    left = iter(list(enumerate(items)))  # all threads advance the same iterator

    def take() -> None:
        for index, item in left:
            results[index] = work(item)

    invitations = _crew.invite(take, helpers)
    try:
        take()
    finally:
        for _ in left:  # where a call has failed, there may be some
            pass
        begun = [invitation for invitation in invitations if not invitation.cancel()]
        wait(begun)
        _crew.open.difference_update(invitations)
    for invitation in begun:
        invitation.result()
    return results


class _Crew:
    """Threads that wait for invitations, as many as were ever wanted at once."""

    def __init__(self) -> None:
        self._size = 0
        self._queue: SimpleQueue[_Invitation] = SimpleQueue()
        self.open: set[Future[None]] = set()

    def invite(self, work: Callable[[], None], helpers: int) -> list[Future[None]]:
        """Ask so many threads to call `work`, in the caller's context, which has its `errstate`."""
        self._grow(helpers)
        invitations: list[Future[None]] = [Future() for _ in range(min(helpers, self._size))]
        self.open.update(invitations)
        for invitation in invitations:
            self._queue.put((invitation, partial(copy_context().run, work)))
        return invitations

    def _grow(self, size: int) -> None:
        while self._size < size:
            try:
                Thread(target=self._serve, name="rnnfast", daemon=True).start()
            except RuntimeError:  # none can be had: the caller does more itself
                return
            self._size += 1

    def _serve(self) -> None:
        while True:
            _accept(*self._queue.get())


def _accept(invitation: Future[None], work: Callable[[], None]) -> None:
    if not invitation.set_running_or_notify_cancel():
        return
    try:
        work()
    except BaseException as error:  # noqa: BLE001  raised again where the caller waits
        invitation.set_exception(error)
    else:
        invitation.set_result(None)


def _begin_anew() -> None:
    """Replace the crew in a forked child, where its threads are not."""
    global _crew
    open_, _crew = _crew.open, _Crew()
    for invitation in open_:
        if invitation.running():
            invitation.set_exception(RuntimeError("the process was forked inside this call"))


_crew = _Crew()
os.register_at_fork(after_in_child=_begin_anew)
