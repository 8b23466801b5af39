"""The topic squatter: one node, as many owners as a topic has places."""

from __future__ import annotations

from pqdht.errors import PqdhtError
from pqdht.records import Topic
from tests.sim.arena import Arena, run, small, without_one_per_node

NODES, PLACES, HONEST = 12, 6, range(2, 6)


async def scenario(arena: Arena) -> list[bytes]:
    """What a reader finds under the topic, where the squatter came first."""
    await arena.enlist("topic_squatter", 1, topic="vpn").act()
    for i in HONEST:
        try:
            await arena.net.nodes[i].put(Topic("vpn"), b"honest %d" % i)
        except PqdhtError:
            continue
    found = await arena.net.nodes[7].get_topic("vpn", ignore_local=True)
    return sorted(r.value or b"" for r in found)


def test_a_node_has_one_place_whatever_its_owners() -> None:
    params = small(records_per_key=PLACES)
    with without_one_per_node():
        found, _ = run(scenario, NODES, seed=1, params=params)
    assert set(found) == {b"squatted"}

    found, _ = run(scenario, NODES, seed=1, params=params)
    assert found == [*(b"honest %d" % i for i in HONEST), b"squatted"]
