"""The two identities (section 2): the node, a place in the DHT for 30 days, and the owner, who signs
values for years.  Searching the puzzle is `crypto.puzzle`; key files are `storage.keyfiles`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..constants import DAY_MS
from ..crypto import puzzle
from ..crypto.api import KemPrivateKey, SigningKey, Suite
from ..crypto.labels import KEY_HASH, OWNER_ID, tagged_hash
from ..ids import NodeId, OwnerId, leading_zero_bits
from ..wire.contact import Contact


def public_key_hash(public: bytes) -> bytes:
    """H(label || public key), 32 B: how contacts, handshakes and puzzles name a key."""
    return tagged_hash(KEY_HASH, public)


def owner_id_of(public: bytes) -> OwnerId:
    """The id of the owner who holds this public signing key."""
    return OwnerId(tagged_hash(OWNER_ID, public))


def born_day(now_ms: int) -> int:
    """Day number (days since the epoch) of a time in ms."""
    return now_ms // DAY_MS


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """A node's keys and the solved puzzle that binds them to `node_id`.

    `born` is a day number, `nonce` 8 B, `digest` 32 B.  Made by `assemble`, which recomputes what can
    be computed.  Its repr shows nothing secret.
    """

    suite: Suite = field(repr=False, compare=False)
    network_tag: bytes = field(repr=False)
    signing: SigningKey = field(repr=False, compare=False)
    kem: KemPrivateKey = field(repr=False, compare=False)
    born: int
    nonce: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    node_id: NodeId
    signing_key_hash: bytes = field(init=False, repr=False)
    kem_key_hash: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "signing_key_hash", public_key_hash(self.signing.public))
        object.__setattr__(self, "kem_key_hash", public_key_hash(self.kem.public))

    @classmethod
    def assemble(
        cls, suite: Suite, network_tag: bytes, signing_seed: bytes, kem_seed: bytes, born: int, nonce: bytes
    ) -> NodeIdentity:
        """From what a key file holds: one Argon2id run.  Raises ValueError on a wrong length.

        Whether the puzzle is hard enough and still valid is for `ContactVerifier.check_cheap`.
        """
        return UnsolvedIdentity.from_seeds(suite, network_tag, signing_seed, kem_seed, born).solved(nonce)

    @property
    def bits(self) -> int:
        """Leading zero bits of the puzzle's digest."""
        return leading_zero_bits(self.digest)

    def contact(
        self,
        addresses: tuple[str, ...] = (),
        features: int = 0,
        with_key: bool = False,
        stake: bytes | None = None,
    ) -> Contact:
        """How others are told of this node."""
        return Contact(
            signing_key_hash=self.signing_key_hash,
            kem_key_hash=self.kem_key_hash,
            born=self.born,
            nonce=self.nonce,
            digest=self.digest,
            addresses=addresses,
            kem_key=self.kem.public if with_key else None,
            features=features,
            stake=stake,
        )


@dataclass(frozen=True, slots=True)
class UnsolvedIdentity:
    """Keys and a `born` day, committed to (`commit`, 32 B), with the puzzle still to be solved."""

    suite: Suite = field(repr=False, compare=False)
    network_tag: bytes = field(repr=False)
    signing: SigningKey = field(repr=False, compare=False)
    kem: KemPrivateKey = field(repr=False, compare=False)
    born: int
    commit: bytes

    @classmethod
    def from_seeds(
        cls, suite: Suite, network_tag: bytes, signing_seed: bytes, kem_seed: bytes, born: int
    ) -> UnsolvedIdentity:
        """Resume with saved seeds.  Raises ValueError on a wrong length."""
        return _commit(
            suite,
            network_tag,
            suite.node_signer.signing_key(signing_seed),
            suite.kem.private_key(kem_seed),
            born,
        )

    def solved(self, nonce: bytes) -> NodeIdentity:
        """The identity that `nonce` (8 B) gives: one Argon2id run.  Raises ValueError on a wrong length."""
        if len(nonce) != 8:
            raise ValueError(f"a puzzle nonce has 8 bytes, got {len(nonce)}")
        digest = puzzle.digest(self.suite.provider, self.network_tag, self.commit, nonce)
        return NodeIdentity(
            suite=self.suite,
            network_tag=self.network_tag,
            signing=self.signing,
            kem=self.kem,
            born=self.born,
            nonce=nonce,
            digest=digest,
            node_id=puzzle.node_id(self.commit, digest),
        )


def new_commit(suite: Suite, network_tag: bytes, born: int) -> UnsolvedIdentity:
    """Fresh keys, committed to day `born`: what a puzzle search starts from."""
    return _commit(suite, network_tag, suite.node_signer.generate(), suite.kem.generate(), born)


def _commit(
    suite: Suite, network_tag: bytes, signing: SigningKey, kem: KemPrivateKey, born: int
) -> UnsolvedIdentity:
    commit = puzzle.commit(network_tag, public_key_hash(signing.public), public_key_hash(kem.public), born)
    return UnsolvedIdentity(suite, network_tag, signing, kem, born, commit)


@dataclass(frozen=True, slots=True)
class OwnerIdentity:
    """Who signs values.  `owner_id` = H(label || public key); it belongs to no network."""

    suite: Suite = field(repr=False, compare=False)
    signing: SigningKey = field(repr=False, compare=False)
    owner_id: OwnerId = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "owner_id", owner_id_of(self.signing.public))

    @classmethod
    def generate(cls, suite: Suite) -> OwnerIdentity:
        """A new owner with fresh keys."""
        return cls(suite, suite.owner_signer.generate())

    @classmethod
    def from_seed(cls, suite: Suite, seed: bytes) -> OwnerIdentity:
        """The owner a key file holds.  Raises ValueError on a wrong length."""
        return cls(suite, suite.owner_signer.signing_key(seed))

    @property
    def public(self) -> bytes:
        """The public signing key, as it stands in every record."""
        return self.signing.public
