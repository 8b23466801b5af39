"""What a node remembers of its peers' keys, and of who holds its own.  Bounded: the oldest goes first."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from ..channel.handshake import PeerHello
from ..ids import NodeId

K = TypeVar("K")
V = TypeVar("V")

REMEMBERED = 8192
"""KEM keys, addresses where a node was reached, and who holds our signing key."""
SIGNING_KEYS = 2048
"""Signing keys of 1,952 to 2,592 bytes: 4 to 5 MB, about twice the peers of a full table."""


class Recent(Generic[K, V]):
    """A map of the `most` entries set last."""

    __slots__ = ("_kept", "_most")

    def __init__(self, most: int = REMEMBERED) -> None:
        self._kept: OrderedDict[K, V] = OrderedDict()
        self._most = most

    def __contains__(self, key: K) -> bool:
        return key in self._kept

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: K) -> V | None:
        return self._kept.get(key)

    def set(self, key: K, value: V) -> None:
        self._kept[key] = value
        self._kept.move_to_end(key)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def pop(self, key: K) -> None:
        self._kept.pop(key, None)

    def clear(self) -> None:
        self._kept.clear()


class KeyRing:
    """Keys that sessions proved: they need not be sent again."""

    def __init__(self) -> None:
        self.kem: Recent[bytes, tuple[NodeId, bytes]] = Recent()
        """H(KEM key) -> (its node, the key), of completed handshakes"""
        self.signing: Recent[bytes, bytes] = Recent(SIGNING_KEYS)
        """H(signing key) -> the key, of nodes that proved it"""
        self.knowing: Recent[NodeId, bool] = Recent()
        """Who answered a signed question of ours, so held our signing key then: whether to leave it out of
        the next first flight. Not just after a NEED_KEY: who forgets fast is sent it every other time."""

    def kem_key(self, kem_key_hash: bytes) -> bytes | None:
        """A KEM key proven in an earlier session."""
        known = self.kem.get(kem_key_hash)
        return known[1] if known is not None else None

    def is_borrowed(self, peer: PeerHello) -> bool:
        """Whether the peer's KEM key was proven by another node id."""
        known = self.kem.get(peer.contact.kem_key_hash)
        return known is not None and known[0] != peer.node_id

    def proved_kem(self, peer: PeerHello) -> None:
        self.kem.set(peer.contact.kem_key_hash, (peer.node_id, peer.kem_key))

    def proved_signing(self, peer: PeerHello) -> None:
        self.signing.set(peer.contact.signing_key_hash, peer.signing_key)

    def holds_ours(self, node_id: NodeId) -> bool:
        """Whether to leave our signing key out of a first flight to this node."""
        return bool(self.knowing.get(node_id))

    def was_answered(self, node_id: NodeId) -> None:
        """It answered a signed question: it holds our signing key."""
        self.knowing.set(node_id, self.knowing.get(node_id) is not False)

    def was_asked_for_ours(self, node_id: NodeId) -> None:
        """We left our key out in vain: it restarted, or had too many others to remember."""
        self.knowing.set(node_id, False)

    def was_sent_ours(self, node_id: NodeId) -> None:
        """It was sent: its next answer says that it is held."""
        if self.knowing.get(node_id) is False:
            self.knowing.pop(node_id)
