"""Whatever an answerer does: who asks gets the answer to its own question or a documented error, in time."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pqdht.errors import PeerTimeout, RemoteError
from pqdht.node.exchange import UNHEARD_MOST, Answer
from pqdht.testing.loop import run
from pqdht.wire.messages import FindNode, Nodes, Ping
from tests.sim.harness import Net, contact, counter
from tests.sim.tamper import LATE_S, TREATMENTS, Tampering

MILD = st.lists(st.sampled_from(sorted(n for n, t in TREATMENTS.items() if not t.ends)), max_size=4)
GRAVE = st.sampled_from(sorted(n for n, t in TREATMENTS.items() if t.ends))
ROUND = st.one_of(MILD, st.builds(lambda mild, grave: [*mild, grave], MILD, GRAVE))
PLAN = st.lists(ROUND, min_size=1, max_size=4)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(rounds=PLAN, split=st.booleans())
def test_an_answer_is_always_to_the_question_asked(rounds: list[list[str]], split: bool) -> None:
    async def main() -> None:
        net = Net(simulator={"split": split})
        await net.grow(2)
        asker, to = net.nodes[0], contact(net, 0, 1)
        tampering = Tampering(net)
        number = 0
        for names in rounds:
            await asker._peers.request(to, Ping())
            await asyncio.sleep(0.5)  # both ends have the session now
            if not tampering.is_installed:
                tampering.install()
            tampering.next = [TREATMENTS[n] for n in names]
            targets = [bytes([number + i]) * 32 for i in range(len(names))]
            number += len(names)
            outcomes = await asyncio.gather(
                *(asker._peers.request(to, FindNode(t)) for t in targets), return_exceptions=True
            )
            silent = sum(TREATMENTS[n].error is PeerTimeout for n in names)
            broken = silent >= UNHEARD_MOST or any(TREATMENTS[n].ends for n in names)
            for name, target, outcome in zip(names, targets, outcomes, strict=True):
                if isinstance(outcome, Answer):
                    assert TREATMENTS[name].error is None or silent >= UNHEARD_MOST
                    assert isinstance(outcome.body, Nodes)
                    assert outcome.body.target == target
                    assert outcome.node_id == net.nodes[1].node_id
                else:
                    assert isinstance(outcome, RemoteError)
                    assert broken or type(outcome) is TREATMENTS[name].error
        tampering.next = []
        await asyncio.sleep(LATE_S + 1)
        last = await asker._peers.request(to, FindNode(bytes(32)))
        assert isinstance(last.body, Nodes)
        assert all(not c.exchange.in_use for n in net.nodes for c in n._peers._all)
        assert counter(asker, "chores_failed") == 0
        await net.close()

    run(main)
