"""testing.testnet: simulated networks of real nodes (loopback and processes are in tests/live)."""

from __future__ import annotations

import pytest

from pqdht import PeerUnreachable
from pqdht.testing.loop import run
from pqdht.testing.testnet import Testnet, group_address


def test_every_node_has_an_address_group_of_its_own() -> None:
    addresses = [group_address(i) for i in range(600)]
    assert addresses[0] == "127.1.1.1"
    assert addresses[250] == "127.2.1.1"
    assert len({a.rpartition(".")[0] for a in addresses}) == 600


def test_a_simulated_network_is_up_and_joined() -> None:
    async def main() -> list[int]:
        async with Testnet.simulated(n=6, seed=1) as net:
            assert [n.env.addresses for n in net.nodes] == [(f"tcp/10.1.{i}.1:4733",) for i in range(1, 7)]
            return [len(node.peers()) for node in net.nodes]

    assert run(main) == [5] * 6


@pytest.mark.parametrize("silent", [False, True])
def test_what_a_node_stored_survives_its_crash(silent: bool) -> None:
    async def main() -> None:
        async with Testnet.simulated(n=5, seed=2) as net:
            author = net.nodes[4]
            node_id, owner = author.node_id, author.owner_id
            result = await author.put("greeting", b"hello")
            held = author.env.store.keys()
            assert result.key in held
            await net.crash(4, silent=silent)
            assert (await net.nodes[1].get("greeting", owner=owner)).value == b"hello"
            again = await net.restart(4)
            assert (again.node_id, again.owner_id) == (node_id, owner)
            assert again.env.store.keys() == held
            await again.bootstrapped(60)
            assert (await again.get("greeting", ignore_local=True)).value == b"hello"

    run(main)


def test_a_crash_is_no_orderly_end() -> None:
    """Nobody is told goodbye: others see links break.  It remembers its peers all the same."""

    async def main() -> None:
        async with Testnet.simulated(n=3, seed=3) as net:
            crashed, other = net.nodes[2].node_id, net.nodes[1]
            assert crashed in [p.node_id for p in other.peers()]
            await net.crash(2)
            with pytest.raises(PeerUnreachable):
                await other.ping(crashed)
            again = await net.restart(2)
            assert again.env.store.load_state("contacts") is not None
            await again.bootstrapped(60)
            assert await other.ping(again.node_id) > 0

    run(main)


def test_the_same_seed_gives_the_same_packets() -> None:
    async def main(seed: int) -> str:
        async with Testnet.simulated(n=4, seed=seed, simulator={"loss": 0.05}) as net:
            await net.nodes[1].put("greeting", b"hello")
            return net.network.trace_hash()

    assert run(lambda: main(5)) == run(lambda: main(5))
    assert run(lambda: main(5)) != run(lambda: main(6))


def test_more_nodes_may_join_later() -> None:
    async def main() -> None:
        async with Testnet.simulated(n=3, seed=4) as net:
            late = await net.add(3)
            await late.bootstrapped(60)
            await net.nodes[0].put("greeting", b"hello")
            assert (await late.get("greeting", owner=net.nodes[0].owner_id)).value == b"hello"

    run(main)
