"""30 % of the nodes report honest ones, with all they can make of their answers: nobody believes them."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from pqdht.errors import WireCode
from pqdht.node.dht import SecureDHT
from pqdht.testing.adversaries import Gang, Slanderer, enlist
from pqdht.testing.loop import run
from pqdht.trust import evidence as rules
from pqdht.trust.evidence import Proof
from pqdht.wire.messages import Evidence
from tests.sim.harness import Net, counter

NODES, EVIL = 20, list(range(14, 20))


def held(node: SecureDHT) -> set[bytes]:
    return {h.node for h in node._guard.quarantined()}


async def slander(net: Net, evil: list[int]) -> Counter[str]:
    """Each evil node accuses three honest ones at three others; how often which code was answered."""
    gang = enlist("slanderer", [net.nodes[i] for i in evil], Gang(seed=net.seed))
    for _ in range(3):
        await gang.act()
    codes: Counter[str] = Counter()
    for member in gang.members.values():
        assert isinstance(member, Slanderer)
        for code, n in member.codes.items():
            codes["none" if code is None else WireCode(code).name] += n
    return codes


def test_no_honest_node_is_quarantined_and_the_slanderers_are() -> None:
    async def main() -> None:
        net = Net(seed=3)
        await net.grow(NODES)
        await net.nodes[0].put("x", b"v")
        codes = await slander(net, EVIL)
        honest = {net.nodes[i].node_id for i in range(NODES) if i not in EVIL}
        assert codes["BAD_RECORD"] > 100
        assert "OK" not in codes
        for i in range(NODES):
            assert not held(net.nodes[i]) & honest
            assert counter(net.nodes[i], "proofs_taken") == 0
        refused = sum(counter(n, "reports_refused") for n in net.nodes)
        assert refused >= codes["BAD_RECORD"]
        scores = [net.nodes[0]._guard.score(net.nodes[i].node_id) for i in EVIL]
        assert min(scores) < 0.5
        assert (await net.nodes[1].get("x", owner=net.nodes[0].owner_id)).value == b"v"
        await net.close()

    run(main)


def test_if_reports_were_believed_the_same_would_throw_honest_nodes_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The attack without the defence: a verifier that takes the reporter's word."""

    def credulous(evidence: Evidence, suite: object, tag: bytes, messages: object) -> Proof:
        return Proof(rules.claimed_offender(evidence, tag), rules.EvidenceRule(1), evidence.contact, evidence)

    monkeypatch.setattr("pqdht.node.reports.judge", credulous)

    async def main() -> None:
        net = Net(seed=3)
        await net.grow(NODES)
        await slander(net, EVIL)
        honest = {net.nodes[i].node_id for i in range(NODES) if i not in EVIL}
        assert any(held(net.nodes[i]) & honest for i in range(NODES) if i not in EVIL)
        await net.close()

    run(main)


@pytest.mark.parametrize("mode", ["off", "observe"])
def test_modes(mode: str) -> None:
    """Off: REPORT is not known.  Observe: judged and counted, and nothing follows."""

    async def main() -> None:
        net = Net(seed=3, defences={"reports": mode})
        await net.grow(8)
        codes = await slander(net, [7])
        if mode == "off":
            assert set(codes) == {"none"}
            assert sum(counter(n, "evidence_judged") for n in net.nodes) == 0
        else:
            assert codes["BAD_RECORD"] > 0
            assert all(net.nodes[i]._guard.score(net.nodes[7].node_id) >= 0.5 for i in range(7))
        assert not any(held(n) for n in net.nodes)
        await asyncio.sleep(1.0)
        await net.close()

    run(main)
