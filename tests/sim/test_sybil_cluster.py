"""Sybils with ids ground for one key hide a record, or serve an older one; the Sybil test finds it again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any

import pytest

from pqdht.constants import TESTNET
from pqdht.crypto.api import make_suite
from pqdht.errors import ConfigError, NotConfirmed, NotFound
from pqdht.identity.keys import NodeIdentity
from pqdht.ids import common_prefix_length
from pqdht.kad.quorum import Verdict
from pqdht.node.results import GetResult
from pqdht.records import Named
from pqdht.testing.adversaries import Gang, enlist, ground
from pqdht.testing.fake import FakeProvider
from pqdht.testing.loop import run
from pqdht.trust.events import EventKind
from tests.sim.harness import Net, counter

WALKS = 6
"""Random lookups of the reader and the writer: enough for an estimate of the size."""


@dataclass
class Attack:
    """What a GET under attack gave, and what was counted at the reader."""

    result: GetResult
    alarms: int
    widened: int
    events: int
    stored_at: int
    """Honest nodes that hold the newest version."""


def placed(net: Net, seed: int, key: bytes, cpl: int) -> NodeIdentity:
    """An identity at a key; no node of the harness has such a seed."""
    return ground(make_suite(1, FakeProvider((1 << 40) + seed)), net.tag, net.params, net.clock(), key, cpl)


async def attack(net: Net, mode: str, *, honest: int, sybils: int, active: bool, put_late: bool) -> Attack:
    """A record in two versions, Sybils nearer to it than any honest node, and a GET by a fresh reader."""
    await net.grow(honest)
    writer = await net.add(defences={"sybil_test": mode}, listen=())
    await writer.bootstrapped(60.0)
    key = bytes(Named(writer.owner_id, "x").key())
    old = await writer.put("x", b"old")
    await asyncio.sleep(1.0)
    if not put_late:
        await writer.put("x", b"new")
    kind = "sybil_cluster_active" if active else "sybil_cluster"
    gang = Gang(key=key, history=lambda _: [old.record.wire])
    cpl = max(common_prefix_length(seat.identity.node_id, key) for seat in net.seats) + 3
    for i in range(sybils):
        node = await net.add(identity=placed(net, i, key, cpl))
        await node.bootstrapped(60.0)
        enlist(kind, [node], gang)
        await asyncio.sleep(0.2)
    reader = await net.add(defences={"sybil_test": mode}, listen=())
    await reader.bootstrapped(60.0)
    for _ in range(WALKS):
        await asyncio.gather(reader._maintenance.walk(), writer._maintenance.walk())
    if put_late:
        await writer.put("x", b"new")
        await asyncio.sleep(2.0)
    events: list[EventKind] = []
    reader._guard.subscribe(lambda event: events.append(event.kind))
    try:
        result: GetResult | None = await reader.get("x", owner=writer.owner_id)
    except (NotFound, NotConfirmed) as e:
        result = e.result
    assert result is not None
    newest = writer._publisher.last(Named(writer.owner_id, "x"), writer.owner_id)
    assert newest is not None
    assert newest.value == b"new"
    held = [n.env.store.get(key, writer.owner_id) for n in net.nodes[:honest]]
    return Attack(
        result,
        counter(reader, "sybil_alarms"),
        counter(reader, "lookups_widened"),
        events.count(EventKind.SYBIL_ALARM),
        sum(any(r.record_id == newest.record_id for r in kept) for kept in held),
    )


def under_attack(
    mode: str, *, seed: int, k: int, honest: int, sybils: int, active: bool, put_late: bool = False
) -> Attack:
    async def main() -> Attack:
        params = replace(TESTNET, k=k, puzzle_schedule=((0, 0),))
        net = Net(seed=seed, params=params, paths=2, path_end=3, path_end_doubt=4, paths_doubt=2)
        outcome = await attack(net, mode, honest=honest, sybils=sybils, active=active, put_late=put_late)
        await net.close()
        return outcome

    return run(main)


HIDDEN: dict[str, Any] = {"seed": 5, "k": 4, "honest": 24, "sybils": 24}
"""Paths and k are scaled down with the network: 24 Sybils end all paths of a reader that came after them."""


@pytest.mark.parametrize("put_late", [False, True])
def test_sybils_who_deny_hide_a_record_until_the_region_is_asked(put_late: bool) -> None:
    options = HIDDEN | {"active": False, "put_late": put_late}
    off, enforced = under_attack("off", **options), under_attack("enforce", **options)
    assert (off.result.verdict, off.result.value, off.alarms) == (Verdict.ABSENT, None, 0)
    assert (enforced.result.verdict, enforced.result.value) == (Verdict.CONFIRMED, b"new")
    assert (enforced.alarms, enforced.widened, enforced.events) == (1, 1, 1)
    if put_late:  # the writer met the Sybils too
        assert enforced.stored_at > off.stored_at


def test_sybils_who_agree_on_an_older_version_are_out_voted_in_the_region() -> None:
    off, observed, enforced = (under_attack(m, active=True, **HIDDEN) for m in ("off", "observe", "enforce"))
    assert (off.result.verdict, off.result.value, off.alarms) == (Verdict.CONFIRMED, b"old", 0)
    assert (enforced.result.verdict, enforced.result.value) == (Verdict.CONFIRMED, b"new")
    assert (enforced.alarms, enforced.widened) == (1, 1)
    # `observe` changes nothing but logs
    assert (observed.alarms, observed.widened, observed.events) == (1, 0, 1)
    assert (observed.result.value, observed.result.queries) == (b"old", off.result.queries)


def test_a_cluster_has_a_key() -> None:
    async def main() -> None:
        net = Net(seed=1)
        node = await net.add()
        with pytest.raises(ConfigError, match="at one key"):
            enlist("sybil_cluster", [node])
        identity = placed(net, 7, bytes(32), 9)
        assert common_prefix_length(identity.node_id, bytes(32)) >= 9
        assert identity.bits >= net.params.puzzle_bits(identity.born)
        await net.close()

    run(main)
