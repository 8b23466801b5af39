"""Questions and answers: a whole node against one peer that follows the channel to the letter and then
says whatever it likes, in any order, cut anywhere.

The input is a script of what the peer (the cheat) and the node (the victim) do.  Worked out independently
of the node: which answers it may believe, and what it may answer.  Besides, nothing but a documented
error is raised, to whom it belongs; and what the node remembers of the peer stays within its bounds.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from typing import Any

import msgspec

from pqdht.channel.handshake import Handshake, HandshakeParams
from pqdht.channel.hello import MAX_EARLY
from pqdht.channel.session import FrameKind, Session
from pqdht.config import Config
from pqdht.crypto.batch import BatchSigner, BatchVerifier
from pqdht.crypto.labels import BATCH_ROOT
from pqdht.envelope import ZEROS, request_hash, signed_bytes
from pqdht.errors import BadSignature, DecodeError, PeerError, RemoteError, WireCode
from pqdht.identity.contact import ContactVerifier
from pqdht.identity.keys import OwnerIdentity, new_commit
from pqdht.node.connection import Connection
from pqdht.node.dht import SecureDHT
from pqdht.node.environment import Parts
from pqdht.node.exchange import LATE_KEPT, UNASKED_MOST, Answer
from pqdht.records import Content, Named, make_record
from pqdht.storage.memory import MemoryStore
from pqdht.testing.loop import VirtualLoop, run
from pqdht.transport.base import Accept, LinkHandler
from pqdht.wire import messages as m
from pqdht.wire.address import Address, parse_address
from pqdht.wire.codec import encode
from tests.fuzz.mutate import mutate_tree
from tests.fuzz.parsers import BODIES, CONTACT, ID, NODE, NOW, OWNER, PARAMS, SUITE, TAG
from tests.fuzz.source import Source, Target

CHEAT = new_commit(SUITE, TAG, NODE.born).solved(bytes(8))
CHEAT_OWNER = OwnerIdentity.generate(SUITE)
HERE, THERE = "tcp/10.0.0.1:4733", "tcp/10.0.9.1:4733"
KEY = SUITE.node_signer.verify_key(NODE.signing.public)
CHEAT_KEY = SUITE.node_signer.verify_key(CHEAT.signing.public)
VERIFIER = ContactVerifier(SUITE, PARAMS, TAG)
STEPS_MOST = 24


def _wire(where: Any, value: bytes, timestamp: int = NOW) -> m.WireRecord:
    return make_record(
        SUITE, TAG, CHEAT_OWNER, where, value, ttl=3600, timestamp=timestamp, params=PARAMS
    ).wire


RECORDS = (
    _wire(Named(CHEAT_OWNER.owner_id, "x"), b"1"),
    _wire(Named(CHEAT_OWNER.owner_id, "x"), b"2", NOW + 1),
    _wire(Content.of(b"c"), b"c"),
    m.WireRecord(b"tbs", b"sig"),
)
QUESTIONS: tuple[m.Body, ...] = (
    m.Ping(),
    m.FindNode(ID),
    m.FindValue(Named(CHEAT_OWNER.owner_id, "x").key()),
    m.Store((RECORDS[0],)),
    m.Store(RECORDS, True),
    m.FindNode(ID, bytes(32), ID),
    m.FindValue(ID, ID, (ID,), ID, ID),
)


class _Link:
    """A pipe to the victim that keeps what it writes."""

    def __init__(self, remote: str, outbound: bool) -> None:
        self.remote: Address = parse_address(remote)
        self.outbound = outbound
        self.out = bytearray()
        self.handler: LinkHandler | None = None
        self.is_closed = False

    def write(self, data: bytes) -> None:
        if not self.is_closed:
            self.out += data

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            asyncio.get_running_loop().call_soon(self._lost)

    abort = close

    def _lost(self) -> None:
        assert self.handler is not None
        self.handler.connection_lost(None)


class _Pipes:
    """The victim's transport."""

    scheme = "tcp"

    def __init__(self) -> None:
        self.accept: Accept | None = None
        self.links: list[_Link] = []

    async def listen(self, address: Address, accept: Accept, admit: Any = None) -> Address:
        self.accept = accept
        return address

    async def dial(self, address: Address, handler: Accept, timeout: float) -> Any:
        return self.link(str(address), True, handler)

    def link(self, remote: str, outbound: bool, accept: Accept) -> _Link:
        link = _Link(remote, outbound)
        self.links.append(link)
        link.handler = accept(link)
        return link

    async def close(self) -> None:
        for link in self.links:
            link.close()
        await asyncio.sleep(0)


class _Play:
    """One script against one node."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.pipes = _Pipes()
        self.tasks: list[tuple[m.Body, asyncio.Task[Answer]]] = []
        self.questions: dict[bytes, m.Envelope] = {}
        """The victim's, by rpc id."""
        self.asked: Counter[tuple[bytes, bytes]] = Counter()
        """How often the victim may answer: (rpc id, request hash) of what it was validly asked."""
        self.unsound: Counter[tuple[bytes, bytes]] = Counter()
        """The same of what was not validly signed: BUSY may be said to it, and nothing else."""
        self.signer = BatchSigner(SUITE.random_bytes)
        self.verifier = BatchVerifier()
        self.own_verifier = BatchVerifier()
        self.session: Session | None = None
        self.must_end = False
        self.in_due = self.out_due = ZEROS
        self.last = b""
        self.count = 0

    # --- the run -------------------------------------------------------------------------------

    async def run(self) -> bool:
        source = self.source
        SUITE.provider._dice.seed(1)  # type: ignore[attr-defined]
        config = Config(
            network=PARAMS,
            listen=(HERE,),
            signing=source.pick(("every", "claims")),
            early=source.pick(("reads", "never")),
            padding="off",
        )
        parts = Parts(
            provider=SUITE.provider,
            transports=(self.pipes,),
            clock=lambda: NOW,
            dice=Random(1),
            store=MemoryStore(2**20),
            node=NODE,
            owner=OWNER,
        )
        self.node = SecureDHT(config, parts)
        await self.node.start()
        try:
            met = await (self._be_asked() if source.flag() else self._call())
            if met:
                for _ in range(STEPS_MOST):
                    if not len(source) or self.conn.is_closed:
                        break
                    await self._step()
            return met
        finally:
            await self._end()

    async def _end(self) -> None:
        await asyncio.sleep(60.0)
        self._listen()
        await self.node.close()
        for body, task in self.tasks:
            assert task.done(), "a question has no end"
            error = task.exception() if not task.cancelled() else None
            assert error is None or isinstance(error, RemoteError | ConnectionError), error
            if error is None and not task.cancelled():
                self._check_answer(body, task.result())
        assert not self.node._peers._all
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        assert not loop.unhandled, loop.unhandled

    async def _settle(self) -> None:
        for _ in range(6):
            await asyncio.sleep(0)

    # --- meeting -------------------------------------------------------------------------------

    def _params(self) -> HandshakeParams:
        return HandshakeParams(
            suite=SUITE,
            network_tag=TAG,
            identity=CHEAT,
            verifier=VERIFIER,
            addresses=(THERE,),
            padding_spread=1,
        )

    async def _call(self) -> bool:
        """The cheat dials, by pqIK or pqXX, with or without a question."""
        source = self.source
        kem_key = NODE.kem.public if source.flag() else None
        assert self.pipes.accept is not None
        self.link = self.pipes.link(THERE, False, self.pipes.accept)
        hs = Handshake.initiate(
            self._params(), expected=NODE.node_id, kem_key=kem_key, observed=HERE, now=NOW
        )
        is_early, message = False, None
        while not hs.done:
            binding = hs.prepare()
            early = None
            if hs.may_send_early and source.flag():
                e = self._envelope(binding=binding)
                early = encode(e)
                if len(early) > MAX_EARLY:
                    return False
                is_early = True
                self._note_asked(e, self._is_sound(e, binding) and e.type in m.EARLY_TYPES)
            self._give(hs.finish(early))
            await self._settle()
            message = hs.receive(self._take(), NOW) if not self.conn.is_closed else None
            if message is None:
                return False
        assert message is not None
        answered = message.early is not None
        assert is_early or not answered
        self._open(hs, is_early_done=answered)
        if message.early is not None:
            self._check_output(message.early, message.binding)
        if kem_key is not None:
            self._send(FrameKind.ADDRESSES, hs.address_part())
        else:
            self._send(FrameKind.KEEPALIVE, b"")
        await self._settle()
        return True

    async def _be_asked(self) -> bool:
        """The victim dials, and the cheat answers its handshake."""
        source = self.source
        self._ask(source.pick(QUESTIONS), with_key=source.flag())
        await self._settle()
        if not self.pipes.links:
            return False
        self.link = self.pipes.links[0]
        hs = Handshake.respond(self._params(), observed=THERE, now=NOW)
        is_early_done = False
        while not hs.done:
            message = hs.receive(self._take(), NOW)
            if message is None:
                return False
            binding = hs.prepare()
            early = None
            if message.early is not None:
                question = self._check_output(message.early, message.binding)
                if question is not None and source.flag():
                    e = self._envelope(binding=binding, answer_to=question)
                    early, is_early_done = encode(e), True
                    if len(early) > MAX_EARLY:
                        return False
            code = source.pick((WireCode.OK, WireCode.OK, WireCode.BUSY, WireCode.EARLY_REJECTED))
            self._give(hs.finish(early, code))
            await self._settle()
            if self.conn.is_closed:
                return False
            is_early_done &= code == WireCode.OK
        self._open(hs, is_early_done=is_early_done)
        self._listen()
        return True

    def _open(self, hs: Handshake, *, is_early_done: bool) -> None:
        self.session = hs.session("off")
        due = ZEROS if is_early_done else self.session.handshake_hash
        self.in_due = self.out_due = due
        rest = bytes(self.link.out)
        self.link.out.clear()
        self._frames(rest)

    # --- bytes ---------------------------------------------------------------------------------

    @property
    def conn(self) -> Connection:
        assert isinstance(self.link.handler, Connection)
        return self.link.handler

    def _take(self) -> bytes:
        data = bytes(self.link.out)
        self.link.out.clear()
        return data

    def _give(self, data: bytes) -> None:
        for piece in self.source.cut(data):
            if not self.link.is_closed:
                self.conn.data_received(piece)
        self._check_state()

    def _send(self, kind: int, content: bytes) -> None:
        assert self.session is not None
        self._give(self.session.send(FrameKind(kind), content))

    def _listen(self) -> None:
        if self.session is not None:
            self._frames(self._take())

    def _frames(self, data: bytes) -> None:
        assert self.session is not None
        for frame in self.session.receive(data):
            if frame.kind == FrameKind.ENVELOPE:
                self._check_output(frame.content, self.in_due)
                self.in_due = ZEROS

    # --- what the cheat does -------------------------------------------------------------------

    async def _step(self) -> None:
        source = self.source
        how = source.u8() % 12
        if how < 3:
            self._say(self._envelope())
        elif how < 5 and self.questions:
            question = source.pick(list(self.questions.values()))
            self._say(self._envelope(answer_to=question))
        elif how == 5:
            self._send(source.pick(list(FrameKind)), source.blob())
        elif how == 6 and self.conn.is_proven:
            self._ask(source.pick(QUESTIONS), with_key=True)
        elif how == 7:
            await asyncio.sleep(source.pick((0.01, 0.2, 1.0, 6.0, 70.0)))
        elif how == 8:
            (self.conn.pause_writing if source.flag() else self.conn.resume_writing)()
        elif how == 9 and self.last:
            for _ in range(source.u8() % 40):
                if not self.conn.is_closed:
                    self._again()
        elif how == 10:
            self._say_raw(source.spoil(self.last))
        else:
            changed = mutate_tree(self.last, Random(source.u16())) if self.last else None
            self._say_raw(changed or source.blob())
        await self._settle()
        self._listen()
        self._check_state()
        assert not self.must_end or self.conn.is_closed, "the session outlived a broken rule"

    def _ask(self, body: m.Body, *, with_key: bool) -> None:
        """The victim asks the cheat."""
        contact = self.node.env.contacts.verify(CHEAT.contact((THERE,), with_key=with_key), NOW)
        asking = self.node._peers.request(contact, body, self.source.pick((0.5, 5.0)))
        self.tasks.append((body, asyncio.get_running_loop().create_task(asking)))

    def _envelope(self, *, binding: bytes | None = None, answer_to: m.Envelope | None = None) -> m.Envelope:
        """A question, or an answer; most often all but its body is as it should be."""
        source = self.source
        due = self.out_due if binding is None else binding
        self.count += 1
        body, number = self._body(answer_to)
        rpc_id = answer_to.rpc_id if answer_to is not None else self.count.to_bytes(8, "big")
        request = ZEROS if answer_to is None else request_hash(signed_bytes(TAG, answer_to))
        e = m.Envelope(1, number, rpc_id, CHEAT.node_id, NODE.node_id, request, NOW, due, body, b"")
        changes: dict[int, dict[str, Any]] = {
            1: {"sender": ID},
            2: {"receiver": ID},
            3: {"binding": ID},
            4: {"version": 0},
            5: {"version": 9},
            6: {"request": ID},
            7: {"rpc_id": bytes(8)},
            8: {"receiver": CHEAT.node_id},
            9: {"binding": ZEROS},
        }
        e = msgspec.structs.replace(e, **changes.get(source.u8(), {}))
        how = source.u8() % 8
        if how >= 6:
            return msgspec.structs.replace(e, signature=source.blob() if how == 7 else b"")
        self.signer.submit(signed_bytes(TAG, e))
        job = self.signer.take()
        assert job is not None
        ((_, proof),) = job.sign(CHEAT.signing, BATCH_ROOT)
        return msgspec.structs.replace(e, signature=proof)

    def _body(self, answer_to: m.Envelope | None) -> tuple[bytes, int]:
        source = self.source
        body: m.Body
        if answer_to is None:
            body = source.pick(QUESTIONS)
        else:
            asked = m.decode_body(answer_to.type, answer_to.body)
            body = self._fitting(asked)
        how = source.u8() % 8
        if how == 7:
            body = source.pick(BODIES)
        raw, number = encode(body), int(m.message_type(body))
        if how == 6:
            raw = mutate_tree(raw, Random(source.u16())) or source.spoil(raw)
        if how == 5:
            number = source.u16() if source.flag() else source.u8() % 24
        return raw, number

    def _fitting(self, asked: m.Body) -> m.Body:
        match asked:
            case m.FindNode():
                return m.Nodes(asked.target, (CONTACT,) if self.source.flag() else ())
            case m.FindValue():
                return m.Values(asked.key, RECORDS[: self.source.u8() % 4], (), (CONTACT,), None)
            case m.Store():
                return m.Stored(tuple(m.Receipt(ID, self.source.u8(), NOW) for _ in asked.records), NOW)
            case _:
                return m.Pong(NOW)

    def _say(self, e: m.Envelope) -> None:
        """Send an envelope and note what it entitles to."""
        is_first = self.out_due != ZEROS
        self.must_end |= self._is_broken(e, self.out_due) or (is_first and not self._is_signed(e))
        self._note_asked(e, self._is_sound(e, self.out_due))
        if is_first and self._is_sound(e, self.out_due):
            self.out_due = ZEROS
        self.last = encode(e)
        self._send(FrameKind.ENVELOPE, self.last)

    @staticmethod
    def _is_broken(e: m.Envelope, due: bytes) -> bool:
        """Whether it ends a session before its signature is looked at."""
        between = e.sender, e.receiver
        return e.version < 1 or between != (CHEAT.node_id, NODE.node_id) or e.binding != due

    def _is_sound(self, e: m.Envelope, due: bytes) -> bool:
        """Whether it is to be believed: bound, and signed where a signature is owed."""
        is_excused = not e.signature and due == ZEROS and e.request == ZEROS
        return not self._is_broken(e, due) and (is_excused or self._is_signed(e))

    def _again(self) -> None:
        self._say(m.decode_envelope(self.last))

    def _is_signed(self, e: m.Envelope) -> bool:
        try:
            self.own_verifier.verify(e.signature, signed_bytes(TAG, e), CHEAT.node_id, CHEAT_KEY, BATCH_ROOT)
        except (BadSignature, DecodeError):
            return False
        return True

    def _note_asked(self, e: m.Envelope, is_sound: bool) -> None:
        if e.request == ZEROS:
            entry = e.rpc_id, request_hash(signed_bytes(TAG, e))
            (self.asked if is_sound else self.unsound)[entry] += 1

    def _say_raw(self, raw: bytes) -> None:
        """Bytes where an envelope should be; a changed envelope may still be one."""
        try:
            e = m.decode_envelope(raw)
        except DecodeError:
            self.must_end = True
        else:
            self._note_asked(e, self._is_sound(e, self.out_due))
        self._send(FrameKind.ENVELOPE, raw)

    # --- what the victim may do ------------------------------------------------------------------

    def _check_output(self, raw: bytes, due: bytes) -> m.Envelope | None:
        """One envelope of the victim: its question, or an answer it may give."""
        e = m.decode_envelope(raw)
        signed = signed_bytes(TAG, e)
        assert (e.version, e.sender, e.receiver) == (1, NODE.node_id, CHEAT.node_id)
        assert e.binding == due
        if e.signature or due != ZEROS or e.request != ZEROS:
            self.verifier.verify(e.signature, signed, NODE.node_id, KEY, BATCH_ROOT)
        body = m.decode_body(e.type, e.body)
        if e.request == ZEROS:
            assert e.rpc_id not in self.questions
            self.questions[e.rpc_id] = e
            return e
        entry = e.rpc_id, e.request
        busy = isinstance(body, m.Error) and body.code == WireCode.BUSY
        if self.asked[entry]:
            self.asked[entry] -= 1
        else:
            assert busy, "an answer to what was not asked"
            assert self.unsound[entry], "a refusal of what was not asked"
            self.unsound[entry] -= 1
        return None

    def _check_answer(self, asked: m.Body, answer: Answer) -> None:
        """What an asker was given, checked anew from its bytes."""
        e, question = m.decode_envelope(answer.envelope), m.decode_envelope(answer.request)
        assert (e.sender, e.receiver) == (CHEAT.node_id, NODE.node_id)
        assert e.request == request_hash(signed_bytes(TAG, question))
        assert question.body == encode(asked)
        assert e.type == m.ANSWERS[question.type]
        assert m.decode_body(e.type, e.body) == answer.body
        self.own_verifier.verify(e.signature, signed_bytes(TAG, e), CHEAT.node_id, CHEAT_KEY, BATCH_ROOT)
        for name in ("target", "key"):
            assert getattr(answer.body, name, None) == getattr(asked, name, None)

    def _check_state(self) -> None:
        exchange = self.conn.exchange
        assert len(exchange._late) <= LATE_KEPT
        assert exchange._unasked <= UNASKED_MOST + 1
        assert 0 <= exchange._serving <= PARAMS.limits.requests_in_flight
        assert len(exchange._questions) <= len(self.tasks) + 2
        assert len(self.node._peers._all) <= len(self.pipes.links)


def exchange(data: bytes) -> bool:
    """A script; True where both ends met."""
    try:
        return run(_Play(Source(data)).run(), strict=False)
    except PeerError as e:
        raise AssertionError("a refusal reached somebody who did not ask") from e


def _seeds() -> list[bytes]:
    honest = b"\0" * 6
    ask, answer, wait = b"\0" + honest, b"\3" + honest, b"\7\1"
    return [
        b"\0\0\0\1\0" + bytes(2) + ask * 3 + wait + ask,
        b"\0\1\0\0" + bytes(12) + ask * 2 + b"\6\0\0" + answer,
        b"\0\0\1\1\1\0\1" + bytes(12) + answer + b"\6\1\0" + answer,
        b"\1\1\1\0\0\0" + bytes(12) + b"\6\0\0" + wait + answer + b"\7\3" + answer,
    ]


TARGETS = (Target("exchange", exchange, _seeds, max_len=1024),)
