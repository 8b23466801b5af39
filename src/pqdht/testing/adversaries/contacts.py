"""Adversaries that lie about who is where."""

from __future__ import annotations

import msgspec

from ...constants import MAX_CONTACTS
from ...identity.contact import claimed_id
from ...ids import distance
from ...wire.address import parse_address
from ...wire.contact import Contact
from ...wire.messages import FindNode, FindValue, Nodes, Values
from .base import Adversary

TRIED = 8
"""False contacts made for each one named: the closest to what was asked for is taken."""
FALSE_NAMED = 8


class ContactLiar(Adversary):
    """Names nodes that do not exist: ids it made up, closer to the target than anybody, whose puzzle has the
    right number of zero bits and is false; each at an address in a group of its own where nobody is."""

    name = "contact_liar"
    summary = "names nodes that do not exist, closer to the target than any that does"
    defences = ("puzzles", "referrals", "closer_answers", "dial_caps")

    def on_value(self, asked: FindValue, honest: Values) -> Values:
        return msgspec.structs.replace(honest, contacts=self._false(asked.key))

    def on_nodes(self, asked: FindNode, honest: Nodes) -> Nodes:
        return Nodes(honest.target, self._false(asked.target))

    def _false(self, target: bytes) -> tuple[Contact, ...]:
        tag = self.node.env.network_tag
        made = [self._make() for _ in range(FALSE_NAMED * TRIED)]
        return tuple(sorted(made, key=lambda c: distance(claimed_id(tag, c), target))[:FALSE_NAMED])

    def _make(self) -> Contact:
        own = self.contact()
        bits = self.node.env.params.puzzle_bits(own.born)
        number = self.dice.getrandbits(8 * len(own.digest)) >> bits
        digest = number.to_bytes(len(own.digest), "big")
        where = f"tcp/10.{200 + self.dice.randrange(50)}.{self.dice.randrange(250)}.1:4733"
        nonce = self.dice.randbytes(8)
        return msgspec.structs.replace(own, digest=digest, nonce=nonce, addresses=(where,), kem_key=None)


class Reflector(Adversary):
    """Names real nodes, rightly, but at addresses of the victim: whoever asks it dials the victim, once for
    each.  Knows the victim's address (`Gang.victim`)."""

    name = "reflector"
    summary = "gives everybody's address as the victim's, who is dialled by all"
    defences = ("dial_caps", "address_groups", "referrals")

    def on_value(self, asked: FindValue, honest: Values) -> Values:
        return msgspec.structs.replace(honest, contacts=self._at_victim(honest.contacts))

    def on_nodes(self, asked: FindNode, honest: Nodes) -> Nodes:
        return Nodes(honest.target, self._at_victim(honest.contacts))

    def _at_victim(self, contacts: tuple[Contact, ...]) -> tuple[Contact, ...]:
        victim = parse_address(self.gang.victim.rpartition("@")[2])
        return tuple(
            msgspec.structs.replace(
                c, addresses=(str(victim.with_port(1024 + self.dice.randrange(60_000))),), kem_key=None
            )
            for c in contacts
        )


class AddressSpoofer(Adversary):
    """Says in every handshake that it is reached at an address in a group where it is not, each member in
    another, so that many nodes behind one address pass for many networks."""

    name = "address_spoofer"
    summary = "claims addresses in groups where it is not, to be counted more often"
    defences = ("address_groups", "addresses")

    def turn(self) -> None:
        super().turn()
        self.tell_addresses((self.claimed(),))

    def claimed(self) -> str:
        """An address in a group of its own."""
        number = len(self.gang.members)
        return f"tcp/10.{180 + number // 250}.{number % 250}.1:4733"


class Eclipser(Adversary):
    """One of many that want to be all that the victim knows.  Meets the victim again and again (`act`) to
    enter its table, names nobody but its accomplices, signs receipts, and says that nothing is there.
    Knows the victim's id and address (`Gang.victim`)."""

    name = "eclipser"
    summary = "fills the victim's table with accomplices that name only each other"
    defences = ("address_groups", "redraw", "disjoint_paths", "walk_check", "pinned")

    def on_value(self, asked: FindValue, honest: Values) -> Values:
        nothing = msgspec.structs.replace(honest, records=(), same=(), cursor=None)
        return msgspec.structs.replace(nothing, contacts=self.accomplices(asked.key))

    def on_nodes(self, asked: FindNode, honest: Nodes) -> Nodes:
        return Nodes(honest.target, self.accomplices(asked.target)[:MAX_CONTACTS])

    async def act(self) -> None:
        if self.gang.victim:
            await self.meet(self.gang.victim)
