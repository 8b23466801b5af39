"""Handshakes of two nodes that met before, without sockets: from the first byte to both sessions."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter, process_time

from benchmarks.figures import Effort
from pqdht.channel.handshake import Handshake, HandshakeParams
from pqdht.config import Config
from pqdht.identity.contact import ContactVerifier
from pqdht.node.environment import choose_suite, system_clock, tag_of
from pqdht.node.identities import load_or_make_node

ADDRESS = "tcp/127.1.1.1:4733"


async def measure(provider: str, effort: Effort) -> dict[str, float]:
    """handshake_ik_per_s, handshake_ik_cpu_ms, handshake_xx_per_s."""
    alice, bob = await party(provider, effort), await party(provider, effort)
    ik_per_s, ik_cpu_s = repeat(lambda: shake(alice, bob, bob.identity.kem.public), effort.handshakes)
    xx_per_s, _ = repeat(lambda: shake(alice, bob, None), effort.handshakes)
    return {
        "handshake_ik_per_s": round(ik_per_s, 1),
        "handshake_ik_cpu_ms": round(1000 * ik_cpu_s, 3),
        "handshake_xx_per_s": round(xx_per_s, 1),
    }


async def party(provider: str, effort: Effort) -> HandshakeParams:
    """A node with fresh keys, as its handshakes see it."""
    config = Config(network=effort.params, provider=provider)  # type: ignore[arg-type]
    suite, tag = choose_suite(config, None), tag_of(config)
    return HandshakeParams(
        suite=suite,
        network_tag=tag,
        identity=await load_or_make_node(config, suite, tag, system_clock()),
        verifier=ContactVerifier(suite, effort.params, tag),
        addresses=(ADDRESS,),
    )


def shake(alice: HandshakeParams, bob: HandshakeParams, kem_key: bytes | None) -> None:
    """One handshake, pqIK where alice knows bob's KEM key, both ends up to their sessions."""
    now = system_clock()
    caller = Handshake.initiate(
        alice, expected=bob.identity.node_id, kem_key=kem_key, observed=ADDRESS, now=now
    )
    called = Handshake.respond(bob, observed=ADDRESS, now=now)
    while not caller.done:
        for writer, reader in ((caller, called), (called, caller)):
            writer.prepare()
            reader.receive(writer.finish(), now)
    caller.session("256")
    called.session("256")


def repeat(work: Callable[[], None], times: int) -> tuple[float, float]:
    """(per second, CPU seconds each), after a tenth as many for warming up."""
    for _ in range(max(1, times // 10)):
        work()
    began, cpu = perf_counter(), process_time()
    for _ in range(times):
        work()
    return times / (perf_counter() - began), (process_time() - cpu) / times
