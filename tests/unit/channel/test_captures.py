"""Conversations recorded in earlier versions still decode, and still mean what they meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pqdht.channel.framing import Kind
from pqdht.channel.handshake import Handshake
from pqdht.channel.renewal import Step
from pqdht.channel.session import FrameKind
from pqdht.constants import PROTOCOL_VERSION
from pqdht.errors import HandshakeFailed, RemoteError, SessionFailed
from pqdht.wire.messages import MessageType, is_known
from tests.vectors.captures import make
from tests.vectors.captures.replay import Replay, covers, load, params, plain

FILES = sorted(Path(make.__file__).parent.glob("v*/*.json"))
ALL = {f"{p.parent.name}/{p.stem}": p for p in FILES}
each = pytest.mark.parametrize("name", ALL)


def capture(name: str) -> dict[str, Any]:
    return load(ALL[name].read_bytes())


@each
def test_a_capture_decodes_and_means_the_same(name: str) -> None:
    """Every byte is read with the reader's private keys, written again alike, and signatures hold."""
    recorded = capture(name)
    told = Replay(recorded).run()
    assert len(told) == len(recorded["wire"]) > 5
    for piece, now in zip(recorded["wire"], told, strict=True):
        assert covers(piece["means"], now), piece["means"]["kind"]


@each
def test_the_first_message_of_each_direction_is_bound_to_the_handshake(name: str) -> None:
    """By the h before its payload where it was answered early, else by the final one."""
    replay = Replay(capture(name))
    told = list(zip((w["from"] for w in replay.capture["wire"]), replay.run(), strict=True))
    early = {side: t for side, t in told if "payload" in t and t["payload"]["early"] is not None}
    assert all(t["payload"]["early"]["binding"] == t["binding"] for t in early.values())
    assert ("responder" in early) == (not name.endswith("need_key_fake"))
    for side in ("initiator", "responder"):
        bindings = [t["content"]["binding"] for s, t in told if s == side and t["kind"] == "ENVELOPE"]
        first = bytes(32) if "responder" in early else replay.final_hash
        assert bindings == [first.hex(), *[bytes(32).hex()] * (len(bindings) - 1)]
        assert len(bindings) > 1


@each
def test_todays_responder_reads_the_first_flight(name: str) -> None:
    """The production code in the responder's seat, not the replay's."""
    recorded = capture(name)
    responder = Handshake.respond(params(recorded, "responder"), observed="", now=recorded["now"])
    first = recorded["wire"][0]
    message = responder.receive(bytes.fromhex(first["bytes"]), recorded["now"])
    assert message is not None
    assert message.binding.hex() == first["means"]["binding"]
    if recorded["pattern"] == "pqIK":
        initiator = params(recorded, "initiator").identity
        assert responder.peer is not None
        assert responder.peer.node_id == initiator.node_id
        assert message.code == (12 if name.endswith("need_key_fake") else 0)
        assert (message.early is None) == name.endswith("need_key_fake")
    else:
        assert responder.peer is None


def test_captures_of_this_version_cover_the_format() -> None:
    told = [w["means"] for n in ALL if n.startswith(f"v{PROTOCOL_VERSION}/") for w in capture(n)["wire"]]
    kinds = {t["kind"] for t in told}
    assert kinds >= {k.name for k in Kind if k <= Kind.XX_4} | {k.name for k in FrameKind}
    assert {t["content"] for t in told if t["kind"] == "RENEW"} == {s.name for s in Step}
    for provider in ("fake", "real"):
        numbers = {
            w["means"]["content"]["type"]
            for name in (f"v1/ik_{provider}", f"v1/ik_reports_{provider}")
            for w in capture(name)["wire"]
            if w["means"]["kind"] == "ENVELOPE"
        }
        assert numbers == {int(t) for t in MessageType if is_known(t)}
    held = [w["means"]["payload"] for w in capture("v1/ik_held_keys_fake")["wire"][:2]]
    assert [p["hello"]["signing_key"] for p in held] == [None, None]
    assert [p["holds_key"] for p in held] == [True, False]


@pytest.mark.parametrize("piece", range(6))
def test_a_changed_byte_does_not_replay(piece: int) -> None:
    """That a replay passes says something."""
    recorded = capture("v1/ik_fake")
    raw = bytearray.fromhex(recorded["wire"][piece]["bytes"])
    raw[len(raw) // 2] ^= 1
    recorded["wire"][piece]["bytes"] = raw.hex()
    with pytest.raises((HandshakeFailed, SessionFailed, RemoteError)):
        Replay(recorded).run()


def test_what_was_said_may_grow_but_not_change() -> None:
    then = {"a": "1", "list": [{"b": 2}]}
    assert covers(then, {"a": "1", "list": [{"b": 2, "appended": 3}], "appended": None})
    for now in ({"a": "1"}, {"a": "2", "list": [{"b": 2}]}, {"a": "1", "list": []}, {"a": "1", "list": [{}]}):
        assert not covers(then, now)
    assert plain(b"x" * 64) == "78" * 64
    assert plain(b"x" * 65).endswith(":65")


def test_the_maker_repeats_itself_and_never_overwrites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(make, "SCENES", {"xx_fake": make.SCENES["xx_fake"]})
    first, second = tmp_path / "one", tmp_path / "two"
    for target in (first, second):
        assert make.main([str(target)]) == 0
    made = (first / "xx_fake.json").read_bytes()
    assert (second / "xx_fake.json").read_bytes() == made
    (first / "xx_fake.json").write_bytes(b"of an older version")
    assert make.main([str(first)]) == 0
    assert (first / "xx_fake.json").read_bytes() == b"of an older version"
    assert "kept as it is" in capsys.readouterr().out
