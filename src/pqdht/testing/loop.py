"""An asyncio event loop in virtual time: deterministic, instantaneous, and never silently stuck.

The clock starts at 0 and stands still while anything is ready; when nothing is, it jumps to the
next timer.  A day of timeouts costs as much as the callbacks in it.  A loop with work outstanding
but neither a timer nor anything ready would wait for ever on a real clock; here it raises `Stalled`.

    result = run(main)      # as asyncio.run, but in virtual time, and leaks are errors
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from itertools import count
from typing import Any, NoReturn, TypeVar, cast

T = TypeVar("T")

_RESOLUTION = 1e-6
"""Timers closer than this (seconds) run together. Small floats vanish next to large times."""
_SPIN_LIMIT = 1_000_000
"""Iterations at one instant after which the loop is taken to be spinning."""
_CLEANUP_SECONDS = 3600.0
"""Virtual time that cancelled tasks have for their last words."""
_SHOWN_TASKS = 20
_ASYNCIO = os.path.dirname(asyncio.__file__)


class Stalled(RuntimeError):
    """Nothing is ready and no timer is set, yet somebody waits. `tasks` describes who, and where."""

    def __init__(self, what: str, tasks: tuple[str, ...]) -> None:
        shown = [f"\n  {t}" for t in tasks[:_SHOWN_TASKS]]
        if len(tasks) > _SHOWN_TASKS:
            shown.append(f"\n  and {len(tasks) - _SHOWN_TASKS} more")
        super().__init__(what + "".join(shown))
        self.tasks = tasks


class LimitReached(Stalled):
    """The run passed its cap on virtual time or on steps, or spins without time moving."""


class Leaked(AssertionError):
    """`main` returned, but left tasks running, or an error that nobody looked at."""


class RealIO(RuntimeError):
    """Code under simulation reached for the real world: a socket, a thread, a signal, a process."""


class _VirtualFuture(asyncio.Future[Any]):
    """A future whose hash is its number, not its memory address.

    asyncio keeps futures and tasks in sets (`wait` returns sets, a TaskGroup cancels its children in
    set order), so that with addresses the order of events would differ from process to process.
    """

    __slots__ = ("_number",)

    def __init__(self, number: int, loop: VirtualLoop) -> None:
        self._number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


class _VirtualTask(asyncio.Task[Any]):
    """The same for tasks."""

    def __init__(self, coro: Any, *, number: int, **kwargs: Any) -> None:
        self._number = number
        super().__init__(coro, **kwargs)

    def __hash__(self) -> int:
        return self._number


class _VirtualSelector:
    """What BaseEventLoop calls when it would block: here the clock jumps instead."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        self._loop._step(timeout)
        return []


def _refused(name: str) -> Callable[..., NoReturn]:
    def refuse(self: VirtualLoop, *_: Any, **__: Any) -> NoReturn:
        raise RealIO(f"loop.{name}() is not available in virtual time: simulate it (testing.simnet)")

    refuse.__name__ = name
    return refuse


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop.  `max_time` (virtual seconds) and `max_steps` (iterations) bound a run; None: unbounded."""

    def __init__(self, *, max_time: float | None = None, max_steps: int | None = None) -> None:
        super().__init__()
        self._now = 0.0
        self._clock_resolution = _RESOLUTION
        self._selector = _VirtualSelector(self)
        self._max_time = max_time if max_time is not None else float("inf")
        self._max_steps = max_steps if max_steps is not None else float("inf")
        self._spins = 0
        self._task_numbers = count(1)
        self._future_numbers = count(1)
        self.steps = 0
        """Iterations so far."""
        self.unhandled: list[dict[str, Any]] = []
        """Contexts of errors nobody caught (see `call_exception_handler`), in order."""
        self.set_exception_handler(self._keep_unhandled)

    # --- time ----------------------------------------------------------------------------------

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def _step(self, timeout: float | None) -> None:
        """Called once per iteration; `timeout` is None when neither a timer nor a callback is there."""
        self.steps += 1
        if self.steps > self._max_steps:
            raise LimitReached(f"more than {self._max_steps} steps at {self._now:.6f} s", self._waiting())
        if timeout is None:
            raise Stalled(f"nothing can happen after {self._now:.6f} s; waiting:", self._waiting())
        if timeout <= 0:
            self._spins += 1
            if self._spins > _SPIN_LIMIT:
                raise LimitReached(f"spinning at {self._now:.6f} s", self._waiting())
            return
        when: float = self._scheduled[0]._when  # type: ignore[attr-defined]
        if when > self._max_time:
            raise LimitReached(f"virtual time passed its cap of {self._max_time} s", self._waiting())
        self._now = max(self._now, when)
        self._spins = 0

    def _waiting(self) -> tuple[str, ...]:
        tasks = sorted(asyncio.all_tasks(self), key=hash)
        return tuple(_describe(t) for t in tasks)

    # --- tasks and threads ---------------------------------------------------------------------

    def create_task(self, coro: Any, *, name: Any = None, **kwargs: Any) -> asyncio.Task[Any]:
        """As asyncio's, with numbers and names that depend on this loop alone."""
        self._check_closed()  # type: ignore[attr-defined]
        number = next(self._task_numbers)
        return _VirtualTask(coro, number=number, loop=self, name=name or f"Task-{number}", **kwargs)

    def create_future(self) -> asyncio.Future[Any]:
        """As asyncio's, numbered."""
        return _VirtualFuture(next(self._future_numbers), self)

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Run `func` in this thread, in the next iteration, taking no virtual time."""
        future: asyncio.Future[T] = self.create_future()
        self.call_soon(_run_inline, future, func, args)
        return future

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """As call_soon; raises RealIO from another thread."""
        if self.is_running() and self._thread_id != threading.get_ident():  # type: ignore[attr-defined]
            raise RealIO("another thread called into virtual time: run its work through run_in_executor")
        return self.call_soon(callback, *args, context=context)

    def _keep_unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.unhandled.append(context)

    # --- what BaseEventLoop leaves to its heirs -------------------------------------------------

    def _process_events(self, event_list: list[Any]) -> None:
        """No file descriptors, no events."""

    def _write_to_self(self) -> None:
        """Nobody sleeps, so nobody need be woken."""

    add_reader = _refused("add_reader")  # type: ignore[assignment]
    remove_reader = _refused("remove_reader")
    add_writer = _refused("add_writer")  # type: ignore[assignment]
    remove_writer = _refused("remove_writer")
    add_signal_handler = _refused("add_signal_handler")  # type: ignore[assignment]
    remove_signal_handler = _refused("remove_signal_handler")
    getaddrinfo = _refused("getaddrinfo")
    getnameinfo = _refused("getnameinfo")
    create_connection = _refused("create_connection")
    create_server = _refused("create_server")
    create_unix_connection = _refused("create_unix_connection")
    create_unix_server = _refused("create_unix_server")
    create_datagram_endpoint = _refused("create_datagram_endpoint")
    connect_accepted_socket = _refused("connect_accepted_socket")
    start_tls = _refused("start_tls")
    sendfile = _refused("sendfile")
    sock_sendfile = _refused("sock_sendfile")
    sock_accept = _refused("sock_accept")
    sock_connect = _refused("sock_connect")
    sock_recv = _refused("sock_recv")
    sock_recv_into = _refused("sock_recv_into")
    sock_recvfrom = _refused("sock_recvfrom")
    sock_recvfrom_into = _refused("sock_recvfrom_into")
    sock_sendall = _refused("sock_sendall")
    sock_sendto = _refused("sock_sendto")
    connect_read_pipe = _refused("connect_read_pipe")
    connect_write_pipe = _refused("connect_write_pipe")
    subprocess_exec = _refused("subprocess_exec")
    subprocess_shell = _refused("subprocess_shell")


def run(
    main: Coroutine[Any, Any, T] | Callable[[], Coroutine[Any, Any, T]],
    *,
    max_time: float | None = 7 * 86_400.0,
    max_steps: int | None = None,
    strict: bool = True,
) -> T:
    """Run `main` (a coroutine, or a function that makes one) on a new `VirtualLoop`.

    Afterwards whatever still runs is cancelled and the loop is closed.  `strict` then raises
    `Leaked` if `main` left tasks behind, or if an error went unseen (in a callback, or in a task
    nobody awaited).  An error out of `main` always comes first.  Also raises Stalled, LimitReached.
    """
    loop = VirtualLoop(max_time=max_time, max_steps=max_steps)
    try:
        coro = main if inspect.iscoroutine(main) else cast("Callable[[], Coroutine[Any, Any, T]]", main)()
        try:
            result = cast("T", loop.run_until_complete(coro))
        finally:
            left = _cancel_all(loop)
        if strict:
            _check_leaks(loop, left)
        return result
    finally:
        loop.close()


def _cancel_all(loop: VirtualLoop) -> tuple[str, ...]:
    """Cancel what still runs and let it finish; returns what that was."""
    left = loop._waiting()
    loop._max_time = loop.time() + _CLEANUP_SECONDS
    loop._max_steps = loop.steps + _SPIN_LIMIT
    loop._spins = 0
    tasks = sorted(asyncio.all_tasks(loop), key=hash)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    return left


def _check_leaks(loop: VirtualLoop, left: tuple[str, ...]) -> None:
    gc.collect()  # a failed task that nobody awaited reports when it goes
    if left:
        raise Leaked("still running after main returned:" + "".join(f"\n  {t}" for t in left))
    if loop.unhandled:
        lines = [f"{c['message']}: {c.get('exception')!r}" for c in loop.unhandled]
        raise Leaked("errors nobody saw:" + "".join(f"\n  {x}" for x in lines)) from loop.unhandled[0].get(
            "exception"
        )


def _describe(task: asyncio.Task[Any]) -> str:
    """Name, coroutine and the innermost line outside asyncio that it waits at."""
    coro: Awaitable[Any] | Generator[Any, Any, Any] | None = task.get_coro()
    name = getattr(coro, "__qualname__", repr(coro))
    inner: Any = coro
    where = ""
    while inner is not None:
        frame = getattr(inner, "cr_frame", None) or getattr(inner, "gi_frame", None)
        if frame is not None and not frame.f_code.co_filename.startswith(_ASYNCIO):
            where = f" at {frame.f_code.co_filename}:{frame.f_lineno}"
        inner = getattr(inner, "cr_await", None) or getattr(inner, "gi_yieldfrom", None)
    return f"{task.get_name()} {name}{where}"


def _run_inline(future: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
    if future.cancelled():
        return
    try:
        result = func(*args)
    except (KeyboardInterrupt, SystemExit):
        raise
    except StopIteration as e:  # a future refuses it
        future.set_exception(RuntimeError(f"the executor job raised {e!r}"))
    except BaseException as e:
        future.set_exception(e)
    else:
        future.set_result(result)
