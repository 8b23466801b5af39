"""Who enters the table, who is passed on, who is remembered."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import msgspec

from pqdht.constants import BORN_MAX_AGE_DAYS, DAY_MS, TESTNET
from pqdht.errors import DialHeldBack, PeerError, PeerIdentityMismatch, PeerTimeout, RemoteError, WireCode
from pqdht.identity.contact import VerifiedContact
from pqdht.ids import NodeId, distance
from pqdht.node.exchange import Answer
from pqdht.node.guard import Guard
from pqdht.node.routing import REMEMBERED, Routing
from pqdht.testing.loop import run
from pqdht.wire.contact import Contact
from pqdht.wire.messages import Nodes
from tests.sim.harness import Net, contact
from tests.unit.node.parts import environment, identity


def naming(contacts: list[Contact]) -> Answer:
    """An answer that names these."""
    return Answer(NodeId(bytes(32)), "group", Nodes(bytes(32), tuple(contacts)), b"", b"", 0.1, 0, 0)


def test_only_believable_contacts_of_an_answer_are_taken() -> None:
    async def main() -> None:
        env, _ = await environment()
        routing = Routing(env, Guard(env))
        good = [(await identity(env)).contact((f"tcp/10.0.{i}.1:1",)) for i in range(4)]
        nowhere = msgspec.structs.replace(good[1], addresses=())
        ours = env.identity.contact(("tcp/10.0.9.1:1",))
        false = msgspec.structs.replace(good[2], nonce=bytes(8))
        found = routing.candidates(naming([good[0], nowhere, ours, good[3]]))
        assert [c.group for c in found] == ["10.0.0.0/24", "10.0.3.0/24"]
        assert len(routing.candidates(naming([good[0], false, good[3]]))) == 1  # nothing after a false one
        assert env.counters["contacts_refused.BadPuzzle"] == 1

    run(main)


def test_an_expired_contact_does_not_cut_off_the_rest_of_an_answer() -> None:
    """An id that was born to expire tonight, close to a key, comes first in everybody's answers about it."""

    async def main() -> None:
        env, clock = await environment()
        today = clock.now // DAY_MS
        routing = Routing(env, Guard(env))
        good = [(await identity(env)).contact((f"tcp/10.0.{i}.1:1",)) for i in range(2)]
        ends = (await identity(env, today - BORN_MAX_AGE_DAYS)).contact(("tcp/10.0.9.1:1",))
        said = naming([ends, *good])
        assert len(routing.candidates(said)) == 3
        clock.now += DAY_MS
        assert [c.group for c in routing.candidates(said)] == ["10.0.0.0/24", "10.0.1.0/24"]
        assert routing._guard.score(said.node_id) > 0.5

    run(main)


def test_who_expires_leaves_the_table_though_its_session_goes_on() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(3)
        node, other = net.nodes[0], net.nodes[1].node_id
        routing = node._routing
        entry = routing.table.get(other)
        assert entry is not None
        old = entry.contact.contact.born - BORN_MAX_AGE_DAYS - 1
        object.__setattr__(entry.contact, "contact", msgspec.structs.replace(entry.contact.contact, born=old))
        await node._maintenance.probe()
        assert routing.table.get(other) is None
        assert routing.table.get(net.nodes[2].node_id) is not None
        assert node.env.counters["table_expired"] == 1
        net.sim.set_skew(net.seats[0].ip, 99 * DAY_MS)  # nobody would be left: it is our clock that is wrong
        await node._maintenance.probe()
        assert routing.table.get(net.nodes[2].node_id) is not None
        await net.close()

    run(main)


def test_a_contact_is_counted_where_it_can_be_dialled() -> None:
    """An address that nobody dials must not choose the group, nor bring in addresses of another."""

    async def main() -> None:
        env, _ = await environment()
        routing = Routing(env, Guard(env))
        posing = (await identity(env)).contact(
            ("udp/172.16.0.1:1", "tcp/10.6.6.1:1", "tcp/10.7.7.1:1", "tcp/10.6.6.2:1")
        )
        nowhere = (await identity(env)).contact(("udp/172.16.0.1:1",))
        (found,) = routing.candidates(naming([posing, nowhere]))
        assert (found.group, found.contact.group) == ("10.6.6.0/24", "10.6.6.0/24")
        assert [str(a) for a in found.contact.addresses] == ["tcp/10.6.6.1:1", "tcp/10.6.6.2:1"]

    run(main)


def test_who_is_among_the_closest_we_know() -> None:
    async def main() -> None:
        net = Net(params=replace(TESTNET, k=2))
        await net.grow(5)
        key = bytes(32)
        others = sorted((n.node_id for n in net.nodes[1:]), key=lambda n: distance(n, key))
        routing = net.nodes[0]._routing
        assert [routing.is_among_closest(n, key) for n in others] == [True, True, False, False]
        await net.close()

    run(main)


def test_what_is_remembered_comes_back_unless_damaged_or_expired() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(5)
        node = net.nodes[2]
        await node._routing.save()
        known = {c.node_id for c in node._routing.load()}
        assert known == {p.node_id for p in node.peers()}
        assert all(c.kem_key is not None for c in node._routing.load())
        store = node.env.store
        blob = store.load_state(REMEMBERED)
        assert blob is not None
        await store.save_state(REMEMBERED, blob[:-1])
        assert node._routing.load() == []
        assert node.status()["counters"]["remembered_contacts_damaged"] == 1
        await store.save_state(REMEMBERED, blob)
        net.sim.set_skew(net.seats[2].ip, 38 * 86_400_000)
        assert node._routing.load() == []
        await net.close()

    run(main)


def test_silence_evicts_and_refusals_do_not() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(3)
        node, other = net.nodes[0], net.nodes[1].node_id
        routing, who = node._routing, contact(net, 0, 1)
        for error in (DialHeldBack("later"), PeerError("no", code=WireCode.BUSY), PeerIdentityMismatch("b")):
            for _ in range(9):
                routing.failed(who, error)
        assert routing.table.get(other) is not None
        lie = who.with_addresses(["tcp/10.0.77.1:1"])  # at an address that another told us
        innocent: list[tuple[VerifiedContact, RemoteError]] = [
            (lie, PeerTimeout("silent")),
            (who, PeerIdentityMismatch("somebody else")),
        ]
        for each, fault in innocent:
            for _ in range(9):
                routing.failed(each, fault)
                await asyncio.sleep(1.0)
                routing.heard(net.nodes[2].node_id)  # we are not deaf ourselves
        assert routing.table.get(other) is not None
        routing.failed(who, PeerTimeout("silent"))
        await asyncio.sleep(1.0)
        routing.heard(net.nodes[2].node_id)  # we are not deaf ourselves
        for _ in range(2):
            routing.failed(who, PeerTimeout("silent"))
        assert routing.table.get(other) is None
        assert node.env.counters["table_evicted"] == 1
        await net.close()

    run(main)


def test_only_who_was_heard_lately_is_passed_on() -> None:
    async def main() -> None:
        net = Net(max_table_idle_s=100.0)
        await net.grow(4)
        node = net.nodes[0]
        target = bytes(32)
        everybody = [c.node_id for _, c in node._routing.to_pass_on(target, 9, b"")]
        assert len(everybody) == 3
        distances = [d for d, _ in node._routing.to_pass_on(target, 9, b"")]
        assert distances == sorted(distances)
        assert [c.node_id for _, c in node._routing.to_pass_on(target, 9, everybody[0])] == everybody[1:]
        quiet = net.nodes.index(next(n for n in net.nodes if n.node_id == everybody[0]))
        net.sim.unreachable(net.seats[quiet].ip)
        await asyncio.sleep(110.0)
        assert [c.node_id for _, c in node._routing.to_pass_on(target, 9, b"")] == everybody[1:]
        assert len(node._routing.seeds(target, 9)) >= 2
        await net.close()

    run(main)


def test_who_has_no_address_is_served_and_not_entered() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(3)
        client = await net.add(listen=())
        await client.bootstrapped(10.0)
        await asyncio.sleep(5.0)
        assert len(client.peers()) == 3
        assert all(client.node_id not in [p.node_id for p in n.peers()] for n in net.nodes[:3])
        await net.nodes[1].put("x", b"1")
        assert (await client.get("x", owner=net.nodes[1].owner_id)).value == b"1"
        put = await client.put("y", b"2")
        assert client.node_id not in [r.node for r in put.receipts]
        assert (await net.nodes[0].get("y", owner=client.owner_id)).value == b"2"
        await net.close()

    run(main)


def test_the_table_follows_the_limits_of_the_network() -> None:
    async def main() -> None:
        env, _ = await environment(limits={"table_per_group": 1})
        off, _ = await environment(params=replace(env.params, address_groups=False))
        for each, most in ((env, 1), (off, 5)):
            routing = Routing(each, Guard(each))
            for i in range(5):
                who = await identity(each)
                contact = each.contacts.verify(who.contact((f"tcp/10.0.0.{i + 1}:1",)), each.clock())
                routing.table.add(contact.node_id, contact, contact.group, contact.wide_group, 0.0)
            assert len(routing.table) == most

    run(main)
