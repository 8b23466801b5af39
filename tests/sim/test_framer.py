"""Framers ask crafted questions, give crafted records, report what comes back; and liars are found out."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
import pytest

from pqdht.config import DefenceMode
from pqdht.errors import PqdhtError, WireCode
from pqdht.node.reports import PRAISE_TO
from pqdht.testing.adversaries import Forger, Framer, Gang, enlist
from pqdht.testing.loop import run
from pqdht.trust.events import EventKind
from pqdht.trust.evidence import EvidenceRule, Proof
from pqdht.trust.reputation import Deed
from pqdht.wire.messages import FindNode, Nodes, Report, Reported
from tests.sim.arena import without_signature_check
from tests.sim.harness import Net, contact, counter
from tests.sim.witness import Witness, accusations

NODES, EVIL = 16, list(range(11, 16))
ACTS = 4


async def frame(net: Net) -> list[Framer]:
    """The evil nodes, each of which has tried a few honest ones."""
    gang = enlist("framer", [net.nodes[i] for i in EVIL], Gang(seed=net.seed))
    for _ in range(ACTS):
        await gang.act()
    framers = [m for m in gang.members.values() if isinstance(m, Framer)]
    assert len(framers) == len(EVIL)
    return framers


def framed(net: Net, framers: list[Framer]) -> list[Proof]:
    """What the framers got that proves a fault of an honest node."""
    index = {bytes(net.nodes[i].node_id): i for i in range(NODES)}
    found: list[Proof] = []
    for framer in framers:
        for answer in framer.got:
            assert index[bytes(answer.node_id)] not in EVIL
            found += accusations(net, index[bytes(answer.node_id)], answer.envelope, answer.request)
    return found


def test_nothing_a_framer_gets_an_honest_node_to_sign_is_a_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        witness = Witness(monkeypatch)
        net = Net(seed=5)
        await net.grow(NODES)
        framers = await frame(net)
        assert all(len(f.got) > 8 * ACTS for f in framers)
        assert framed(net, framers) == []
        codes = [code for f in framers for code in f.codes.elements()]
        assert len(codes) == len(EVIL) * ACTS * Framer.ACCUSATIONS
        assert WireCode.OK not in codes
        evil = {net.nodes[i].node_id for i in EVIL}
        for i in range(NODES):
            if i not in EVIL:
                assert witness.proofs(net, i) == []
            assert {h.node for h in net.nodes[i]._guard.quarantined()} <= evil
            assert counter(net.nodes[i], "proofs_against_ourselves") == 0
        # who gave forged records proved it against itself: those stores were signed
        assert any(counter(net.nodes[i], "proofs_taken") for i in range(NODES) if i not in EVIL)
        await net.close()

    run(main)


def test_nodes_that_passed_on_what_they_did_not_check_would_be_framed() -> None:
    """The attack without the defence: records are believed, stored and served as they are."""

    async def main() -> None:
        net = Net(seed=5)
        await net.grow(NODES)
        with without_signature_check():
            framers = await frame(net)
        assert {p.rule for p in framed(net, framers)} == {EvidenceRule.BAD_RECORD_SIGNATURE}
        assert any(f.codes[WireCode.OK] for f in framers)
        evil = {net.nodes[i].node_id for i in EVIL}
        assert any({h.node for h in n._guard.quarantined()} - evil for n in net.nodes)
        await net.close()

    run(main)


def test_a_forger_is_proved_quarantined_and_told_of_once() -> None:
    async def main() -> None:
        net = Net(seed=7)
        await net.grow(24)
        await net.nodes[0].put("x", b"v")
        wire = net.nodes[0]._publisher.last(net.nodes[0].named("x"), net.nodes[0].owner_id)
        assert wire is not None
        liar, victim = 5, 3
        Forger(net.nodes[liar], Gang(history=lambda _: [wire.wire]))
        owner = net.nodes[0].owner_id
        with contextlib.suppress(PqdhtError):
            await net.nodes[victim].get("x", owner=owner, consistency="all", ignore_local=True)
        await asyncio.sleep(5.0)
        bad = net.nodes[liar].node_id
        aware = [i for i in range(24) if counter(net.nodes[i], "proofs_taken")]
        assert victim in aware
        assert len(aware) > 4  # who never met the lie itself knows by recomputing
        assert all(net.nodes[i]._guard.score(bad) < 0.3 for i in aware)
        assert any(bad in net.nodes[i]._guard.held for i in aware)  # the others are capped: so few are left
        sent = sum(counter(n, "reports_sent") for n in net.nodes)
        assert sent <= 8 * len(aware)
        assert all(counter(n, "proofs_taken") <= 1 for n in net.nodes)
        kinds = {e.kind for e in net.nodes[victim]._guard.events.recent()}
        assert {EventKind.PROVEN_FAULT, EventKind.REPORT_SENT} <= kinds
        assert kinds & {EventKind.QUARANTINED, EventKind.QUARANTINE_CAPPED}
        assert all(not n._guard.held.keys() - {bad} for n in net.nodes)
        await net.close()

    run(main)


def test_a_false_contact_is_proof_against_who_names_it() -> None:
    async def main() -> None:
        net = Net(seed=9)
        await net.grow(10)
        told = net.seats[2].identity.contact(("tcp/10.0.2.1:4733",))
        false = msgspec.structs.replace(told, digest=bytes(32))
        net.nodes[4]._handlers._contacts = lambda *_: (false,)  # type: ignore[method-assign]
        answer = await net.nodes[1]._peers.request(contact(net, 1, 4), FindNode(bytes(32)))
        assert isinstance(answer.body, Nodes)
        net.nodes[1]._routing.candidates(answer)
        guard = net.nodes[1]._guard
        (proof,) = (e for e in guard.events.recent() if e.kind is EventKind.PROVEN_FAULT)
        assert (proof.node, proof.detail["rule"]) == (net.nodes[4].node_id, "FALSE_DIGEST")
        assert guard.score(net.nodes[4].node_id) < 0.3
        assert guard.score(net.nodes[2].node_id) >= 0.5
        await net.close()

    run(main)


def test_praise_is_taken_once_an_hour_and_begins_nothing() -> None:
    async def main() -> None:
        net = Net(seed=9)
        await net.grow(6)
        friend, stranger = net.nodes[2].node_id, b"\7" * 32
        guard = net.nodes[1]._guard
        for _ in range(5):
            guard.reputation.observe(friend, Deed.VALID, net.clock() / 1000)
        before = guard.score(friend)
        codes = []
        for _ in range(3):
            body = Report(None, (stranger, friend, net.nodes[0].node_id, friend))
            answer = await net.nodes[0]._peers.request(contact(net, 0, 1), body)
            assert isinstance(answer.body, Reported)
            codes.append(answer.body.code)
        assert codes == [0, 1, 1]
        assert before < guard.score(friend) <= before + 0.05
        assert stranger not in guard.reputation
        await net.close()

    run(main)


@pytest.mark.parametrize(("mode", "sent"), [("enforce", PRAISE_TO), ("observe", 0), ("off", 0)])
def test_scores_that_are_only_observed_are_told_nobody(mode: DefenceMode, sent: int) -> None:
    async def main() -> None:
        net = Net(seed=9, defences={"reputation": mode})
        await net.grow(6)
        node = net.nodes[1]
        for _ in range(9):
            node._guard.reputation.observe(net.nodes[2].node_id, Deed.VALID, net.clock() / 1000)
        await node._reports.praise()
        assert counter(node, "reports_sent") == sent
        await net.close()

    run(main)
