"""Every table of docs/protocol.md says what the code does, no more and no less."""

from __future__ import annotations

import re
from dataclasses import fields
from hashlib import sha3_256
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import inspect as types

from pqdht import constants, peer_record
from pqdht.channel import hello
from pqdht.channel.framing import (
    FRAME_OVERHEAD,
    HEADER,
    MAC_SIZE,
    MAX_PADDING,
    NONCE_SIZE,
    FrameKey,
    Kind,
    stream,
)
from pqdht.channel.noise import PQ_IK, PQ_XX, CipherState, message_sizes
from pqdht.channel.renewal import Step
from pqdht.channel.session import FrameKind, Session
from pqdht.constants import Limits, ParameterSet, parameter_set
from pqdht.crypto import batch, labels
from pqdht.crypto.api import SUITES, Kem, Provider, Signer, make_suite
from pqdht.crypto.labels import FIRST_FLIGHT_MASK, MESSAGE, tagged_hash
from pqdht.crypto.providers import get_provider
from pqdht.envelope import signed_bytes
from pqdht.errors import WireCode
from pqdht.identity import stake
from pqdht.node.tolls import CLASSES, COSTS, SHARES, Work
from pqdht.records import record
from pqdht.trust.evidence import EvidenceRule
from pqdht.wire import contact, messages
from pqdht.wire.codec import Struct
from pqdht.wire.messages import ANSWERS, EARLY_TYPES, Envelope, MessageType, is_known
from tests.docs.markdown import DOCS, ROOT, tables
from tests.unit.kad import quorum_cases
from tests.unit.wire import sizes

TABLES = tables(DOCS / "protocol.md")
BY_FIELDS: dict[str, type[Struct]] = {
    kind.__name__: kind
    for module in (contact, messages, record, hello, peer_record)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Struct) and kind.__module__ == module.__name__
}
PRIVATE = ["_Head"]  # a second view of Tbs


def rows(name: str) -> list[list[str]]:
    return TABLES[f"check: {name}"]


def column(name: str, *indices: int) -> list[tuple[str, ...]]:
    return [tuple(row[i] for i in indices) for row in rows(name)]


def openssl() -> Provider:
    return get_provider("openssl")


def test_every_table_is_checked() -> None:
    checked = re.findall(r'(?:rows|column|cut)\("([a-z ]+)"', Path(__file__).read_text())
    assert set(checked) == {t.removeprefix("check: ") for t in TABLES if t.startswith("check: ")}


# --- networks, suites, labels --------------------------------------------------------------------


def test_networks() -> None:
    def row(p: ParameterSet) -> list[str]:
        assert len(p.puzzle_schedule) == 1, "the table needs a column for the schedule now"
        flags = ["yes" if flag else "no" for flag in (p.address_groups, p.private_addresses)]
        return [p.name, p.genesis_salt.hex(), str(p.k), str(p.puzzle_schedule[0][1]), *flags]

    assert rows("networks") == [row(parameter_set(n)) for n in ("main", "testnet", "demo")]


def test_network_tags() -> None:
    for name, suite, tag in column("network tags", 0, 1, 2):
        p = parameter_set(name)
        assert labels.network_tag(p.name, p.genesis_salt, int(suite)).hex() == tag
        again = labels.NETWORK_TAG + name.encode() + p.genesis_salt + bytes([int(suite)])
        assert sha3_256(again).hexdigest() == tag


def test_suites() -> None:
    made = [make_suite(n, openssl()) for n in SUITES]
    expected = [(str(s.number), s.node_signer.name, s.owner_signer.name, s.kem.name) for s in made]
    assert column("suites", 0, 1, 2, 3) == expected


def test_algorithms() -> None:
    found: dict[str, Signer | Kem] = {}
    for number in SUITES:
        suite = make_suite(number, openssl())
        found |= {a.name: a for a in (suite.node_signer, suite.owner_signer, suite.kem)}
    assert {name for (name,) in column("algorithms", 0)} == set(found)
    for name, *numbers in column("algorithms", 0, 1, 2, 3):
        a = found[name]
        output = getattr(a, "signature_size", None) or getattr(a, "ciphertext_size", None)
        assert [a.seed_size, a.public_size, output] == [int(n) for n in numbers], name


def test_labels() -> None:
    written = {name: text.encode().replace(b"\\0", b"\0") for name, text in column("labels", 0, 1)}
    assert written == labels.all_labels()


# --- structures ----------------------------------------------------------------------------------


def test_every_structure_has_its_fields_in_the_document() -> None:
    expected = {n for n, kind in BY_FIELDS.items() if n not in PRIVATE and msgspec.structs.fields(kind)}
    assert {t.removeprefix("fields: ") for t in TABLES if t.startswith("fields: ")} == expected


@pytest.mark.parametrize("name", [t.removeprefix("fields: ") for t in TABLES if t.startswith("fields: ")])
def test_fields(name: str) -> None:
    info = types.type_info(BY_FIELDS[name])
    assert isinstance(info, types.StructType)
    assert info.array_like
    expected = [[str(i), f.name, describe(f.type)] for i, f in enumerate(info.fields)]
    assert [row[:3] for row in TABLES[f"fields: {name}"]] == expected


INTEGERS = {(0, 0xFF): "u8", (0, 0xFFFF): "u16", (0, 0xFFFF_FFFF): "u32", (0, 2**63 - 1): "u63"}


def describe(t: types.Type) -> str:
    """A type as the document writes it."""
    match t:
        case types.BytesType(min_length=low, max_length=high):
            return "bytes" + bound(low, high)
        case types.StrType(min_length=low, max_length=high):
            return "text" + bound(low, high)
        case types.BoolType():
            return "bool"
        case types.IntType(ge=int(low), le=int(high)):
            return INTEGERS.get((low, high)) or f"int {low}..2^{high.bit_length() - 1}"
        case types.VarTupleType(item_type=item, min_length=low, max_length=high):
            return f"array{bound(low, high)} of {describe(item)}"
        case types.DictType(key_type=key, value_type=value, min_length=low, max_length=high):
            return f"map{bound(low, high)} of {describe(key)} to {describe(value)}"
        case types.StructType(cls=cls):
            return cls.__name__
        case types.UnionType(types=parts, includes_none=True):
            (part,) = (p for p in parts if not isinstance(p, types.NoneType))
            return f"{describe(part)} or nil"
    raise AssertionError(f"no words for {t}")


def bound(low: int | None, high: int | None) -> str:
    if high is None:
        return ""
    return f" {low}" if low == high else f" {low}..{high}" if low else f" ≤ {high}"


def test_sizes() -> None:
    assert column("sizes", 0, 1) == [(name, str(size)) for name, size in sizes.SIZES.items()]


# --- the channel ---------------------------------------------------------------------------------


def test_noise_sizes() -> None:
    kems = {k.name: k for k in (make_suite(n, openssl()).kem for n in SUITES)}
    expected = [
        [pattern.name, name, *map(str, message_sizes(pattern, kem))] + [""] * (4 - len(pattern.messages))
        for pattern in (PQ_IK, PQ_XX)
        for name, kem in kems.items()
    ]
    assert rows("noise sizes") == expected


def test_handshake_frame() -> None:
    message, padding, nonce, secret = b"a Noise message", 7, bytes(range(16)), bytes(32)
    frame = FrameKey(secret).seal(Kind.XX_2, message, padding, nonce)
    plain = stream(tagged_hash(FIRST_FLIGHT_MASK, secret, nonce)).update(frame[NONCE_SIZE:-MAC_SIZE])
    whole = nonce + plain + frame[-MAC_SIZE:]
    n, p = len(message), padding
    parts = cut("handshake frame", whole, {"n": n, "p": p})
    assert parts[:6] == [nonce, bytes([4]), n.to_bytes(2, "big"), p.to_bytes(2, "big"), message, bytes(p)]
    assert len(frame) == FRAME_OVERHEAD + n + p
    assert f"at most {MAX_PADDING}" in rows("handshake frame")[3][2]


def test_session_frame() -> None:
    def cipher() -> CipherState:
        return CipherState(bytes(32))

    session = Session(
        cipher(), cipher(), send_mask=bytes(32), receive_mask=bytes(32), handshake_hash=bytes(32),
        padding="256", opened_at=0,
    )  # fmt: skip
    content = b"an envelope"
    frame = session.send(FrameKind.ENVELOPE, content)
    length = int.from_bytes(stream(bytes(32)).update(frame[:2]), "big")
    plain = cipher().decrypt_with_ad(b"", frame[2:])
    whole = length.to_bytes(2, "big") + plain + frame[-16:]
    parts = cut("session frame", whole, {"n": len(content), "p": len(plain) - HEADER_SIZE - len(content)})
    assert parts[:4] == [length.to_bytes(2, "big"), b"\1", len(content).to_bytes(2, "big"), content]
    assert (length, len(frame)) == (len(frame) - 2, 2 + 256 + 16)


HEADER_SIZE = 3


def test_kinds_of_frames() -> None:
    assert column("frame kinds", 0, 1) == [(str(k.value), k.name) for k in Kind]
    assert column("session kinds", 0, 1) == [(str(k.value), k.name) for k in FrameKind]
    assert HEADER.size == 5


def test_renewal_steps() -> None:
    sizes = [1 + n for n in message_sizes(PQ_IK, make_suite(1, openssl()).kem)] + [1]
    assert column("renewal steps", 0, 1) == [(str(s.value), s.name) for s in Step]
    assert column("renewal steps", 4) == [(str(n),) for n in sizes]


def cut(name: str, whole: bytes, variables: dict[str, int]) -> list[bytes]:
    """The parts of `whole` as a table lays them out, which must be all of it, in order and without gap."""
    at, parts = 0, []
    for offset, size, _ in rows(name):
        assert evaluate(offset, variables) == at, f"{name}: a gap before {offset}"
        length = len(whole) - at if size == "rest" else evaluate(size, variables)
        parts.append(whole[at : at + length])
        at += length
    assert at == len(whole)
    return parts


def evaluate(text: str, variables: dict[str, int]) -> int:
    """A sum of products of numbers and variables."""
    return sum(
        _product(variables[f] if f in variables else int(f) for f in term.split(" * "))
        for term in text.split(" + ")
    )


def _product(factors: Any) -> int:
    result = 1
    for factor in factors:
        result *= factor
    return result


# --- messages ------------------------------------------------------------------------------------


def test_signed_bytes() -> None:
    sent_at = 1_790_000_000_000
    e = Envelope(1, 3, b"rpc id 8", b"s" * 32, b"r" * 32, b"q" * 32, sent_at, b"b" * 32, b"body", b"")
    parts = cut("signed bytes", signed_bytes(b"t" * 32, e), {})
    assert parts == [
        MESSAGE, b"t" * 32, b"\1", b"\0\3", b"rpc id 8", b"s" * 32, b"r" * 32, b"q" * 32,
        sent_at.to_bytes(8, "big"), b"b" * 32, sha3_256(b"body").digest(),
    ]  # fmt: skip


def test_batch_proof() -> None:
    class Key:
        seed = public = b""

        def sign(self, message: bytes, ctx: bytes) -> bytes:
            return b"signature"

    drawn = iter([bytes(range(32)) + b"".join(bytes([i]) * 32 for i in range(5))])
    signer = batch.BatchSigner(lambda n: next(drawn))
    for i in range(5):
        signer.submit(b"message %d" % i)
    job = signer.take()
    assert job is not None
    _, proof = job.sign(Key(), b"ctx")[3]
    parts = cut("batch proof", proof, {"depth": 3})
    t = bytes(range(32))
    leaf_2 = tagged_hash(labels.BATCH_LEAF, t, b"\0\0\2", b"\2" * 32, b"message 2")
    assert parts[:4] == [t, b"\0\5", b"\0\3", b"\3" * 32]
    assert parts[4][:32] == leaf_2
    assert parts[5] == b"signature"


def test_messages() -> None:
    def row(t: MessageType) -> list[str]:
        answer, early = ANSWERS[t].name if t in ANSWERS else "", "yes" if t in EARLY_TYPES else ""
        return [str(t.value), t.name, answer, early, "" if is_known(t) else "reserved"]

    assert rows("messages") == [row(t) for t in MessageType]


def test_evidence_rules() -> None:
    assert column("evidence rules", 0, 1) == [(str(r.value), r.name) for r in EvidenceRule]


def test_wire_codes() -> None:
    assert column("wire codes", 0, 1) == [(str(c.value), c.name) for c in WireCode]


def test_wire_codes_that_nobody_sends_are_called_so() -> None:
    sources = [p.read_text() for p in (ROOT / "src").rglob("*.py")]
    for name, meaning in column("wire codes", 1, 2):
        is_used = any(f"WireCode.{name}" in source for source in sources)
        assert is_used == (not meaning.startswith("not used by this version")), name


# --- records -------------------------------------------------------------------------------------


def test_kinds_of_records() -> None:
    assert column("kinds", 0, 1) == [(str(k.value), k.name) for k in record.Kind]
    built = [name for name, state in column("kinds", 1, 4) if state != "reserved"]
    assert built == ["CONTENT", "OWNER", "TOPIC"]


def test_flags() -> None:
    flags = [(int(bit), name) for bit, name in column("flags", 0, 1)]
    assert flags == [(record.TOMBSTONE, "TOMBSTONE"), (record.SEALED, "SEALED")]
    assert sum(bit for bit, _ in flags) == record.KNOWN_FLAGS


# --- limits and costs ----------------------------------------------------------------------------


def test_limits() -> None:
    assert column("limits", 0, 1) == [(f.name, str(f.default)) for f in fields(Limits)]


def test_constants() -> None:
    units = re.compile("(MS|DAY_S|[A-Z]+_MS)")
    public = {n: v for n, v in vars(constants).items() if n.isupper() and isinstance(v, int)}
    expected = [(n, str(v)) for n, v in public.items() if not units.fullmatch(n)]
    assert column("constants", 0, 1) == expected


def test_costs_of_requests() -> None:
    costs = [(MessageType(t).name, str(base), str(per_kib)) for t, (base, per_kib) in COSTS.items()]
    assert column("costs", 0, 1, 2) == costs
    assert column("costs", 3) == [(CLASSES.get(t, Work.READ).value,) for t in COSTS]


def test_shares_of_the_classes() -> None:
    assert column("shares", 0, 1) == [(work.value, str(part)) for work, part in SHARES.items()]


def test_stake() -> None:
    assert column("stake", 0, 1) == [("0", "1"), ("1", "4"), ("5", "8"), ("13", "32")]
    assert sum(int(size) for _, size in column("stake", 0, 1)) == stake.SIZE
    for bits, share, hours in column("stake shares", 0, 1, 2):
        assert share == f"{stake.share(int(bits)):.2f}"
        assert float(hours) == pytest.approx(2 ** int(bits) * RUN_S, rel=0.06)


RUN_S = 133e-6
"""One Argon2id as measured for the document."""


def test_puzzle_costs() -> None:
    main = parameter_set("main")
    (bits,) = (b for _, b in main.puzzle_schedule)
    for text, *cells in rows("puzzle costs"):
        size = int(text.replace(",", ""))
        for s, cell in zip((1, main.k // 2 + 1, main.k), cells, strict=True):
            hours = s * size / (main.k - s + 1) * 2**bits * RUN_S / 3600
            assert float(cell) == pytest.approx(hours, rel=0.06), f"{s} of {main.k} at N = {size}"


def test_quorum_cases() -> None:
    """To bring the document up to date, paste what `quorum_cases.markdown()` returns."""
    lines = quorum_cases.markdown().splitlines()[2:]
    assert rows("quorum cases") == [[c.strip() for c in line.split("|")[1:-1]] for line in lines]
