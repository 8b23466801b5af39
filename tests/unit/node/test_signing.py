"""Signing whatever queued, and believing what verifies."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from pqdht.crypto.api import SigningKey
from pqdht.errors import BadSignature, DecodeError
from pqdht.node import signing
from pqdht.node.signing import MessageSigner, MessageVerifier
from pqdht.testing.fake import FakeProvider
from pqdht.testing.loop import VirtualLoop, run
from tests.unit.node.parts import environment


class SlowProvider(FakeProvider):
    """One whose signatures are made in a thread."""

    inline = False


@pytest.mark.parametrize("provider", [FakeProvider(1), SlowProvider(1)])
def test_what_queued_together_is_signed_together(provider: FakeProvider) -> None:
    async def main() -> None:
        env, _ = await environment(provider=provider)
        signer, verifier = MessageSigner(env), MessageVerifier(env)
        proofs: dict[bytes, bytes] = {}
        messages = [b"m%d" % i for i in range(20)]
        for m in messages:
            signer.sign(m, lambda proof, m=m: proofs.__setitem__(m, proof))  # type: ignore[misc]
        assert proofs == {}  # never from inside the call
        await asyncio.sleep(0.01)
        assert list(proofs) == messages
        assert (env.counters["signatures_made"], env.counters["messages_signed"]) == (1, 20)
        me, key = env.identity.node_id, env.identity.signing.public
        for m in messages:
            verifier.verify(proofs[m], m, me, key)
        assert env.counters["signatures_of_others_verified"] == 20
        with pytest.raises(BadSignature):
            verifier.verify(proofs[b"m1"], b"m2", me, key)
        with pytest.raises(BadSignature):
            verifier.verify(proofs[b"m1"][:-1] + b"\x01", b"m1", b"\x01" * 32, key)
        with pytest.raises(DecodeError):
            verifier.verify(b"", b"m1", me, key)
        with pytest.raises(DecodeError):
            verifier.verify(proofs[b"m1"], b"m1", me, key[:-1])

    run(main)


def test_a_callback_may_sign_again_and_a_failing_one_stops_nobody() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        env, _ = await environment()
        signer = MessageSigner(env)
        done: list[bytes] = []

        def fail(proof: bytes) -> None:
            raise ValueError("too long")

        signer.sign(b"1", fail)
        signer.sign(b"2", lambda _: signer.sign(b"3", done.append))
        await asyncio.sleep(0.01)
        assert len(done) == 1
        signer.sign(b"4", done.append)
        await asyncio.sleep(0.01)
        assert len(done) == 2
        assert [type(c["exception"]) for c in loop.unhandled] == [ValueError]
        loop.unhandled.clear()

    run(main)


class FailingKey:
    """A signing key that cannot, `times` times (a device that is away)."""

    def __init__(self, key: SigningKey, times: int) -> None:
        self.public, self.seed = key.public, key.seed
        self._key, self._times = key, times

    def sign(self, message: bytes, ctx: bytes) -> bytes:
        if self._times:
            self._times -= 1
            raise OSError("no signature now")
        return self._key.sign(message, ctx)


@pytest.mark.parametrize("provider", [FakeProvider(1), SlowProvider(1)], ids=["inline", "thread"])
def test_a_failing_signature_costs_its_own_messages_and_no_later_ones(provider: FakeProvider) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        env, _ = await environment(provider=provider)
        env.identity = replace(env.identity, signing=FailingKey(env.identity.signing, 1))
        signer = MessageSigner(env)
        done: list[bytes] = []
        for i in range(1025):  # the last is of another tree than those that fail, and waits behind them
            signer.sign(b"%d" % i, done.append)
        await asyncio.sleep(0.01)
        assert len(done) == 1
        assert [type(c["exception"]) for c in loop.unhandled] == [OSError]
        loop.unhandled.clear()
        signer.sign(b"later", done.append)
        await asyncio.sleep(0.01)
        assert len(done) == 2
        assert signer._waiting == {}

    run(main)


def test_the_key_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        env, _ = await environment()
        monkeypatch.setattr(signing, "KEY_CACHE", 2)
        signer, verifier = MessageSigner(env), MessageVerifier(env)
        proofs: list[bytes] = []
        signer.sign(b"m", proofs.append)
        await asyncio.sleep(0.01)
        for _ in range(5):
            with pytest.raises(BadSignature):
                verifier.verify(proofs[0], b"m", bytes(32), env.suite.node_signer.generate().public)
        assert len(verifier._keys) == 2
        verifier.verify(proofs[0], b"m", env.identity.node_id, env.identity.signing.public)

    run(main)
