"""Adversaries that lie about values."""

from __future__ import annotations

from hashlib import sha3_256
from typing import ClassVar

import msgspec

from ...constants import MS
from ...records.record import Tbs
from ...wire.codec import Decoder, encode
from ...wire.messages import FindNode, FindValue, Nodes, Store, Stored, Values, WireRecord
from .base import Adversary, only, without_records

FORGED = b"forged by an adversary"
_decode_tbs = Decoder(Tbs, "record")


def altered(wire: WireRecord, **fields: object) -> WireRecord:
    """Other fields of the signed part under the signature of what they were."""
    return WireRecord(encode(msgspec.structs.replace(_decode_tbs(wire.tbs), **fields)), wire.signature)


def forged(wire: WireRecord) -> WireRecord:
    """A newer version with a value of our own, under a signature that is made up."""
    tbs = _decode_tbs(wire.tbs)
    tbs = msgspec.structs.replace(tbs, value=FORGED, timestamp=tbs.timestamp + 1, flags=0)
    return WireRecord(encode(tbs), bytes([wire.signature[0] ^ 1]) + wire.signature[1:])


class Forger(Adversary):
    """Knows every record its gang was shown.  Signs receipts, keeps nothing, and answers with a newer version
    that it made itself, without the owner's key."""

    name = "forger"
    summary = "answers with values of its own under another's name"
    defences = ("signatures", "invalid_rate", "reports", "quarantine")

    def on_store(self, body: Store) -> Stored | None:
        return self.all_is_well(body)

    def on_value(self, asked: FindValue, honest: Values) -> Values:
        past = self.history(asked.key)
        return only(honest, forged(past[-1])) if past else without_records(honest)


class Staler(Adversary):
    """Knows every record its gang was shown.  Signs receipts, keeps nothing, and answers with the oldest
    version that is still in force: rightly signed, and out of date."""

    name = "staler"
    summary = "answers with the oldest version still in force"
    defences: ClassVar[tuple[str, ...]] = ("confirmation", "disjoint_paths")

    def on_store(self, body: Store) -> Stored | None:
        return self.all_is_well(body)

    def on_value(self, asked: FindValue, honest: Values) -> Values:
        return only(honest, *self.history(asked.key)[:1])


class Denier(Adversary):
    """Signs receipts, keeps nothing, and says that nothing is there."""

    name = "denier"
    summary = "promises to store and says that nothing is there"
    defences = ("confirmation", "disjoint_paths", "region")

    def on_store(self, body: Store) -> Stored | None:
        return self.all_is_well(body)

    def on_value(self, asked: FindValue, honest: Values) -> Values:
        return without_records(honest)


class Claimer(Adversary):
    """Signs receipts, keeps nothing, and says that it holds a record that nobody has: it never sends it."""

    name = "claimer"
    summary = "claims to hold a record that it never sends"
    defences = ("confirmation",)

    def on_store(self, body: Store) -> Stored | None:
        return self.all_is_well(body)

    def on_value(self, asked: FindValue, honest: Values) -> Values:
        claim = sha3_256(asked.key).digest()
        return msgspec.structs.replace(without_records(honest), same=(claim,))


class RegionColluder(Staler):
    """One of many around a key, all of one mind: they answer with one and the same old version, and name
    nobody but each other, so that who asks them meets no one else."""

    name = "region_colluder"
    summary = "a majority around a key agrees on an old version and hides all others"
    defences = ("confirmation", "disjoint_paths", "region", "sybil_test")

    def on_value(self, asked: FindValue, honest: Values) -> Values:
        old = super().on_value(asked, honest)
        return msgspec.structs.replace(old, contacts=self.accomplices(asked.key))

    def on_nodes(self, asked: FindNode, honest: Nodes) -> Nodes:
        return Nodes(honest.target, self.accomplices(asked.target))


class RollbackByTtl(Adversary):
    """Keeps each version it is sent and waits until the newest has expired.  If an older one is in force
    then, it answers with that and hands it (`act`) to the nodes closest to the key."""

    name = "rollback_by_ttl"
    summary = "brings back the version before, once a short-lived one has expired"
    defences = ("ttl_raise", "floors")

    def on_value(self, asked: FindValue, honest: Values) -> Values:
        past = self.history(asked.key)
        return only(honest, *past[-1:]) if past else honest

    async def act(self) -> None:
        for key in self.gang.keys():
            for wire in self.history(key)[-1:]:
                for contact in await self.find(key):
                    await self.ask(contact, Store((wire,), replica=True))


class Equivocator(Adversary):
    """An owner that signs two values with one timestamp, and gives (`act`) one to every second of the nodes
    closest to the key, the other to the rest, so that readers be told different things."""

    name = "equivocator"
    summary = "an owner that signs two values at once and tells some the one, some the other"
    defences = ("equal_timestamps",)

    RECORD = "two-faced"
    VALUES = (b"heads", b"tails")

    async def act(self) -> None:
        where = self.node.named(self.RECORD)
        now = self.now_ms - MS
        faces = [self.sign(where, value, now) for value in self.VALUES]
        for i, contact in enumerate(await self.find(where.key())):
            await self.ask(contact, Store((faces[i % 2],)))
