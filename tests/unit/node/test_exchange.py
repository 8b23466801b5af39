"""Questions and answers over one session; what a bad answerer can do is tests/sim/test_answers.py."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from pqdht.crypto.batch import BatchVerifier, strip_root
from pqdht.crypto.labels import BATCH_ROOT
from pqdht.envelope import signed_bytes, with_signature
from pqdht.errors import BadSignature, PeerTimeout, PeerUnreachable, SessionFailed, WireCode
from pqdht.node.exchange import Question
from pqdht.testing.loop import run
from pqdht.wire.codec import encode
from pqdht.wire.messages import Envelope, FindNode, FindValue, Nodes, Ping, Values, decode_envelope
from tests.sim.harness import Net, contact, counter


def test_each_question_gets_its_own_answer_and_its_proof() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(4)
        node, to = net.nodes[0], contact(net, 0, 1)
        bodies = [FindNode(bytes([i]) * 32) for i in range(20)] + [
            FindValue(bytes([i]) * 32) for i in range(20)
        ]
        answers = await asyncio.gather(*(node._peers.request(to, b) for b in bodies))
        for asked, answer in zip(bodies, answers, strict=True):
            if isinstance(asked, FindNode):
                assert isinstance(answer.body, Nodes)
                assert answer.body.target == asked.target
            else:
                assert isinstance(answer.body, Values)
                assert answer.body.key == asked.key
            assert answer.request
            assert answer.bytes == len(answer.envelope) + len(answer.request)
            assert answer.rtt_s == pytest.approx(0.05, abs=0.002)
        assert counter(net.nodes[1], "signatures_made") < counter(net.nodes[1], "messages_signed")
        await net.close()

    run(main)


def test_a_question_that_is_over_is_not_asked() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(2)
        exchange = net.nodes[0]._peers.sessions[net.nodes[1].node_id].exchange
        served = counter(net.nodes[1], "requests_served")
        question = Question(Ping(), asyncio.get_running_loop().create_future(), 5.0)
        question.fail(PeerTimeout("gone"))
        question.fail(PeerTimeout("twice"))
        exchange.ask(question)
        await asyncio.sleep(1.0)
        assert counter(net.nodes[1], "requests_served") == served
        assert not exchange.in_use
        exchange._conn.close()
        late = Question(Ping(), asyncio.get_running_loop().create_future(), 5.0)
        exchange.ask(late)
        with pytest.raises(PeerUnreachable):
            await late.future
        await net.close()

    run(main)


def test_a_refusal_carries_code_wait_and_time() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(2)
        exchange = net.nodes[0]._peers.sessions[net.nodes[1].node_id].exchange
        refusal = exchange.refusal(WireCode.BUSY, 1500)
        assert (refusal.code, refusal.retry_after, refusal.time) == (1, 1500, net.clock(0))
        await net.close()

    run(main)


@pytest.mark.parametrize("field", ["sender", "receiver", "binding", "version"])
def test_an_envelope_of_somebody_else_ends_the_session(field: str) -> None:
    async def main() -> None:
        net = Net()
        await net.grow(2)
        conn = net.nodes[0]._peers.sessions[net.nodes[1].node_id]
        question = Question(Ping(), asyncio.get_running_loop().create_future(), 5.0)
        e = conn.exchange.question_envelope(question, net.nodes[1].node_id, bytes(32))
        bad = msgspec.structs.replace(e, **{field: 0 if field == "version" else b"\x01" * 32})
        conn.exchange._questions[question.rpc_id] = question
        conn.exchange.sign(bad, conn.exchange._send_asked)
        with pytest.raises(PeerUnreachable):
            await question.future
        assert counter(net.nodes[1], f"failed.{SessionFailed.__name__}") == 1
        await net.close()

    run(main)


def test_a_root_signature_travels_once_and_is_back_in_the_evidence() -> None:
    """Messages of one tree on one session: what is kept of each proves itself, whatever was sent."""

    async def main() -> None:
        net = Net(padding="off")
        await net.grow(2)
        node, to = net.nodes[0], contact(net, 0, 1)
        await node._peers.request(to, Ping())
        before = counter(node, "bytes_received")
        alone = await node._peers.request(to, Ping())
        alone_bytes, before = counter(node, "bytes_received") - before, counter(node, "bytes_received")
        answers = await asyncio.gather(*(node._peers.request(to, Ping()) for _ in range(8)))
        together = counter(node, "bytes_received") - before
        signature = net.seats[0].suite.node_signer.signature_size
        assert together < 8 * alone_bytes - 6 * signature
        key = net.seats[1].suite.node_signer.verify_key(net.seats[1].identity.signing.public)
        for answer in (alone, *answers):
            e = decode_envelope(answer.envelope)
            verifier = BatchVerifier()  # knows no root
            verifier.verify(e.signature, signed_bytes(net.tag, e), net.nodes[1].node_id, key, BATCH_ROOT)
        await net.close()

    run(main)


def test_a_message_without_root_is_believed_only_behind_its_own_root() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(2)
        conn = net.nodes[0]._peers.sessions[net.nodes[1].node_id]
        exchange = conn.exchange
        question = Question(Ping(), asyncio.get_running_loop().create_future(), 5.0)
        exchange._questions[question.rpc_id] = question
        e = exchange.question_envelope(question, net.nodes[1].node_id, bytes(32))

        def send(signed: Envelope) -> None:
            conn.send_envelope(encode(with_signature(e, strip_root(signed.signature))))

        exchange.sign(e, send)
        with pytest.raises(PeerUnreachable):
            await question.future
        assert counter(net.nodes[1], f"failed.{BadSignature.__name__}") == 1
        await net.close()

    run(main)


def test_a_root_remembered_from_another_session_makes_no_evidence_in_this_one() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(2)
        conn = net.nodes[0]._peers.sessions[net.nodes[1].node_id]
        exchange, peers = conn.exchange, net.nodes[1]._peers
        loop = asyncio.get_running_loop()
        first, second = (Question(Ping(), loop.create_future(), 5.0) for _ in range(2))
        held: list[Envelope] = []
        for question, send in ((first, exchange._send_asked), (second, held.append)):
            e = exchange.question_envelope(question, net.nodes[1].node_id, bytes(32))
            exchange._questions[question.rpc_id] = question
            exchange.sign(e, send)
        await first.future
        there = peers.sessions[net.nodes[0].node_id].exchange
        there._in_root = b""  # as in a session that brought no root yet
        conn.send_envelope(encode(with_signature(held[0], strip_root(held[0].signature))))
        with pytest.raises(PeerUnreachable):
            await second.future
        assert counter(net.nodes[1], f"failed.{BadSignature.__name__}") == 1
        await net.close()

    run(main)
