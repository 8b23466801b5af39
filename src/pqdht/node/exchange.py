"""Questions and answers over one session: envelopes, their bindings, their signatures.

A question is answered by its `Answer` or by an error; an answer is believed only if it is signed by
the peer this session joins, names the question by its hash, and (first message of a direction) is
bound to this session's handshake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ..channel.handshake import PeerHello
from ..crypto.batch import TREE_ID_SIZE, attach_root, parse_proof, strip_root
from ..envelope import ZEROS, is_request, open_answer, request_hash, signed_bytes, with_signature
from ..errors import (
    BadSignature,
    DecodeError,
    PeerError,
    PeerTimeout,
    PeerUnreachable,
    RemoteError,
    SessionFailed,
    WireCode,
)
from ..ids import NodeId
from ..wire.codec import encode
from ..wire.messages import Body, Envelope, Error, Store, Stored, WireRecord, decode_envelope
from .environment import Environment
from .signing import MessageSigner, MessageVerifier

if TYPE_CHECKING:
    from .connection import Connection

Reply = Callable[[Body], None]
UNHEARD_MOST = 2
"""Questions in a row without any sign of life after which a session is given up."""
UNASKED_MOST = 16
"""Answers to nothing we asked after which a session ends; they are counted before any check."""
BUSY_MS = 500
"""Longest pause in reading from a peer over its allowance: shorter than its shortest time-out."""
LATE_KEPT = 256
"""Questions given up on whose late answers are still recognised as such."""


class Host(Protocol):
    """What a connection needs of the node around it (`Peers`)."""

    env: Environment
    signer: MessageSigner
    verifier: MessageVerifier

    def buffered(self, conn: Connection, size: int) -> None:
        """So many bytes are held of a caller whose handshake is not over."""
        ...

    def wait(self, conn: Connection) -> None:
        """A message of a caller's handshake is here: `conn.proceed` when it is its turn."""
        ...

    def keyed(self, conn: Connection) -> None:
        """The peer has its KEM key and the session's keys."""
        ...

    def outworn(self, conn: Connection) -> None:
        """The session's keys are overdue, and the peer did not help to replace them."""
        ...

    def renewing(self, conn: Connection) -> None:
        """The caller takes us through a new handshake inside its session: that is work."""
        ...

    def proven(self, conn: Connection) -> None: ...
    def heard(self, conn: Connection) -> None: ...
    def closed(self, conn: Connection, error: Exception | None) -> None:
        """No more of this connection."""
        ...

    def gone(self, conn: Connection) -> None:
        """Its link is gone too: what was counted for it is free."""
        ...

    def offence(
        self, conn: Connection, envelope: bytes, request: bytes, item: WireRecord | None = None
    ) -> None:
        """The peer signed something that may be proof against it; `item`: the record that is wrong."""
        ...

    def admit(self, conn: Connection, message_type: int, size: int) -> int:
        """0, or how many ms to wait before asking again; `size` of the body in bytes."""
        ...

    def serve(self, conn: Connection, body: Body, reply: Reply) -> None: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """A checked answer and the bytes that prove it."""

    node_id: NodeId
    group: str
    body: Body
    envelope: bytes
    request: bytes
    rtt_s: float
    sent_at: int
    """By the answerer's clock, ms."""
    bytes: int
    peer: PeerHello | None = None
    """Whose answer it is, with the keys that prove it."""


@dataclass(slots=True, eq=False)
class Question:
    """A request on its way."""

    body: Body
    future: asyncio.Future[Answer]
    timeout_s: float
    rpc_id: bytes = b""
    type: int = 0
    raw: bytes = b""
    hash: bytes = b""
    asked_at: float = 0.0
    timer: asyncio.TimerHandle | None = None
    via: Exchange | None = None
    """Where it was asked last: another address of the peer may be another connection."""

    def time_out(self) -> None:
        """Its time is over, wherever it is."""
        assert self.via is not None
        self.via.timed_out(self)

    def fail(self, error: Exception) -> None:
        """No answer will come."""
        if self.timer is not None:
            self.timer.cancel()
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()  # an asker who gave up before is no fault


class Exchange:
    """One per connection; `out_binding` and `in_binding` are owed by the next message each way."""

    def __init__(self, host: Host, conn: Connection) -> None:
        self.out_binding = ZEROS
        self.in_binding = ZEROS
        self.is_introduced = False
        """Whether our first signed message of the session left: no unsigned one may overtake it."""
        self._out_tree = self._in_root = b""
        """The id of the tree that our last message on this session was signed in; the signature of the
        root of the peer's last.  The next message of the same tree leaves the signature out."""
        self.unheard = 0
        """Questions in a row that timed out with nothing heard since they were asked."""
        self._host = host
        self._env = host.env
        self._conn = conn
        self._questions: dict[bytes, Question] = {}
        self._late: dict[bytes, None] = {}
        self._serving = 0
        self._unasked = 0

    @property
    def is_asking(self) -> bool:
        """Whether an answer is waited for."""
        return bool(self._questions)

    @property
    def in_use(self) -> bool:
        """Whether a question is under way in either direction."""
        return bool(self._questions) or self._serving > 0

    # --- asking --------------------------------------------------------------------------------

    def ask(self, question: Question) -> None:
        """Send a question on the open session; its future gets the Answer or an error."""
        peer = self._conn.peer
        if self._conn.is_closed or peer is None:
            question.fail(PeerUnreachable("the session is closed"))
            return
        if question.future.done():
            return
        binding, self.out_binding = self.out_binding, ZEROS
        e = self.question_envelope(question, peer.node_id, binding, peer.version)
        self._questions[question.rpc_id] = question
        if self._conn.is_choked:
            self._conn.regulate()
        if self._env.config.signing == "claims" and self.is_introduced:
            self._send_asked(e)
        else:
            self.sign(e, self._send_asked)

    def question_envelope(
        self, question: Question, receiver: bytes, binding: bytes, version: int | None = None
    ) -> Envelope:
        """The unsigned envelope of a question; starts its clock.

        Before the peer's Hello is known a question is of the oldest version we offer.
        """
        loop = asyncio.get_running_loop()
        question.rpc_id = self._env.suite.random_bytes(8)
        question.type = self._env.messages.number(question.body)
        question.asked_at = loop.time()
        question.via = self
        if question.timer is None:
            question.timer = loop.call_later(question.timeout_s, question.time_out)
        e = self._envelope(question.body, question.rpc_id, receiver, ZEROS, binding, version)
        question.hash = request_hash(signed_bytes(self._env.network_tag, e))
        return e

    def expect(self, question: Question) -> None:
        """The question travelled in the handshake; its answer comes next."""
        self._questions[question.rpc_id] = question

    def ask_again(self, question: Question) -> None:
        """It was not answered early: repeat it inside the session."""
        self._questions.pop(question.rpc_id, None)
        self.ask(question)

    def _send_asked(self, e: Envelope) -> None:
        question = self._questions.get(e.rpc_id)
        raw = self._send(e)
        if question is not None:
            question.raw = raw

    def timed_out(self, question: Question) -> None:
        """No answer came in time."""
        if self._questions.pop(question.rpc_id, None) is not None:
            self._late[question.rpc_id] = None
            if len(self._late) > LATE_KEPT:
                del self._late[next(iter(self._late))]
        question.fail(PeerTimeout("no answer in time", seconds=question.timeout_s))
        self.unheard += self._conn.last_heard < question.asked_at
        if self.unheard >= UNHEARD_MOST:
            # A lost byte leaves the peer waiting for a frame that never ends: only a new session helps.
            self._conn.fail(SessionFailed("the session is stuck", unheard=self.unheard))
        else:
            self._conn.close_if_idle()

    def fail_all(self, error: Exception) -> None:
        """The session ended."""
        questions, self._questions = self._questions, {}
        for question in questions.values():
            question.fail(error)

    # --- envelopes -----------------------------------------------------------------------------

    def _envelope(
        self,
        body: Body,
        rpc_id: bytes,
        to: bytes,
        request: bytes,
        binding: bytes,
        version: int | None = None,
    ) -> Envelope:
        messages = self._env.messages
        return Envelope(
            messages.versions[0] if version is None else version,
            messages.number(body),
            rpc_id,
            self._env.identity.node_id,
            to,
            request,
            self._env.clock(),
            binding,
            messages.encode(body),
            b"",
        )

    def answer_envelope(self, asked: Envelope, m: bytes, body: Body, binding: bytes) -> Envelope:
        """The unsigned answer to a request whose signed bytes are m, in the version of the request."""
        version = min(asked.version, self._env.messages.versions[1])
        return self._envelope(body, asked.rpc_id, asked.sender, request_hash(m), binding, version)

    def sign(self, e: Envelope, send: Callable[[Envelope], None]) -> None:
        """Call `send` with the signed envelope, soon, unless the connection ends before."""

        def signed(proof: bytes) -> None:
            if not self._conn.is_closed:
                send(with_signature(e, proof))

        self._host.signer.sign(signed_bytes(self._env.network_tag, e), signed)

    def check(self, e: Envelope, peer: PeerHello, binding: bytes) -> bytes:
        """Everything but the signature; returns m. Raises SessionFailed."""
        if e.version < self._env.messages.versions[0]:
            raise SessionFailed("unsupported message version", version=e.version)
        if e.sender != peer.node_id or e.receiver != self._env.identity.node_id:
            raise SessionFailed("sender or receiver is not who this session joins")
        if e.binding != binding:
            raise SessionFailed("the message is not bound to this session")
        return signed_bytes(self._env.network_tag, e)

    def on_envelope(self, raw: bytes) -> None:
        """One envelope arrived. Raises a RemoteError that ends the session."""
        e = decode_envelope(raw)
        if e.signature:
            if root := parse_proof(e.signature).signature:
                self._in_root = root
            elif not self._in_root:  # another session's may be remembered, but this would be no evidence
                raise BadSignature("a root signature that was never sent is left out", reason="unknown-root")
            else:
                e = with_signature(e, attach_root(e.signature, self._in_root))
                raw = encode(e)  # whole again, as evidence has to be
        peer = self._conn.peer
        assert peer is not None
        m = self.check(e, peer, self.in_binding)
        first = self.in_binding != ZEROS
        if first:
            if is_request(e):
                self._host.admit(self._conn, e.type, len(e.body))  # paid for, though served in any case
        elif not self._is_due(e):
            return
        if e.signature:
            self._host.verifier.verify(e.signature, m, peer.node_id, peer.signing_key)
        elif first or not is_request(e):
            raise BadSignature("an unsigned message where a signature is owed", type=e.type)
        if first:
            self.in_binding = ZEROS
            self._conn.peer_signed()
        if is_request(e):
            self._on_request(e, m)
        else:
            self._on_answer(e, raw)

    def _is_due(self, e: Envelope) -> bool:
        """Whether a message is worth checking its signature, the dearest thing we do for a peer.

        Answers only to what was asked; requests only within the sender's allowance.
        """
        if not is_request(e):
            if e.rpc_id in self._questions:
                return True
            self._count_unasked(e.rpc_id)
            return False
        if self._serving >= self._env.params.limits.requests_in_flight:
            self._refuse(e, BUSY_MS)
        elif wait := self._host.admit(self._conn, e.type, len(e.body)):
            self._refuse(e, wait)
        else:
            return True
        return False

    def _refuse(self, e: Envelope, wait_ms: int) -> None:
        """BUSY to what was read already, and no more is read of this peer for a while."""
        self._conn.throttle(min(wait_ms, BUSY_MS) / 1000)
        m = signed_bytes(self._env.network_tag, e)
        self._answer(e, m, self.refusal(WireCode.BUSY, wait_ms))

    def _count_unasked(self, rpc_id: bytes) -> None:
        if rpc_id in self._late:
            del self._late[rpc_id]
            self._env.counters["late_answers"] += 1
            return
        self._env.counters["unasked_answers"] += 1
        self._unasked += 1
        if self._unasked > UNASKED_MOST:
            raise SessionFailed("too many answers to nothing that was asked", unasked=self._unasked)

    # --- answering -----------------------------------------------------------------------------

    def refusal(self, code: WireCode, retry_after: int = 0) -> Error:
        """An ERROR body; `retry_after` in ms."""
        return Error(int(code), retry_after, self._env.clock())

    def serve(self, e: Envelope, reply: Reply) -> None:
        """Answer one checked request, or say why not."""
        messages = self._env.messages
        if not messages.is_known(e.type):
            reply(self.refusal(WireCode.UNSUPPORTED))
        else:
            try:
                body = messages.decode(e.type, e.body)
            except DecodeError:
                self._env.counters["malformed_requests"] += 1
                if e.signature:
                    self._host.offence(self._conn, encode(e), b"")
                reply(self.refusal(WireCode.MALFORMED))
            else:
                self._host.serve(self._conn, body, self._watched(e, body, reply))

    def _watched(self, e: Envelope, body: Body, reply: Reply) -> Reply:
        """The same reply; a record that we refuse to store may be proof against who sent it."""
        if not isinstance(body, Store):
            return reply

        def watched(answer: Body) -> None:
            if isinstance(answer, Stored):
                fates = zip(body.records, answer.receipts, strict=False)
                bad = next((wire for wire, r in fates if r.code == WireCode.BAD_RECORD), None)
                if bad is not None and e.signature:
                    self._host.offence(self._conn, encode(e), b"", bad)
            reply(answer)

        return watched

    def _on_request(self, e: Envelope, m: bytes) -> None:
        self._serving += 1

        def reply(body: Body) -> None:
            self._serving -= 1
            self._answer(e, m, body)

        self.serve(e, reply)

    def _answer(self, e: Envelope, m: bytes, body: Body) -> None:
        if not self._conn.is_closed:
            binding, self.out_binding = self.out_binding, ZEROS
            self.sign(self.answer_envelope(e, m, body, binding), self._send_answer)

    def _send_answer(self, e: Envelope) -> None:
        self._send(e)
        self._conn.close_if_idle()

    def _send(self, e: Envelope) -> bytes:
        """Send a message without the root signature that went before it; returns it with that."""
        self.is_introduced = True
        raw = encode(e)
        tree, self._out_tree = self._out_tree, e.signature[:TREE_ID_SIZE]
        if tree and tree == self._out_tree:
            self._conn.send_envelope(encode(with_signature(e, strip_root(e.signature))))
        else:
            self._conn.send_envelope(raw)
        return raw

    def _on_answer(self, e: Envelope, raw: bytes) -> None:
        question = self._questions.pop(e.rpc_id, None)
        if question is None:  # only the first message of a session comes here unasked
            self._count_unasked(e.rpc_id)
            return
        try:
            if e.request != question.hash:
                raise SessionFailed("the answer is to another question")
            body = open_answer(e, question.type, question.body, self._env.messages)
        except PeerError as refused:
            question.fail(refused)
        except RemoteError as wrong:
            if isinstance(wrong, DecodeError):
                self._host.offence(self._conn, raw, question.raw)
            question.fail(wrong)
            raise
        else:
            self._resolve(question, body, e.sent_at, raw)
        if self._conn.is_choked:
            self._conn.regulate()
        self._conn.close_if_idle()

    def _resolve(self, question: Question, body: Body, sent_at: int, raw: bytes) -> None:
        if question.timer is not None:
            question.timer.cancel()
        if question.future.done():
            return
        peer = self._conn.peer
        assert peer is not None
        rtt = asyncio.get_running_loop().time() - question.asked_at
        size = len(raw) + len(question.raw)
        question.future.set_result(
            Answer(peer.node_id, self._conn.group, body, raw, question.raw, rtt, sent_at, size, peer)
        )
