"""The security core of a live network really runs, under each crypto provider and under both at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pqdht import SecureDHT, Verdict
from pqdht.crypto.api import Provider
from pqdht.crypto.providers import available_providers
from pqdht.testing.testnet import Testnet, join_all
from tests.live.harness import announce_and_find, check_evidence, check_security_core, entry, make, run

N = 12
needs_both = pytest.mark.skipif(len(available_providers()) < 2, reason="liboqs is not installed")


def test_a_network_under_each_provider(provider: Provider) -> None:
    async def main() -> None:
        async with Testnet.loopback(N, provider=provider.name) as net:
            assert {n.status()["provider"] for n in net.nodes} == {provider.name}
            await announce_and_find(net.nodes)
            await check_evidence(net.nodes[7], net.nodes[2], net.nodes)
            check_security_core(net.nodes)
            held = [n.status()["records"] for n in net.nodes]
            assert min(held) < len(net.nodes), "with k = 4 nobody stores everything"

    run(main())


@needs_both
def test_a_network_of_both_providers() -> None:
    async def main() -> None:
        nodes: list[SecureDHT] = []
        try:
            for i in range(10):
                known = (entry(nodes[0]),) if nodes else ()
                nodes.append(make(i, bootstrap=known, provider=("liboqs", "openssl")[i % 2]))
                await nodes[-1].start()
            await join_all(nodes)
            await announce_and_find(nodes)
            await check_evidence(nodes[1], nodes[2], nodes)
            await check_evidence(nodes[2], nodes[1], nodes)
            check_security_core(nodes)
        finally:
            await asyncio.gather(*(n.close() for n in nodes))

    run(main())


@needs_both
def test_a_data_directory_moves_from_one_provider_to_the_other(tmp_path: Path) -> None:
    async def main() -> None:
        async with Testnet.loopback(4, provider="openssl") as net:
            ids: set[tuple[bytes, bytes]] = set()
            for i, provider in enumerate(("openssl", "liboqs", "openssl")):
                async with make(20, bootstrap=net.bootstrap, data_dir=tmp_path, provider=provider) as node:
                    await node.bootstrapped(10)
                    ids.add((node.node_id, node.owner_id))
                    value = b"%d" % i
                    await node.put("name", value)
                    got = await net.nodes[2].get("name", owner=node.owner_id, ignore_local=True)
                    assert (got.value, got.verdict) == (value, Verdict.CONFIRMED)
            assert len(ids) == 1

    run(main())
