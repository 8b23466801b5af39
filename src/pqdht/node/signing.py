"""Signs what leaves and checks what comes in.

The signer takes whatever queued while it was busy and signs it as one Merkle tree (section 4): no
delay when idle, the cost divided when loaded.  Messages submitted in one turn of the event loop
count as queued together, so a fan-out of twenty questions costs one ML-DSA signature.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..crypto.api import VerifyKey
from ..crypto.batch import BatchSigner, BatchVerifier, Job
from ..crypto.labels import BATCH_ROOT
from .environment import Environment

Done = Callable[[bytes], None]
ROOT_CACHE = 4096
KEY_CACHE = 4096


class MessageSigner:
    """Batch-signs envelopes with the node key, inline where the provider is fast, else in a thread."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._batch = BatchSigner(env.suite.random_bytes)
        self._waiting: dict[int, Done] = {}
        self._scheduled = False

    def sign(self, m: bytes, done: Done) -> None:
        """Call `done(proof)` once m is signed; soon, and never from inside this call."""
        self._waiting[self._batch.submit(m)] = done
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        job = self._batch.take()
        if job is None:
            self._scheduled = False
            return
        key = self._env.identity.signing
        self._env.counters["signatures_made"] += 1
        self._env.counters["messages_signed"] += len(job.messages)
        if self._env.suite.provider.inline:
            try:
                proofs = job.sign(key, BATCH_ROOT)
            except Exception as e:
                self._failed(job, e)
            else:
                self._deliver(job, proofs)
        else:
            loop = asyncio.get_running_loop()
            running = loop.run_in_executor(None, job.sign, key, BATCH_ROOT)
            running.add_done_callback(lambda f: self._finished(job, f))

    def _finished(self, job: Job, signed: asyncio.Future[list[tuple[int, bytes]]]) -> None:
        if signed.cancelled():
            return
        if (error := signed.exception()) is not None:
            self._failed(job, error)
        else:
            self._deliver(job, signed.result())

    def _failed(self, job: Job, error: BaseException) -> None:
        """These messages are not sent (whoever asked times out); later ones are signed all the same."""
        for ticket in job.tickets:
            del self._waiting[ticket]
        self._report("messages could not be signed", error)
        self._flush()

    def _deliver(self, job: Job, proofs: list[tuple[int, bytes]]) -> None:
        for ticket, proof in proofs:
            done = self._waiting.pop(ticket)
            try:
                done(proof)
            except Exception as e:  # one caller's fault must not keep the others from being signed
                self._report("a signed message could not be sent", e)
        self._flush()

    @staticmethod
    def _report(message: str, error: BaseException) -> None:
        asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})


class MessageVerifier:
    """Checks envelope signatures; keeps parsed keys and verified roots, both bounded."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._batch = BatchVerifier(ROOT_CACHE)
        self._keys: dict[bytes, VerifyKey] = {}

    def verify(self, proof: bytes, m: bytes, signer: bytes, public: bytes) -> None:
        """Raises BadSignature or DecodeError.  `signer` is the node id, `public` its signing key."""
        key = self._keys.get(public)
        if key is None:
            if len(self._keys) >= KEY_CACHE:
                del self._keys[next(iter(self._keys))]
            key = self._keys[public] = self._env.suite.node_signer.verify_key(public)
        self._batch.verify(proof, m, signer, key, BATCH_ROOT)
        self._env.counters["signatures_of_others_verified"] += 1
