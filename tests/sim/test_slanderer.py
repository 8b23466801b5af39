"""30 % of the nodes report honest ones, with all they can make of their answers: nobody believes them."""

from __future__ import annotations

import asyncio
import random

import pytest

from pqdht.errors import WireCode
from pqdht.node.dht import SecureDHT
from pqdht.testing.loop import run
from pqdht.trust import evidence as rules
from pqdht.trust.evidence import Proof
from pqdht.wire.messages import Evidence, FindNode, FindValue
from tests.sim.harness import Net, counter
from tests.sim.reporters import answers, known, report, share, slanders

NODES = 20


def held(node: SecureDHT) -> set[bytes]:
    return {h.node for h in node._guard.quarantined()}


async def slander(net: Net, evil: list[int]) -> dict[str, int]:
    """Each evil node tells three honest ones about three others; how often which code was answered."""
    codes: dict[str, int] = {}
    for by in evil:
        dice = random.Random(by)
        honest = [i for i in known(net, by) if i not in evil]
        for victim in dice.sample(honest, 3):
            key = net.nodes[victim].named("x").key()
            got = await answers(net, by, victim, [FindNode(key), FindValue(key)])
            made = slanders(net, victim, got, dice)
            for to in dice.sample([i for i in honest if i != victim], 3):
                for evidence in dice.sample(made, 8):
                    code = await report(net, by, to, evidence)
                    name = "none" if code is None else WireCode(code).name
                    codes[name] = codes.get(name, 0) + 1
    return codes


def test_no_honest_node_is_quarantined_and_the_slanderers_are() -> None:
    async def main() -> None:
        net = Net(seed=3)
        await net.grow(NODES)
        await net.nodes[0].put("x", b"v")
        evil = share(net, 0.3)
        codes = await slander(net, evil)
        honest = {net.nodes[i].node_id for i in range(NODES) if i not in evil}
        assert codes["BAD_RECORD"] > 100
        assert "OK" not in codes
        for i in range(NODES):
            assert not held(net.nodes[i]) & honest
            assert counter(net.nodes[i], "proofs_taken") == 0
        refused = sum(counter(n, "reports_refused") for n in net.nodes)
        assert refused >= codes["BAD_RECORD"]
        scores = [net.nodes[0]._guard.score(net.nodes[i].node_id) for i in evil]
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
        evil = share(net, 0.3)
        await slander(net, evil)
        honest = {net.nodes[i].node_id for i in range(NODES) if i not in evil}
        assert any(held(net.nodes[i]) & honest for i in range(NODES) if i not in evil)
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
