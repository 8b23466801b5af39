"""From wire bytes to `VerifiedContact`: nothing else may be dialled, stored in a table or passed on.

The types enforce it: only `ContactVerifier` can make one.  Two hashes give the claimed id and its
puzzle bits, so distance costs nothing; the one costly step, Argon2id, is cached both ways (section 2).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Iterable
from dataclasses import InitVar, dataclass, field
from typing import Final

import msgspec

from ..constants import BORN_MAX_AGE_DAYS, BORN_MAX_AHEAD_DAYS, MAX_ADDRESSES, ParameterSet
from ..crypto import puzzle
from ..crypto.api import Kem, Suite
from ..errors import BadPuzzle, DecodeError
from ..ids import NodeId, leading_zero_bits
from ..wire.address import Address, parse_address
from ..wire.contact import ADDRESS_ROOM, Contact
from .keys import born_day, public_key_hash
from .stake import check_epoch, parse_stake, verify_stake

_MADE_HERE: Final = object()
VERIFIED_KEPT = 4096
"""Whole contacts kept as verified: a lookup is told of the same ones by everybody it asks."""


class VerdictCache:
    """Remembers what verified and what did not, each bounded, least recently used out first.

    The two are kept apart: a wrong claim costs its maker nothing, so it must not push out right ones.
    """

    __slots__ = ("_bad", "_good")

    def __init__(self, size: int) -> None:
        self._good = _Recent(size)
        self._bad = _Recent(max(1, size // 4))

    def get(self, key: bytes) -> bool | None:
        """True: verified. False: known to be wrong. None: not known."""
        return True if key in self._good else False if key in self._bad else None

    def put(self, key: bytes, good: bool) -> None:
        (self._good if good else self._bad).add(key)


class _Recent:
    __slots__ = ("_keys", "_size")

    def __init__(self, size: int) -> None:
        self._keys: OrderedDict[bytes, None] = OrderedDict()
        self._size = size

    def __contains__(self, key: bytes) -> bool:
        if key not in self._keys:
            return False
        self._keys.move_to_end(key)
        return True

    def add(self, key: bytes) -> None:
        self._keys[key] = None
        self._keys.move_to_end(key)
        if len(self._keys) > self._size:
            self._keys.popitem(last=False)


@dataclass(frozen=True, slots=True)
class _Rules:
    """What a `VerifiedContact` needs of its verifier to stay verified when it changes."""

    kem: Kem
    private_addresses: bool

    def check_key(self, contact: Contact) -> None:
        key = contact.kem_key
        if key is None:
            return
        if len(key) != self.kem.public_size:
            raise DecodeError(f"a KEM key has {self.kem.public_size} bytes in this suite, got {len(key)}")
        if public_key_hash(key) != contact.kem_key_hash:
            raise BadPuzzle("the KEM key is not the one the node id commits to")
        self.kem.public_key(key)  # an id can commit to bytes that are no key

    def sort_addresses(self, texts: Iterable[str]) -> tuple[tuple[Address, ...], tuple[str, ...]]:
        """(usable, dropped): addresses are hints, so a bad one is no reason to refuse the contact."""
        usable: list[Address] = []
        dropped: list[str] = []
        room = ADDRESS_ROOM
        for text in texts:
            try:
                address = parse_address(text)
            except DecodeError:
                dropped.append(text)
                continue
            if address in usable:
                continue
            size = len(str(address)) + 3
            if self._may_dial(address) and len(usable) < MAX_ADDRESSES and size <= room:
                usable.append(address)
                room -= size
            else:
                dropped.append(text)
        return tuple(usable), tuple(dropped)

    def _may_dial(self, address: Address) -> bool:
        if address.scheme == "relay":
            return True
        ip = address.ip
        # A host name would let its author make us resolve and dial whatever it likes, and choose its
        # own address group; names belong in bootstrap entries.
        if ip is None or address.port == 0 or ip.is_unspecified or ip.is_multicast:
            return False
        return self.private_addresses or address.is_public


@dataclass(frozen=True, slots=True)
class VerifiedContact:
    """A contact whose id, puzzle and (where present) KEM key were checked.  Made by `ContactVerifier`.

    `contact` carries exactly the usable addresses, canonical; `dropped` the texts that were not
    (unparsable, or private on a public network).  Equal when id, contact and addresses are.
    """

    node_id: NodeId
    contact: Contact
    addresses: tuple[Address, ...]
    dropped: tuple[str, ...] = field(compare=False)
    _rules: _Rules = field(repr=False, compare=False)
    made_by: InitVar[object]
    group: str = field(init=False, repr=False, compare=False)
    """/24 or /48 of the first IP address, '' if there is none."""
    wide_group: str = field(init=False, repr=False, compare=False)
    """As `group`, but /32 of IPv6."""
    _bare: Contact = field(init=False, repr=False, compare=False)
    """As it is passed on, without its KEM key."""

    def __post_init__(self, made_by: object) -> None:
        if made_by is not _MADE_HERE:
            raise TypeError("only ContactVerifier makes a VerifiedContact")
        first = next((a for a in self.addresses if a.ip is not None), None)
        object.__setattr__(self, "group", first.group if first else "")
        object.__setattr__(self, "wide_group", first.wide_group if first else "")
        has_key = self.contact.kem_key is not None
        bare = msgspec.structs.replace(self.contact, kem_key=None) if has_key else self.contact
        object.__setattr__(self, "_bare", bare)

    @property
    def kem_key(self) -> bytes | None:
        """The KEM public key, of the suite's length and matching the id's commitment; None if unknown."""
        return self.contact.kem_key

    @property
    def bits(self) -> int:
        """Leading zero bits of the puzzle's digest."""
        return leading_zero_bits(self.contact.digest)

    def with_key(self, kem_key: bytes) -> VerifiedContact:
        """The same with its KEM key.  Raises DecodeError (no such key) or BadPuzzle (another key)."""
        contact = msgspec.structs.replace(self.contact, kem_key=kem_key)
        self._rules.check_key(contact)
        return VerifiedContact(self.node_id, contact, self.addresses, self.dropped, self._rules, _MADE_HERE)

    def dialled_by(self, schemes: Container[str]) -> VerifiedContact | None:
        """The same with the addresses of one group only: that of the first whose scheme is known.

        None if there is none.  Else an address that nobody here can dial would name the group that
        the node behind the others is counted under.
        """
        first = next((a for a in self.addresses if a.scheme in schemes), None)
        if first is None:
            return None
        if len(self.addresses) == 1:
            return self
        kept = [str(a) for a in self.addresses if a.group == first.group]
        return self if len(kept) == len(self.addresses) else self.with_addresses(kept)

    def with_addresses(self, texts: Iterable[str]) -> VerifiedContact:
        """The same with other addresses, under the same rules; at most 4, the rest are dropped."""
        return _verified(self.node_id, self.contact, texts, self._rules)

    def to_wire(self, with_key: bool) -> Contact:
        """What is passed on: checked addresses only, the KEM key (if known) only where asked for."""
        return self.contact if with_key else self._bare


def _verified(node_id: NodeId, contact: Contact, texts: Iterable[str], rules: _Rules) -> VerifiedContact:
    addresses, dropped = rules.sort_addresses(texts)
    contact = msgspec.structs.replace(contact, addresses=tuple(map(str, addresses)))
    return VerifiedContact(node_id, contact, addresses, dropped, rules, _MADE_HERE)


def claimed_id(network_tag: bytes, contact: Contact) -> NodeId:
    """The id a contact claims: two hashes, true only once the digest was checked."""
    commit = puzzle.commit(network_tag, contact.signing_key_hash, contact.kem_key_hash, contact.born)
    return puzzle.node_id(commit, contact.digest)


def check_born(born: int, now_ms: int) -> None:
    """Raises BadPuzzle unless an id born on day `born` is at most 37 days old and 1 day ahead."""
    age = born_day(now_ms) - born
    if age > BORN_MAX_AGE_DAYS:
        raise BadPuzzle(f"the node id is {age} days old, at most {BORN_MAX_AGE_DAYS}", age=age)
    if age < -BORN_MAX_AHEAD_DAYS:
        raise BadPuzzle(f"the node id is from {-age} days ahead, at most {BORN_MAX_AHEAD_DAYS}", age=age)


class ContactVerifier:
    """Checks contacts of one network.  Holds a bounded cache; shared by everything in one node.

    `argon2_runs` and `hits` count what the costly check did and what the cache saved.
    """

    def __init__(
        self, suite: Suite, params: ParameterSet, network_tag: bytes, cache_size: int = 65536
    ) -> None:
        self._provider = suite.provider
        self._params = params
        self._network_tag = network_tag
        self._rules = _Rules(suite.kem, params.private_addresses)
        self._verdicts = VerdictCache(cache_size)
        self._stakes = VerdictCache(cache_size)
        self._verified: OrderedDict[Contact, VerifiedContact] = OrderedDict()
        self._verified_most = min(cache_size, VERIFIED_KEPT)
        self.argon2_runs = 0
        self.hits = 0

    def claimed_id(self, contact: Contact) -> NodeId:
        """The id a contact claims, without Argon2id: enough for distance, not for belief."""
        return claimed_id(self._network_tag, contact)

    def check_bits(self, contact: Contact) -> None:
        """Raises BadPuzzle if the claimed digest is too easy for its `born` day."""
        puzzle.check_bits(contact.digest, self._params.puzzle_bits(contact.born))

    def check_cheap(self, contact: Contact, now_ms: int) -> None:
        """Everything but Argon2id: puzzle bits, `born` window, KEM key.  Raises BadPuzzle, DecodeError."""
        check_born(contact.born, now_ms)
        self.check_bits(contact)
        self._rules.check_key(contact)

    def check_digest(self, contact: Contact) -> None:
        """The Argon2id equality alone: pure, about 0.2 ms, may run in a thread.  Raises BadPuzzle."""
        commit = puzzle.commit(
            self._network_tag, contact.signing_key_hash, contact.kem_key_hash, contact.born
        )
        puzzle.check(self._provider, self._network_tag, commit, contact.nonce, contact.digest)

    def known(self, contact: Contact) -> bool | None:
        """What the cache says of the digest: True right, False false, None not checked yet."""
        return self._verdicts.get(_cache_key(self.claimed_id(contact), contact))

    def remember(self, contact: Contact, good: bool) -> None:
        """Keep the outcome of a `check_digest` that ran elsewhere."""
        self.argon2_runs += 1
        self._verdicts.put(_cache_key(self.claimed_id(contact), contact), good)

    def verify(self, contact: Contact, now_ms: int) -> VerifiedContact:
        """The whole check.  Raises BadPuzzle, or DecodeError for a KEM key that is none.

        The caches hold what never changes: the `born` window is looked at every time.
        """
        kept = self._verified.get(contact)
        if kept is not None:
            check_born(contact.born, now_ms)
            self._verified.move_to_end(contact)
            self.hits += 1
            return kept
        # A handshake proves a contact before it tells addresses and stake: no need to check the rest again.
        elsewhere = self._verified.get(msgspec.structs.replace(contact, addresses=(), stake=None))
        if elsewhere is not None:
            check_born(contact.born, now_ms)
            self.hits += 1
            checked = _verified(elsewhere.node_id, contact, contact.addresses, self._rules)
        else:
            self.check_cheap(contact, now_ms)
            node_id = self.claimed_id(contact)
            self._check_once(contact, node_id)
            checked = _verified(node_id, contact, contact.addresses, self._rules)
        self._verified[contact] = checked
        if len(self._verified) > self._verified_most:
            self._verified.popitem(last=False)
        return checked

    def _check_once(self, contact: Contact, node_id: NodeId) -> None:
        """`check_digest`, unless its outcome is remembered."""
        name = _cache_key(node_id, contact)
        known = self._verdicts.get(name)
        if known is None:
            self.argon2_runs += 1
            try:
                self.check_digest(contact)
            except BadPuzzle:
                self._verdicts.put(name, False)
                raise
            self._verdicts.put(name, True)
        else:
            self.hits += 1
            if not known:
                raise BadPuzzle("the node id's puzzle digest is false")

    def stake_bits(self, node_id: bytes, stake: bytes | None, now_ms: int) -> int:
        """The bits of a node's stake, 0 where there is none that holds: a false one is none, and no fault.

        At most one Argon2id, and only for who asks; both outcomes are cached, whatever the time.
        """
        if stake is None:
            return 0
        try:
            read = parse_stake(stake)
            check_epoch(read, now_ms)
        except BadPuzzle:
            return 0
        if not read.bits:
            return 0
        key = node_id + stake
        known = self._stakes.get(key)
        if known is None:
            self.argon2_runs += 1
            try:
                verify_stake(self._provider, self._network_tag, node_id, stake, now_ms)
                known = True
            except BadPuzzle:
                known = False
            self._stakes.put(key, known)
        else:
            self.hits += 1
        return read.bits if known else 0


def _cache_key(node_id: NodeId, contact: Contact) -> bytes:
    # The id is a hash over network, both keys, `born` and digest: with the nonce that is all.
    return node_id + contact.nonce
