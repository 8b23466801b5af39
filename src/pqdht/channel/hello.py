"""What handshake messages carry, and what is learnt of a peer from them (section 3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import Annotated

import msgspec

from ..constants import MAX_ADDRESS_LENGTH, MAX_ADDRESSES, MINUTE_MS
from ..errors import HandshakeFailed, WireCode
from ..identity.keys import public_key_hash
from ..ids import NodeId
from ..wire.codec import U8, U16, U32, U63, Bytes8, Bytes32, Decoder, Struct
from ..wire.contact import AddressText, Contact, StakeBytes

MAX_EARLY = 16 * 1024
"""Bytes of an envelope inside a handshake message."""
MAX_PAYLOAD = 24 * 1024
"""Bytes of a whole payload: an early envelope, a Hello and an address part."""

SigningKeyBytes = Annotated[bytes, msgspec.Meta(min_length=1, max_length=4096)]


class Hello(Struct, frozen=True):
    """Who I am. `signing_key` is nil where the peer is known to hold it; `time` is my clock in ms."""

    signing_key_hash: Bytes32
    signing_key: SigningKeyBytes | None
    born: U32
    nonce: Bytes8
    digest: Bytes32
    version_min: U8
    version_max: U8
    features: U63
    time: U63


class AddressPart(Struct, frozen=True):
    """Where I am, and where I see you: told only to a peer whose channel key is proven.

    `signing_key`: where the answer to our Hello was NEED_KEY.
    """

    addresses: Annotated[tuple[AddressText, ...], msgspec.Meta(max_length=MAX_ADDRESSES)]
    observed: Annotated[str, msgspec.Meta(max_length=MAX_ADDRESS_LENGTH)]
    certificate: Bytes32 | None = None
    signing_key: SigningKeyBytes | None = None
    stake: StakeBytes | None = None


class Payload(Struct, frozen=True):
    """The payload of every handshake message; which parts may be there depends on its kind.

    `code` is a WireCode: what became of an early request.  `holds_key`, in the first message: leave
    your signing key out of your Hello.
    """

    hello: Hello | None = None
    addresses: AddressPart | None = None
    early: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_EARLY)] | None = None
    code: U16 = 0
    holds_key: bool = False


decode_payload = Decoder(Payload, "handshake payload", MAX_PAYLOAD)
decode_address_part = Decoder(AddressPart, "address part", MAX_PAYLOAD)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerHello:
    """What the handshake proved (the KEM key) and what the peer says of itself (the rest).

    `node_id` commits to both keys and its puzzle is checked; that the peer has the *signing* key is
    proved only by its first signed message.
    """

    node_id: NodeId
    contact: Contact
    """As others would be told of it, with its KEM key; addresses and stake once they came."""
    signing_key: bytes
    """Empty after NEED_KEY, until the address part brings it."""
    kem_key: bytes
    version: int
    """The newest version both speak."""
    features: int
    """Those both have."""
    time: int
    """The peer's clock, ms."""
    replayable: bool
    """Known from a first flight that anybody could have recorded; settled by the first frame."""
    observed: str = ""
    """Where the peer sees us."""
    certificate: bytes | None = None

    @property
    def addresses(self) -> tuple[str, ...]:
        return self.contact.addresses

    def with_address_part(self, content: bytes) -> PeerHello:
        """The same with what an ADDRESSES frame says. Raises DecodeError, HandshakeFailed."""
        return self.with_addresses(decode_address_part(content))

    def with_addresses(self, part: AddressPart) -> PeerHello:
        """The same with an address part. Raises HandshakeFailed for another signing key."""
        key = part.signing_key
        if key is not None:
            check_key(key, self.contact.signing_key_hash)
        return replace(
            self,
            contact=msgspec.structs.replace(self.contact, addresses=part.addresses, stake=part.stake),
            signing_key=self.signing_key if key is None else key,
            observed=part.observed,
            certificate=part.certificate,
        )


def check_key(signing_key: bytes, expected_hash: bytes) -> None:
    """Raises HandshakeFailed if this is not the key that the node id commits to."""
    if public_key_hash(signing_key) != expected_hash:
        raise HandshakeFailed("the signing key is not the one the node id commits to", reason="signing key")


def choose_version(ours: tuple[int, int], theirs: tuple[int, int]) -> int:
    """The newest version in both ranges (oldest, newest). Raises HandshakeFailed."""
    version = min(ours[1], theirs[1])
    if version < max(ours[0], theirs[0]):
        raise HandshakeFailed(
            f"no common version: we speak {ours[0]} to {ours[1]}, the peer {theirs[0]} to {theirs[1]}",
            reason="version",
        )
    return version


class StrikeRegister:
    """Which early requests were served, so that a recorded first flight is served once (section 3).

    `window_ms` is how far the sender's clock may be off either way; an entry lives twice as long.  At
    `capacity` the oldest is forgotten and everything sent before it is refused: under a flood the
    window shrinks, and no replay gets through.
    """

    __slots__ = ("_capacity", "_floor", "_heap", "_seen", "_window")

    def __init__(self, window_ms: int = 5 * MINUTE_MS, capacity: int = 65_536) -> None:
        self._window = window_ms
        self._capacity = capacity
        self._heap: list[tuple[int, bytes]] = []
        self._seen: set[bytes] = set()
        self._floor = -1

    def strike(self, transcript: bytes, sent: int, now: int) -> WireCode:
        """OK once per transcript hash (32 B), then and outside the window EARLY_REJECTED."""
        while self._heap and self._heap[0][0] < now - self._window:
            self._forget_oldest()
        if abs(now - sent) > self._window or sent <= self._floor or transcript in self._seen:
            return WireCode.EARLY_REJECTED
        heappush(self._heap, (sent, transcript))
        self._seen.add(transcript)
        if len(self._heap) > self._capacity:
            self._forget_oldest()
        return WireCode.OK

    def __len__(self) -> int:
        return len(self._heap)

    def _forget_oldest(self) -> None:
        self._floor, transcript = heappop(self._heap)
        self._seen.discard(transcript)


def holds_none(_: bytes) -> bytes | None:
    """The `held_key` of a node that remembers no signing keys."""
    return None


HeldKey = Callable[[bytes], bytes | None]
"""H(signing key) -> the signing key, if it is remembered."""
