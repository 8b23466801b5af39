"""Framers ask crafted questions, give crafted records, report what comes back; and liars are found out."""

from __future__ import annotations

import asyncio
import contextlib
import random

import msgspec
import pytest

from pqdht.config import DefenceMode
from pqdht.errors import PqdhtError
from pqdht.node.exchange import Answer
from pqdht.node.reports import PRAISE_TO
from pqdht.testing.adversaries import Forger, Gang
from pqdht.testing.loop import run
from pqdht.trust.events import EventKind
from pqdht.trust.evidence import EvidenceRule, collect
from pqdht.trust.reputation import Deed
from pqdht.wire.messages import FindNode, Nodes, Report, Reported
from tests.sim.harness import Net, contact, counter
from tests.sim.reporters import answers, crafted, known, report, share
from tests.sim.witness import Witness, accusations

NODES = 16


def test_nothing_a_framer_gets_an_honest_node_to_sign_is_a_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        witness = Witness(monkeypatch)
        net = Net(seed=5)
        await net.grow(NODES)
        evil = share(net, 0.3)
        reported = 0
        for by in evil:
            dice = random.Random(by)
            honest = [i for i in known(net, by) if i not in evil]
            for victim in dice.sample(honest, 4):
                got: list[Answer] = []
                for _ in range(2):
                    got += await answers(net, by, victim, crafted(net, by, dice.randbytes(32), dice))
                assert got
                for answer in got:
                    assert accusations(net, victim, answer.envelope, answer.request) == []
                identity = net.seats[victim].identity
                for answer in dice.sample(got, 4):
                    rule = dice.choice(list(EvidenceRule))
                    evidence = collect(
                        rule, identity.contact(), identity.signing.public, answer.envelope, answer.request
                    )
                    to = dice.choice([i for i in honest if i != victim])
                    assert await report(net, by, to, evidence) != 0
                    reported += 1
        assert reported == len(evil) * 16
        for i in range(NODES):
            if i not in evil:
                assert witness.proofs(net, i) == []
            accused = {h.node for h in net.nodes[i]._guard.quarantined()}
            assert accused <= {net.nodes[j].node_id for j in evil}
            assert counter(net.nodes[i], "proofs_against_ourselves") == 0
        # who gave forged records proved it against itself: those stores were signed
        assert any(counter(net.nodes[i], "proofs_taken") for i in range(NODES) if i not in evil)
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
