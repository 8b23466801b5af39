"""The virtual-time loop: time jumps, nothing hangs, nothing real is touched, nothing leaks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pqdht.testing.loop import Leaked, LimitReached, RealIO, Stalled, VirtualLoop, run


def now() -> float:
    return asyncio.get_running_loop().time()


def test_time_starts_at_zero_and_jumps_to_the_timers() -> None:
    async def main() -> list[float]:
        seen = [now()]
        for delay in (0.5, 86_400.0, 0.0):
            await asyncio.sleep(delay)
            seen.append(now())
        return seen

    assert run(main) == [0.0, 0.5, 86_400.5, 86_400.5]


def test_a_year_of_timers_takes_no_more_steps_than_timers() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        for _ in range(365):
            await asyncio.sleep(86_400)

    loop.run_until_complete(main())
    assert loop.time() == 365 * 86_400
    assert loop.steps < 3 * 365
    loop.close()


def test_timers_fire_in_order_at_their_time() -> None:
    async def main() -> list[tuple[int, float]]:
        fired: list[tuple[int, float]] = []
        loop = asyncio.get_running_loop()

        def fire(i: int) -> None:
            fired.append((i, loop.time()))

        for i, delay in enumerate((3.0, 1.0, 2.0)):
            loop.call_later(delay, fire, i)
        cancelled = loop.call_later(0.5, fire, 9)
        cancelled.cancel()
        await asyncio.sleep(4)
        return fired

    assert run(main) == [(1, 1.0), (2, 2.0), (0, 3.0)]


def test_timeouts_events_queues_and_groups_work() -> None:
    async def main() -> list[Any]:
        got: list[Any] = []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.Event().wait()
        got.append(now())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 12)
        got.append(now())
        queue: asyncio.Queue[int] = asyncio.Queue(1)

        async def produce() -> None:
            for i in range(3):
                await asyncio.sleep(1)
                await queue.put(i)

        async with asyncio.TaskGroup() as group:
            group.create_task(produce())
            got += [await queue.get() for _ in range(3)]
        got.append(now())
        return got

    assert run(main) == [30.0, 42.0, 0, 1, 2, 45.0]


def test_an_idle_loop_with_work_outstanding_is_an_error() -> None:
    async def stuck() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        await asyncio.sleep(5)
        await asyncio.create_task(stuck(), name="the stuck one")

    with pytest.raises(Stalled, match=r"5\.000000 s") as caught:
        run(main)
    assert not isinstance(caught.value, LimitReached)
    assert len(caught.value.tasks) == 2
    assert any("the stuck one" in t and "stuck at " in t and "test_loop.py" in t for t in caught.value.tasks)


def test_many_waiting_tasks_are_counted_but_not_all_listed() -> None:
    async def main() -> None:
        await asyncio.gather(*(asyncio.Event().wait() for _ in range(50)))

    with pytest.raises(Stalled, match="and 31 more") as caught:
        run(main)
    assert len(caught.value.tasks) == 51


@pytest.mark.parametrize(
    ("delay", "limits", "text"),
    [
        (60, {"max_time": 3600.0}, "cap of 3600"),
        (60, {"max_steps": 100}, "more than 100 steps"),
        (0, {}, "spinning at"),
    ],
)
def test_the_caps_end_a_run_that_would_not(delay: float, limits: dict[str, Any], text: str) -> None:
    async def main() -> None:
        while True:  # noqa: ASYNC110 - the mistake under test
            await asyncio.sleep(delay)

    with pytest.raises(LimitReached, match=text):
        run(main, **limits)


def test_the_time_cap_allows_the_last_moment() -> None:
    async def main() -> float:
        await asyncio.sleep(10)
        return now()

    assert run(main, max_time=10.0) == 10.0


def test_executors_run_inline_but_not_at_once() -> None:
    async def main() -> list[Any]:
        seen: list[Any] = []
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(None, threading.get_ident)
        assert not future.done()
        seen.append(await future)
        seen.append(await asyncio.to_thread(pow, 2, 10))
        seen.append(loop.time())
        return seen

    assert run(main) == [threading.get_ident(), 1024, 0.0]


def test_executor_errors_reach_the_caller_and_cancelled_jobs_do_not_run() -> None:
    async def main() -> list[int]:
        ran: list[int] = []
        loop = asyncio.get_running_loop()
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, lambda: 1 / 0)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await loop.run_in_executor(None, next, iter(()))
        loop.run_in_executor(None, ran.append, 1).cancel()
        await asyncio.sleep(1)
        return ran

    assert run(main) == []


@pytest.mark.parametrize(
    "reach_out",
    [
        lambda loop: loop.create_connection(asyncio.Protocol, "127.0.0.1", 1),
        lambda loop: loop.create_server(asyncio.Protocol, "127.0.0.1", 0),
        lambda loop: loop.create_datagram_endpoint(asyncio.DatagramProtocol),
        lambda loop: loop.getaddrinfo("localhost", 80),
        lambda loop: loop.add_reader(0, print),
        lambda loop: loop.sock_connect(None, ("127.0.0.1", 1)),
        lambda loop: loop.subprocess_exec(asyncio.SubprocessProtocol, "true"),
        lambda loop: loop.add_signal_handler(2, print),
    ],
)
def test_the_real_world_is_refused(reach_out: Callable[[asyncio.AbstractEventLoop], Any]) -> None:
    async def main() -> None:
        await reach_out(asyncio.get_running_loop())

    with pytest.raises(RealIO, match="virtual time"):
        run(main)


def test_another_thread_is_refused() -> None:
    async def main() -> BaseException | None:
        loop = asyncio.get_running_loop()
        raised: list[BaseException] = []

        def call() -> None:
            try:
                loop.call_soon_threadsafe(print)
            except BaseException as e:
                raised.append(e)

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        loop.call_soon_threadsafe(raised.append, KeyError())  # from this thread it is call_soon
        await asyncio.sleep(0)
        assert isinstance(raised[1], KeyError)
        return raised[0]

    assert isinstance(run(main), RealIO)


def test_left_over_tasks_are_cancelled_and_reported() -> None:
    ended: list[str] = []

    async def background() -> None:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            await asyncio.sleep(2)  # last words take time
            ended.append("cancelled")
            raise

    async def main() -> str:
        asyncio.create_task(background(), name="left behind")  # noqa: RUF006
        await asyncio.sleep(1)
        return "result"

    with pytest.raises(Leaked, match="left behind"):
        run(main)
    assert run(main, strict=False) == "result"
    assert ended == ["cancelled", "cancelled"]


def test_errors_nobody_saw_are_reported() -> None:
    def fail() -> None:
        raise KeyError("in a callback")

    async def main() -> None:
        asyncio.get_running_loop().call_soon(fail)
        await asyncio.sleep(1)

    with pytest.raises(Leaked, match="in a callback") as caught:
        run(main)
    assert isinstance(caught.value.__cause__, KeyError)

    async def failing() -> None:
        raise ValueError("in a task")

    async def forget() -> None:
        asyncio.create_task(failing())  # noqa: RUF006
        await asyncio.sleep(1)

    with pytest.raises(Leaked, match="in a task"):
        run(forget)


def test_an_error_of_main_comes_first() -> None:
    async def main() -> None:
        asyncio.create_task(asyncio.sleep(1000))  # noqa: RUF006
        await asyncio.sleep(1)
        raise LookupError("main failed")

    with pytest.raises(LookupError, match="main failed"):
        run(main)


def test_task_names_and_set_order_depend_on_the_loop_alone() -> None:
    async def main() -> list[list[Any]]:
        cancelled: list[int] = []

        async def child(i: int) -> None:
            try:
                await asyncio.sleep(100)
            finally:
                cancelled.append(i)

        async def group_that_fails() -> None:
            async with asyncio.TaskGroup() as group:
                for i in range(200):
                    names.append(group.create_task(child(i)).get_name())
                await asyncio.sleep(1)
                raise KeyError

        names: list[str] = []
        with pytest.raises(ExceptionGroup):
            await group_that_fails()
        futures = [asyncio.get_running_loop().create_future() for _ in range(200)]
        for f in futures:
            f.set_result(None)
        done, _ = await asyncio.wait(futures)
        return [names, cancelled, [futures.index(f) for f in done]]

    first, second = run(main), run(main)
    assert first == second
    assert first[0][0] == "Task-2"
    assert sorted(first[1]) == sorted(first[2]) == list(range(200))


def test_run_takes_a_coroutine_or_a_function_that_makes_one() -> None:
    async def main() -> int:
        return 7

    assert run(main) == run(main()) == 7
