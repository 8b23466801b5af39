"""Answers late, doubled, unasked, unsigned, forged, or to something else: a typed error, nothing lost."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import msgspec
import pytest

from pqdht.envelope import request_hash, signed_bytes
from pqdht.errors import PeerError, PeerTimeout, PeerUnreachable, PqdhtError, SessionFailed, WireCode
from pqdht.node.exchange import Question
from pqdht.records import Topic
from pqdht.testing.loop import run
from pqdht.wire.address import parse_address
from pqdht.wire.messages import FindNode, FindValue, MessageType, Nodes, Ping, Store, WireRecord
from tests.sim.harness import Net, contact, counter, strangers
from tests.sim.tamper import LATE_S, TREATMENTS, Tampering


@pytest.mark.parametrize("name", TREATMENTS)
def test_a_bad_answer_ends_in_its_error_and_the_next_question_is_answered(name: str) -> None:
    async def main() -> None:
        net = Net()
        await net.grow(2)
        asker, to = net.nodes[0], contact(net, 0, 1)
        treatment = TREATMENTS[name]
        tampering = Tampering(net)
        tampering.install()
        tampering.next = [treatment]
        session = asker._peers.sessions[net.nodes[1].node_id]
        target = bytes(range(32))
        before = counter(asker, treatment.counter)
        if treatment.error is None:
            answer = await asker._peers.request(to, FindNode(target))
            assert isinstance(answer.body, Nodes)
            assert answer.body.target == target
        else:
            with pytest.raises(treatment.error) as e:
                await asker._peers.request(to, FindNode(target))
            assert type(e.value) is treatment.error
        await asyncio.sleep(LATE_S + 1)
        assert session.is_closed == treatment.ends
        assert counter(asker, treatment.counter) - before == (1 if treatment.counter else 0)
        again = await asker._peers.request(to, FindNode(target))
        assert isinstance(again.body, Nodes)
        assert again.body.target == target
        assert net.nodes[1].node_id in [p.node_id for p in asker.peers()]
        await net.close()

    run(main)


@pytest.mark.parametrize("early", ["reads", "never"])
def test_the_first_message_of_a_session_must_be_bound_to_it(early: str) -> None:
    """An envelope of another session, signed by the right node, is of no use in this one."""

    async def main() -> None:
        net = Net(early=early)
        await net.grow(3)
        asker, evil = net.nodes[0], net.nodes[1]
        for conn in list(evil._peers.sessions.values()):
            conn.close()
        await asyncio.sleep(1.0)
        entry = net.entry(0).partition("@")[2]
        conn = await evil._peers.connect_address(asker.node_id, parse_address(entry))  # nothing said yet
        await asyncio.sleep(1.0)
        ours = next(c for c in asker._peers._all if c.peer is not None and c.peer.node_id == evil.node_id)
        conn.exchange.out_binding = b"\x07" * 32
        question = Question(Ping(), asyncio.get_running_loop().create_future(), 5.0)
        conn.exchange.ask(question)
        with pytest.raises(PqdhtError):
            await question.future
        assert ours.is_closed
        assert not ours.is_proven
        assert counter(asker, f"failed.{SessionFailed.__name__}") == 1
        await evil._peers.request(contact(net, 1, 0), Ping())
        await net.close()

    run(main)


def test_what_a_node_cannot_understand_is_refused_by_name() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(2)
        conn = net.nodes[0]._peers.sessions[net.nodes[1].node_id]
        outcomes = []
        cases = [(int(MessageType.RELAY), b""), (4711, b"\x90"), (int(MessageType.PING), b"\xc1")]
        cases += [(int(MessageType.FIND_NODE), b"\x91\xc4\x01a"), (int(MessageType.STORE), b"\x92\x90\xc2")]
        for number, body in cases:
            question = Question(Ping(), asyncio.get_running_loop().create_future(), 5.0)
            e = conn.exchange.question_envelope(question, net.nodes[1].node_id, bytes(32))
            e = msgspec.structs.replace(e, type=number, body=body)
            question.hash = request_hash(signed_bytes(net.tag, e))
            conn.exchange._questions[question.rpc_id] = question
            conn.exchange.sign(e, conn.exchange._send_asked)
            with pytest.raises(PeerError) as error:
                await question.future
            outcomes.append(error.value.code)
        assert outcomes == [WireCode.UNSUPPORTED] * 2 + [WireCode.MALFORMED] * 3
        assert not conn.is_closed
        await net.close()

    run(main)


def test_a_peer_that_stalls_in_the_middle_of_a_frame_costs_its_questions_only() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(3)
        asker, to = net.nodes[0], contact(net, 0, 1)
        evil = net.nodes[1]._peers.sessions[asker.node_id]
        evil.link.write(b"\x12")  # half of a length
        pings = [asyncio.create_task(asker._peers.request(to, Ping())) for _ in range(3)]
        done = await asyncio.gather(*pings, return_exceptions=True)
        assert {type(e) for e in done} <= {SessionFailed, PeerTimeout, PeerUnreachable}
        await asyncio.sleep(600.0)
        await asker._peers.request(to, Ping())
        found = await asker.put("x", b"1")
        assert found.confirmed >= found.need
        await net.close()

    run(main)


def test_oversized_pages_are_never_sent_and_many_records_still_arrive() -> None:
    """Six values of 20 kB under one topic: more than one message holds, all of them found."""

    async def main() -> None:
        net = Net()
        await net.grow(6)
        dice = random.Random(1)
        for node in net.nodes:
            await node.put(Topic("big"), dice.randbytes(20_000))
        found = await net.nodes[0].get_topic("big", ignore_local=True)
        assert len({r.owner for r in found}) == 6
        await net.close()

    run(main)


def test_a_store_of_garbage_is_answered_record_by_record() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(2)
        wires = (
            WireRecord(b"", b""),
            WireRecord(b"\x9b" + bytes(200), bytes(4627)),
            WireRecord(bytes(40_000), b""),
        )
        answer = await net.nodes[0]._peers.request(contact(net, 0, 1), Store(wires))
        codes = [WireCode(r.code).name for r in answer.body.receipts]  # type: ignore[union-attr]
        assert codes == ["MALFORMED"] * 3
        missing = await net.nodes[0]._peers.request(contact(net, 0, 1), FindValue(bytes(32)))
        assert missing.body.records == ()  # type: ignore[union-attr]
        await net.close()

    run(main)


def test_of_one_answer_two_contacts_of_a_group_are_dialled_at_most() -> None:
    """answer_per_group: nobody can send us all at one victim's network."""

    async def main() -> None:
        net = Net()
        await net.grow(3)
        asker, evil = net.nodes[0], net.nodes[1]
        victims = await strangers(net, 12, lambda i: f"10.9.9.{i + 1}")

        def lie(*_: Any) -> Any:
            return tuple(v.contact for v in victims)

        evil._handlers._contacts = lie  # type: ignore[method-assign,assignment]
        before = counter(asker, "dials")
        walk = await asker._lookups.find(bytes(32), end=8)
        assert walk.lookup.counters["over_group"] == 12 - net.params.limits.answer_per_group
        assert counter(asker, "dials") - before <= net.params.limits.answer_per_group
        assert sum(v.node_id in walk.answers for v in victims) == 0
        await net.close()

    run(main)
