"""Batch proofs for any queue and any bytes."""

from __future__ import annotations

import random
from hashlib import sha3_256

from hypothesis import example, given
from hypothesis import strategies as st

from pqdht.crypto import batch
from pqdht.crypto.batch import MAX_BATCH, BatchSigner, BatchVerifier
from pqdht.crypto.labels import MESSAGE
from pqdht.errors import BadSignature, DecodeError

ALICE = b"A" * 32


class HashKey:
    """Stands for ML-DSA where only the tree is looked at."""

    seed = public = b""

    def sign(self, message: bytes, ctx: bytes) -> bytes:
        return sha3_256(ctx + message).digest()

    def verify(self, signature: bytes, message: bytes, ctx: bytes) -> None:
        if signature != self.sign(message, ctx):
            raise BadSignature("wrong")


KEY = HashKey()


def accepts(proof: bytes, message: bytes, verifier: BatchVerifier | None = None) -> bool:
    verifier = BatchVerifier() if verifier is None else verifier
    try:
        verifier.verify(proof, message, ALICE, KEY, MESSAGE)
    except (BadSignature, DecodeError):
        return False
    return True


@given(
    st.lists(st.one_of(st.binary(max_size=40), st.integers(1, MAX_BATCH)), max_size=60),
    st.randoms(use_true_random=False),
)
def test_every_ticket_gets_the_proof_of_its_own_message(
    actions: list[bytes | int], dice: random.Random
) -> None:
    """Submits and takes in any order: nothing is lost, doubled or swapped."""
    signer, verifier = BatchSigner(dice.randbytes), BatchVerifier()
    waiting: dict[int, bytes] = {}
    proved: dict[int, bytes] = {}
    submitted: dict[int, bytes] = {}
    for action in [*actions, MAX_BATCH]:
        if isinstance(action, bytes):
            ticket = signer.submit(action)
            assert ticket not in submitted
            submitted[ticket] = waiting[ticket] = action
            continue
        job = signer.take(action)
        assert (job is None) == (not waiting)
        if job is not None:
            signed = job.sign(KEY, MESSAGE)
            assert len(signed) == min(action, len(waiting))
            for ticket, proof in signed:
                assert ticket not in proved
                proved[ticket] = proof
                assert accepts(proof, waiting.pop(ticket), verifier)
        assert len(signer) == len(waiting)
    assert proved.keys() == submitted.keys()
    for ticket, proof in proved.items():
        for other, message in submitted.items():
            assert accepts(proof, message) == (message == submitted[ticket]), (ticket, other)


@given(st.binary(max_size=600), st.binary(max_size=20))
@example(b"", b"")
@example(bytes(32) + b"\0\1\0\0" + bytes(32), b"")
def test_any_bytes_are_refused_with_a_documented_error(proof: bytes, message: bytes) -> None:
    assert not accepts(proof, message)


@given(st.binary(max_size=600))
def test_parsing_loses_nothing(proof: bytes) -> None:
    try:
        p = batch.parse_proof(proof)
    except DecodeError:
        return
    head = p.tree_id + p.size.to_bytes(2, "big") + p.leaf.to_bytes(2, "big") + p.r
    assert head + p.path + p.signature == proof
    assert len(p.path) == 32 * batch.depth(p.size)
    assert batch.attach_root(batch.strip_root(proof), p.signature) == proof


@given(st.integers(1, 40), st.data())
def test_one_changed_byte_anywhere_is_refused(n: int, data: st.DataObject) -> None:
    signer = BatchSigner(random.Random(n).randbytes)
    for i in range(n):
        signer.submit(bytes([i]))
    job = signer.take()
    assert job is not None
    i = data.draw(st.integers(0, n - 1))
    proof = bytearray(job.sign(KEY, MESSAGE)[i][1])
    at = data.draw(st.integers(0, len(proof) - 1))
    proof[at] ^= data.draw(st.integers(1, 255))
    assert not accepts(bytes(proof), bytes([i]))


@given(st.integers(1, 5), st.lists(st.integers(0, 9), max_size=60))
def test_cache_against_a_plain_model(capacity: int, uses: list[int]) -> None:
    """Least recently used goes first, and what is remembered is exactly what is admitted bare."""
    signer = BatchSigner(random.Random(0).randbytes)
    proofs = []
    for _ in range(10):
        signer.submit(b"m")
        job = signer.take()
        assert job is not None
        proofs.append(job.sign(KEY, MESSAGE)[0][1])
    verifier = BatchVerifier(capacity)
    model: list[int] = []
    for use in uses:
        bare = batch.strip_root(proofs[use])
        assert accepts(bare, b"m", verifier) == (use in model)
        assert accepts(proofs[use], b"m", verifier)
        model = [*(u for u in model if u != use), use][-capacity:]
        assert len(verifier) == len(model)
