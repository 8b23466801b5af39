"""Batch signatures: every size, every wrong part, fixed vectors, and the root cache."""

from __future__ import annotations

import random
from hashlib import sha3_256

import pytest

from pqdht.crypto import batch
from pqdht.crypto.api import Provider
from pqdht.crypto.batch import MAX_BATCH, BatchSigner, BatchVerifier, Job
from pqdht.crypto.labels import MESSAGE, RECORD
from pqdht.errors import BadSignature, DecodeError
from tests.unit.crypto import batch_reference, vectors

ALICE, BOB = b"A" * 32, b"B" * 32


class HashKey:
    """A signature scheme fast enough for every N: it also counts what it is asked."""

    seed = b""

    def __init__(self, public: bytes = b"alice") -> None:
        self.public = public
        self.signed = self.verified = 0

    def _tag(self, message: bytes, ctx: bytes) -> bytes:
        return sha3_256(self.public + bytes([len(ctx)]) + ctx + message).digest()

    def sign(self, message: bytes, ctx: bytes) -> bytes:
        self.signed += 1
        return self._tag(message, ctx)

    def verify(self, signature: bytes, message: bytes, ctx: bytes) -> None:
        self.verified += 1
        if signature != self._tag(message, ctx):
            raise BadSignature("wrong")


def counting_coins() -> BatchSigner:
    dice = random.Random(4)
    return BatchSigner(dice.randbytes)


def signed(n: int, key: HashKey | None = None) -> list[bytes]:
    signer = counting_coins()
    for i in range(n):
        signer.submit(b"m%d" % i)
    job = signer.take()
    assert job is not None
    return [proof for _, proof in job.sign(key or HashKey(), MESSAGE)]


def refused(proof: bytes, message: bytes, signer: bytes = ALICE, key: HashKey | None = None) -> None:
    with pytest.raises((BadSignature, DecodeError)):
        BatchVerifier().verify(proof, message, signer, key or HashKey(), MESSAGE)


def test_every_size() -> None:
    """N = 1..1024: layout, one signature, every leaf of small trees and some of large ones."""
    dice = random.Random(1)
    for n in range(1, MAX_BATCH + 1):
        key, verifier = HashKey(), BatchVerifier()
        proofs = signed(n, key)
        depth = 0 if n == 1 else len(bin(n - 1)) - 2
        assert key.signed == 1
        assert len({p[:34] for p in proofs}) == 1
        leaves = range(n) if n <= 16 else {0, n - 1, *(dice.randrange(n) for _ in range(4))}
        for i in leaves:
            assert len(proofs[i]) == 68 + 32 * depth + 32
            assert proofs[i][32:36] == n.to_bytes(2, "big") + i.to_bytes(2, "big")
            verifier.verify(proofs[i], b"m%d" % i, ALICE, key, MESSAGE)
        assert key.verified == 1


def test_every_wrong_part_at_every_size() -> None:
    dice = random.Random(2)
    for n in range(1, MAX_BATCH + 1):
        proofs = signed(n)
        i = dice.randrange(n)
        good, message = proofs[i], b"m%d" % i
        # every wrong path element, coin and tree id, by one bit of each 32-byte part
        for at in [0, *range(36, len(good) - 32, 32)]:
            bad = bytearray(good)
            bad[at + dice.randrange(32)] ^= 1 << dice.randrange(8)
            refused(bytes(bad), message)
        # every wrong index (in most large trees some, the sibling among them), every neighbouring N
        every = n <= 32 or n in (512, 513, 1000, 1024)
        for j in range(n) if every else [(i ^ 1) % n, n - 1 - i, *(dice.randrange(n) for _ in range(4))]:
            if j != i:
                refused(good[:34] + j.to_bytes(2, "big") + good[36:], message)
                refused(proofs[j], message)
        for size in {n - 1, n + 1, 0, MAX_BATCH + 1} - {n}:
            refused(good[:32] + size.to_bytes(2, "big") + good[34:], message)
        # wrong message, root signature, signer's key
        refused(good, message + b"\0")
        refused(good[:-1] + bytes([good[-1] ^ 1]), message)
        refused(good, message, key=HashKey(b"bob"))


def test_index_must_be_below_n() -> None:
    proof = signed(5)[4]
    for i in (5, 7, 8, 65535):
        with pytest.raises(DecodeError, match="of 5"):
            BatchVerifier().verify(
                proof[:34] + i.to_bytes(2, "big") + proof[36:], b"m4", ALICE, HashKey(), MESSAGE
            )


@pytest.mark.parametrize("n", [1, 2, 5, 1024])
def test_every_truncation(n: int) -> None:
    proof = signed(n)[0]
    for cut in range(len(proof)):
        refused(proof[:cut], b"m0")
    refused(proof + b"\0", b"m0")


def test_a_path_of_another_length_is_refused() -> None:
    proof = signed(4)[0]
    refused(proof[:68] + proof[100:], b"m0")
    refused(proof[:68] + proof[68:100] + proof[68:], b"m0")


def test_padding_and_inner_nodes_are_no_messages() -> None:
    """Domain bytes and labels: what is hashed as a node or as padding never passes for a leaf."""
    n, tree = 3, batch_reference.TREE_ID
    statement = batch_reference.statement(n)
    signature = HashKey().sign(statement, MESSAGE)
    inner = batch_reference.node(1, 0, n)
    sibling = batch_reference.node(1, 1, n)
    for message in (inner, tree + b"\1\1\0\0", b"", tree + b"\2\0\3"):
        for size, index in ((2, 0), (3, 0), (3, 2), (4, 3)):
            head = tree + size.to_bytes(2, "big") + index.to_bytes(2, "big") + batch_reference.coin(index)
            refused(head + sibling * batch.depth(size) + signature, message)


class TestVectors:
    """tests/vectors/batch.json, our code and the reference agree."""

    @pytest.mark.parametrize("v", vectors.own("batch.json")["trees"], ids=lambda v: f"N{v['n']}")
    def test_trees(self, v: dict[str, object]) -> None:
        n = v["n"]
        assert isinstance(n, int)
        assert v in batch_reference.vectors()
        job = Job(
            batch_reference.TREE_ID,
            tuple(range(n)),
            tuple(batch_reference.message(i) for i in range(n)),
            tuple(batch_reference.coin(i) for i in range(n)),
        )
        proofs = dict(job.sign(HashKey(), MESSAGE))
        assert isinstance(v["proofs"], dict)
        for index, expected in v["proofs"].items():
            assert batch.strip_root(proofs[int(index)]).hex() == expected
        expected_statement = (
            b"pqdht/1/batch-root\0" + job.tree_id + bytes.fromhex(str(v["root"])) + n.to_bytes(2, "big")
        )
        assert batch.parse_proof(proofs[0]).signature == HashKey().sign(expected_statement, MESSAGE)

    def test_signed_proof(self, provider: Provider) -> None:
        v = vectors.own("batch.json")["signed"]
        key = provider.signer("ML-DSA-65").verify_key(bytes.fromhex(v["public"]))
        proof, message = bytes.fromhex(v["proof"]), v["message"].encode()
        BatchVerifier().verify(proof, message, ALICE, key, MESSAGE)
        with pytest.raises(BadSignature):
            BatchVerifier().verify(proof, message + b".", ALICE, key, MESSAGE)
        with pytest.raises(BadSignature):
            BatchVerifier().verify(proof, message, ALICE, key, RECORD)


@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_with_real_signatures(provider: Provider, n: int) -> None:
    signer = provider.signer("ML-DSA-65")
    key, other = signer.signing_key(bytes(32)), signer.signing_key(b"\1" * 32)
    verify_key = signer.verify_key(key.public)
    queue = BatchSigner(provider.random_bytes)
    messages = {queue.submit(b"m%d" % i): b"m%d" % i for i in range(n)}
    job = queue.take()
    assert job is not None
    verifier = BatchVerifier()
    for ticket, proof in job.sign(key, MESSAGE):
        verifier.verify(proof, messages[ticket], ALICE, verify_key, MESSAGE)
        with pytest.raises(BadSignature):
            verifier.verify(proof, messages[ticket] + b"x", ALICE, verify_key, MESSAGE)
    with pytest.raises(BadSignature):
        BatchVerifier().verify(proof, messages[ticket], ALICE, signer.verify_key(other.public), MESSAGE)
    assert len(verifier) == 1


class TestSigner:
    def test_nothing_waits(self) -> None:
        assert counting_coins().take() is None

    def test_takes_the_oldest_first(self) -> None:
        signer = counting_coins()
        tickets = [signer.submit(b"m%d" % i) for i in range(5)]
        first, second = signer.take(2), signer.take(2)
        tickets.append(signer.submit(b"m5"))
        third = signer.take()
        assert first is not None
        assert second is not None
        assert third is not None
        assert [first.messages, second.messages, third.messages] == [
            (b"m0", b"m1"),
            (b"m2", b"m3"),
            (b"m4", b"m5"),
        ]
        assert [*first.tickets, *second.tickets, *third.tickets] == tickets
        assert len(set(tickets)) == 6
        assert len(signer) == 0

    def test_fresh_randomness_in_each_job(self) -> None:
        signer = counting_coins()
        coins: list[bytes] = []
        for _ in range(3):
            signer.submit(b"same")
            signer.submit(b"same")
            job = signer.take()
            assert job is not None
            coins += [job.tree_id, *job.rs]
        assert len(set(coins)) == 9
        assert {len(c) for c in coins} == {32}

    @pytest.mark.parametrize("limit", [-1, 0, MAX_BATCH + 1])
    def test_limit(self, limit: int) -> None:
        signer = counting_coins()
        signer.submit(b"m")
        with pytest.raises(ValueError, match=r"1\.\.1024"):
            signer.take(limit)

    def test_more_than_a_batch(self) -> None:
        signer = counting_coins()
        for i in range(MAX_BATCH + 1):
            signer.submit(b"m%d" % i)
        sizes = [len(job.messages) for job in (signer.take(), signer.take()) if job]
        assert sizes == [MAX_BATCH, 1]


class TestCache:
    def test_the_root_signature_is_checked_once(self) -> None:
        key, verifier = HashKey(), BatchVerifier()
        for i, proof in enumerate(signed(8)):
            verifier.verify(proof, b"m%d" % i, ALICE, key, MESSAGE)
        assert key.verified == 1
        assert len(verifier) == 1

    def test_without_the_root_signature(self) -> None:
        key, verifier, proofs = HashKey(), BatchVerifier(), signed(3)
        bare = batch.strip_root(proofs[1])
        assert batch.attach_root(bare, batch.parse_proof(proofs[1]).signature) == proofs[1]
        assert batch.attach_root(proofs[1], b"sig") == bare + b"sig"
        with pytest.raises(BadSignature) as info:
            verifier.verify(bare, b"m1", ALICE, key, MESSAGE)
        assert info.value.fields == {"reason": "unknown-root"}
        with pytest.raises(BadSignature):
            verifier.complete(bare, b"m1", ALICE, MESSAGE)
        verifier.verify(proofs[0], b"m0", ALICE, key, MESSAGE)
        verifier.verify(bare, b"m1", ALICE, key, MESSAGE)
        assert verifier.complete(bare, b"m1", ALICE, MESSAGE) == proofs[1]
        assert verifier.complete(proofs[1], b"m1", ALICE, MESSAGE) == proofs[1]

    def test_a_known_root_serves_only_its_signer_context_and_messages(self) -> None:
        key, verifier, proofs = HashKey(), BatchVerifier(), signed(3)
        bare = batch.strip_root(proofs[1])
        verifier.verify(proofs[0], b"m0", ALICE, key, MESSAGE)
        for message, signer, ctx in ((b"m1", BOB, MESSAGE), (b"m1", ALICE, RECORD), (b"m2", ALICE, MESSAGE)):
            with pytest.raises(BadSignature):
                verifier.verify(bare, message, signer, key, ctx)

    def test_a_wrong_signature_beside_a_known_root_is_refused(self) -> None:
        """Else it would be forwarded, and the next reader would blame the forwarder."""
        key, verifier, proofs = HashKey(), BatchVerifier(), signed(3)
        verifier.verify(proofs[0], b"m0", ALICE, key, MESSAGE)
        with pytest.raises(BadSignature):
            verifier.verify(batch.attach_root(proofs[1], b"garbage"), b"m1", ALICE, key, MESSAGE)
        verifier.verify(proofs[1], b"m1", ALICE, key, MESSAGE)

    def test_failures_are_not_remembered(self) -> None:
        verifier, proofs = BatchVerifier(), signed(3)
        for i, proof in enumerate(proofs):
            with pytest.raises(BadSignature):
                verifier.verify(proof, b"m%d" % i, ALICE, HashKey(b"bob"), MESSAGE)
        assert len(verifier) == 0

    def test_bounded_and_least_recently_used(self) -> None:
        key, verifier, signer = HashKey(), BatchVerifier(capacity=3), counting_coins()
        proofs = []
        for _ in range(4):
            signer.submit(b"m")
            job = signer.take()
            assert job is not None
            proofs.append(job.sign(key, MESSAGE)[0][1])
        for proof in (proofs[0], proofs[1], proofs[2], proofs[0], proofs[3]):  # 1 goes
            verifier.verify(proof, b"m", ALICE, key, MESSAGE)
        assert len(verifier) == 3
        for i in (0, 2, 3):
            verifier.verify(batch.strip_root(proofs[i]), b"m", ALICE, key, MESSAGE)
        with pytest.raises(BadSignature):
            verifier.verify(batch.strip_root(proofs[1]), b"m", ALICE, key, MESSAGE)


def test_sizes() -> None:
    assert (batch.HEADER_SIZE, batch.HASH_SIZE, MAX_BATCH) == (68, 32, 1024)
    assert [batch.depth(n) for n in (1, 2, 3, 4, 5, 512, 513, 1024)] == [0, 1, 2, 2, 3, 9, 10, 10]
