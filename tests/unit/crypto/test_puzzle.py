"""The identity puzzle: fixed vectors, exact checks, and a search that can be stopped and resumed."""

from __future__ import annotations

from hashlib import sha3_256

import pytest

from pqdht.crypto import puzzle
from pqdht.crypto.api import Provider
from pqdht.errors import BadPuzzle
from pqdht.ids import leading_zero_bits
from tests.unit.crypto import vectors

TAG, SIG, KEM = b"t" * 32, b"s" * 32, b"k" * 32


def test_vectors(provider: Provider) -> None:
    cases = vectors.own("puzzle.json")
    assert len(cases) == 3
    for case in cases:
        v = {k: bytes.fromhex(x) for k, x in case.items() if isinstance(x, str)}
        commit = puzzle.commit(v["network_tag"], v["signing_key_hash"], v["kem_key_hash"], case["born"])
        assert commit == v["commit"]
        assert puzzle.salt(v["network_tag"]) == v["salt"]
        assert puzzle.digest(provider, v["network_tag"], commit, v["nonce"]) == v["digest"]
        assert puzzle.node_id(commit, v["digest"]) == v["node_id"]
        assert puzzle.search_range(provider, v["salt"], commit, 8, 0, 5000) == v["nonce"]
        puzzle.check(provider, v["network_tag"], commit, v["nonce"], v["digest"])
        puzzle.check_bits(v["digest"], 8)


def test_written_out() -> None:
    commit = sha3_256(b"pqdht/1/puzzle-commit\0" + TAG + SIG + KEM + b"\0\0\x4e\x20").digest()
    assert puzzle.commit(TAG, SIG, KEM, 20_000) == commit
    assert puzzle.salt(TAG) == sha3_256(b"pqdht/1/puzzle-salt\0" + TAG).digest()[:16]
    assert puzzle.node_id(commit, b"d" * 32) == sha3_256(b"pqdht/1/node-id\0" + commit + b"d" * 32).digest()


def test_argon2id_is_rfc_9106_with_our_costs(provider: Provider) -> None:
    low_level = pytest.importorskip("argon2.low_level", reason="argon2-cffi is not installed")
    expected = low_level.hash_secret_raw(b"x" * 40, b"s" * 16, 1, 256, 1, 32, low_level.Type.ID)
    assert provider.puzzle_digest(b"x" * 40, b"s" * 16) == expected


def test_commit_depends_on_each_input() -> None:
    base = (TAG, SIG, KEM, 20_000)
    changed = [
        (b"u" * 32, SIG, KEM, 20_000),
        (TAG, KEM, SIG, 20_000),
        (TAG, SIG, SIG, 20_000),
        (TAG, SIG, KEM, 20_001),
    ]
    assert len({puzzle.commit(*args) for args in [base, *changed]}) == 5


@pytest.mark.parametrize(
    ("first", "bits"), [(b"\x80", 0), (b"\x40", 1), (b"\x01", 7), (b"\0\x80", 8), (b"\0\x01", 15)]
)
def test_check_bits(first: bytes, bits: int) -> None:
    digest = first.ljust(32, b"\xff")
    for asked in range(bits + 1):
        puzzle.check_bits(digest, asked)
    with pytest.raises(BadPuzzle, match=f"has {bits} bits") as info:
        puzzle.check_bits(digest, bits + 1)
    assert info.value.fields == {"found": bits, "asked": bits + 1}


def test_check_refuses_any_change(provider: Provider) -> None:
    commit = puzzle.commit(TAG, SIG, KEM, 20_000)
    nonce = bytes(8)
    digest = puzzle.digest(provider, TAG, commit, nonce)
    puzzle.check(provider, TAG, commit, nonce, digest)
    wrong = [
        (TAG, commit, nonce, bytes(32)),  # an all-zero digest has all the bits, and is false
        (TAG, commit, nonce, digest[:-1] + bytes([digest[-1] ^ 1])),
        (TAG, commit, b"\0" * 7 + b"\1", digest),
        (TAG, commit[::-1], nonce, digest),
        (b"u" * 32, commit, nonce, digest),
    ]
    for args in wrong:
        with pytest.raises(BadPuzzle, match="does not match"):
            puzzle.check(provider, *args)


class TestSearch:
    COMMIT = puzzle.commit(TAG, SIG, KEM, 20_000)

    def all_solutions(self, provider: Provider, bits: int, end: int) -> list[int]:
        return [
            n
            for n in range(end)
            if leading_zero_bits(puzzle.digest(provider, TAG, self.COMMIT, n.to_bytes(8, "big"))) >= bits
        ]

    def test_pieces_find_what_one_search_finds(self, provider: Provider) -> None:
        expected = self.all_solutions(provider, 5, 200)
        assert expected
        salt = puzzle.salt(TAG)
        for step in (1, 7, 200):
            found: list[int] = []
            position = 0
            while position < 200:
                count = min(step, 200 - position)
                nonce = puzzle.search_range(provider, salt, self.COMMIT, 5, position, count)
                if nonce is None:
                    position += count
                else:
                    found.append(int.from_bytes(nonce, "big"))
                    position = found[-1] + 1
            assert found == expected

    def test_ranges_cover_everything_once(self, provider: Provider) -> None:
        salt = puzzle.salt(TAG)
        found = [puzzle.search_range(provider, salt, self.COMMIT, 3, start, 1) for start in range(40)]
        assert [int.from_bytes(n, "big") for n in found if n is not None] == self.all_solutions(
            provider, 3, 40
        )
        assert puzzle.search_range(provider, salt, self.COMMIT, 0, 5, 0) is None
        assert puzzle.search_range(provider, salt, self.COMMIT, 0, 5, 1) == (5).to_bytes(8, "big")
