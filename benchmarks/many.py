"""What get_many and put_many save: 100 keys at once against 100 calls one after the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import process_time

from benchmarks.figures import VALUE_BYTES, Effort, progress, quiet, received
from pqdht.node.dht import SecureDHT
from pqdht.records import Named

VALUE = bytes(VALUE_BYTES)


async def measure(
    everyone: list[SecureDHT], single: SecureDHT, at_once: SecureDHT, keys: list[Named], effort: Effort
) -> dict[str, float]:
    """get_many_100_* and put_many_100_*: CPU and bytes of the whole network, at once / one by one.

    `single` and `at_once` are readers that hold nothing; the values are put by a node of the network.
    """
    keys, writer = keys[: effort.many], everyone[0]

    async def get_singly() -> None:
        for key in keys:
            await single.get(key)

    async def put_singly() -> None:
        for i in range(effort.many):
            await writer.put(f"single {i}", VALUE)

    async def get_many() -> None:
        check(await at_once.get_many(keys), len(keys))

    async def put_many() -> None:
        values = {f"many {i}": VALUE for i in range(effort.many)}
        check(await writer.put_many(values), effort.many)

    figures: dict[str, float] = {}
    for name, many, singly in (("get", get_many, get_singly), ("put", put_many, put_singly)):
        cpu, size = await cost(everyone, singly)
        cpu_at_once, size_at_once = await cost(everyone, many)
        progress(
            f"  {name} {effort.many} keys one by one: {cpu:.2f} s CPU, {size / 1e6:.1f} MB;"
            f" {name}_many: {cpu_at_once:.2f} s, {size_at_once / 1e6:.1f} MB"
        )
        figures[f"{name}_many_100_cpu_ratio"] = round(cpu_at_once / cpu, 3)
        figures[f"{name}_many_100_bytes_ratio"] = round(size_at_once / size, 3)
    return figures


def check(results: dict[object, object] | object, count: int) -> None:
    """Raises the first error among the results."""
    assert isinstance(results, dict)
    assert len(results) == count
    for result in results.values():
        if isinstance(result, Exception):
            raise result


async def cost(everyone: list[SecureDHT], work: Callable[[], Awaitable[None]]) -> tuple[float, int]:
    """(CPU seconds, bytes received) of the whole network until it rests again."""
    await quiet()
    cpu, size = process_time(), received(everyone)
    await work()
    await quiet()
    return process_time() - cpu, received(everyone) - size
