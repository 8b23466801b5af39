"""New keys for an open session: a pqIK handshake inside it (section 3).

    initiator                             responder
    ASK      -> skem, e, s                                 switches nothing
                                          ANSWER  <- ekem, skem
             reads with new keys from here on  |  writes with new keys from here on
    SWITCH   (empty)
             writes with new keys from here on |  reads with new keys from here on

Each direction changes keys just after its own marker frame, ANSWER or SWITCH, which is the last under the
old ones.  The stream is ordered, so nothing under way is lost, read twice or read with the wrong key.  The
prologue holds the hash of the handshake before, so a renewal belongs to one session; the static keys are
those that the session's handshake proved, and no others are taken.  Only the session's initiator asks,
so two renewals never cross.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from ..constants import HANDSHAKE_FORMAT
from ..crypto.api import Kem, KemPrivateKey
from ..crypto.labels import LENGTH_MASK, RENEW_PROLOGUE
from ..errors import DecodeError, HandshakeFailed, SessionFailed
from .noise import PQ_IK, CipherState, HandshakeState


class Step(IntEnum):
    """The first byte of a RENEW frame's content. Numbers are frozen."""

    ASK = 1
    ANSWER = 2
    SWITCH = 3


@dataclass(frozen=True, slots=True)
class DirectionKeys:
    """What one direction is sealed with: its cipher, and the 32 B key of its length mask."""

    cipher: CipherState
    mask: bytes


def transport_keys(noise: HandshakeState) -> tuple[DirectionKeys, DirectionKeys]:
    """(to send with, to receive with) after the last message of a handshake."""
    send, receive = noise.split()
    masks = [noise.symmetric.export(LENGTH_MASK + direction) for direction in (b"i", b"r")]
    send_mask, receive_mask = masks if noise.initiator else reversed(masks)
    return DirectionKeys(send, send_mask), DirectionKeys(receive, receive_mask)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one RENEW frame of the peer leads to, in the order of the fields."""

    receive: DirectionKeys | None
    """Read what follows that frame with these."""
    reply: bytes | None
    """Content of a RENEW frame to send, under the old keys."""
    send: DirectionKeys | None
    """Write what follows the reply with these."""


class Renewal:
    """One side of all renewals of one session. Of no use after a SessionFailed."""

    __slots__ = ("_hash", "_initiator", "_kem", "_network_tag", "_noise", "_pending", "_rs", "_s")

    def __init__(
        self,
        kem: Kem,
        s: KemPrivateKey,
        rs: bytes,
        *,
        initiator: bool,
        network_tag: bytes,
        handshake_hash: bytes,
    ) -> None:
        """`s` and `rs`: our static key and the peer's, proven by the handshake whose final h this is."""
        self._kem = kem
        self._s = s
        self._rs = rs
        self._initiator = initiator
        self._network_tag = network_tag
        self._hash = handshake_hash
        self._noise: HandshakeState | None = None
        self._pending: DirectionKeys | None = None
        """Responder: what to read with after SWITCH."""

    @property
    def may_begin(self) -> bool:
        """Whether `begin` may be called: by the session's initiator, one renewal at a time."""
        return self._initiator and self._noise is None

    def begin(self) -> bytes:
        """The content of the first RENEW frame."""
        if not self.may_begin:
            raise ValueError("only the session's initiator begins, and one renewal at a time")
        noise = self._noise = self._handshake()
        noise.begin_write()
        return bytes((Step.ASK,)) + noise.finish_write(b"")

    def take(self, content: bytes) -> Outcome:
        """Go on after a RENEW frame of the peer. Raises SessionFailed for anything out of place."""
        step, message = content[:1], content[1:]
        if not self._initiator and step == b"\x01" and self._pending is None:
            return self._answer(message)
        if not self._initiator and content == b"\x03" and self._pending is not None:
            keys, self._pending = self._pending, None
            return Outcome(keys, None, None)
        if self._initiator and step == b"\x02" and self._noise is not None:
            noise = self._noise
            self._read(noise, message)
            send, receive = self._done(noise)
            return Outcome(receive, bytes((Step.SWITCH,)), send)
        raise SessionFailed("a renewal frame is out of place", step=step.hex())

    def _answer(self, message: bytes) -> Outcome:
        noise = self._handshake()
        self._read(noise, message)
        if noise.rs != self._rs:
            raise SessionFailed("another KEM key than the session's asks for new keys")
        noise.begin_write()
        reply = bytes((Step.ANSWER,)) + noise.finish_write(b"")
        send, self._pending = self._done(noise)
        return Outcome(None, reply, send)

    def _handshake(self) -> HandshakeState:
        return HandshakeState(
            PQ_IK,
            self._kem,
            initiator=self._initiator,
            prologue=RENEW_PROLOGUE + self._network_tag + bytes((HANDSHAKE_FORMAT,)) + self._hash,
            s=self._s,
            rs=self._rs if self._initiator else None,
        )

    @staticmethod
    def _read(noise: HandshakeState, message: bytes) -> None:
        try:
            _, payload = noise.read(message)
        except (HandshakeFailed, DecodeError) as e:
            raise SessionFailed(f"a renewal failed: {e}") from None
        if payload:
            raise SessionFailed("a renewal carries a payload", length=len(payload))

    def _done(self, noise: HandshakeState) -> tuple[DirectionKeys, DirectionKeys]:
        """Forget all but the hash, to which the next renewal is bound."""
        self._hash, self._noise = noise.h, None
        return transport_keys(noise)
