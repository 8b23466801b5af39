"""Key files: whole or not there, private, never overwritten unasked, and every refusal says what to do."""

from __future__ import annotations

import errno
import json
import os
import resource
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pqdht.constants import TESTNET
from pqdht.crypto.api import Provider, make_suite
from pqdht.crypto.labels import network_tag
from pqdht.errors import KeyFileError
from pqdht.identity.keys import NodeIdentity, OwnerIdentity, UnsolvedIdentity, new_commit
from pqdht.storage.keyfiles import (
    MAX_FILE,
    load_node,
    load_owner,
    load_puzzle,
    save_node,
    save_owner,
    save_puzzle,
    set_aside,
)
from pqdht.testing.fake import fake_suite

SUITE = fake_suite(1)
TAG = network_tag(TESTNET.name, TESTNET.genesis_salt, 1)
BORN = 20_000
UNSOLVED = new_commit(SUITE, TAG, BORN)
NODE = UNSOLVED.solved(bytes(8))
OWNER = OwnerIdentity.generate(SUITE)

Load = Callable[[Path], object]
FILES: list[tuple[Callable[[Path], None], Load]] = [
    (lambda p: save_node(p, NODE), lambda p: load_node(p, SUITE, TAG)),
    (lambda p: save_owner(p, OWNER), lambda p: load_owner(p, SUITE)),
    (lambda p: save_puzzle(p, UNSOLVED, 77), lambda p: load_puzzle(p, SUITE, TAG, BORN)),
]
each = pytest.mark.parametrize(("save", "load"), FILES, ids=["node", "owner", "puzzle"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.key"


def fault(call: Callable[..., object], *args: Any, **fields: Any) -> str:
    """The message of the KeyFileError, which names the file and shows no seed."""
    with pytest.raises(KeyFileError) as refusal:
        call(*args, **fields)
    message = str(refusal.value)
    assert refusal.value.fields["path"] in message
    assert refusal.value.exit_code == 3
    for seed in (NODE.signing.seed, NODE.kem.seed, OWNER.signing.seed):
        assert seed.hex() not in message
    return message


def edit(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process may grow beyond 64 bytes: the kernel refuses the write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# --- what is saved -----------------------------------------------------------------------------


def test_what_is_saved_is_loaded(path: Path, tmp_path: Path) -> None:
    save_node(path, NODE)
    loaded: NodeIdentity = load_node(path, SUITE, TAG)
    assert loaded == NODE
    assert (loaded.signing.seed, loaded.kem.seed) == (NODE.signing.seed, NODE.kem.seed)
    save_owner(tmp_path / "owner.key", OWNER)
    assert load_owner(tmp_path / "owner.key", SUITE) == OWNER


@each
def test_a_file_is_private_and_alone(path: Path, save: Callable[[Path], None], load: Load) -> None:
    before = os.umask(0)
    try:
        save(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == [path.name]
    assert path.stat().st_nlink == 1


@each
def test_a_file_is_versioned_text_with_room_for_a_passphrase(
    path: Path, save: Callable[[Path], None], load: Load
) -> None:
    save(path)
    fields = json.loads(path.read_text())
    assert fields["version"] == 1
    assert fields["format"].startswith("pqdht ")
    assert fields["passphrase"] is None


def test_a_key_made_with_one_provider_loads_with_the_other(
    path: Path, tmp_path: Path, provider: Provider
) -> None:
    from pqdht.crypto.providers import get_provider

    made, suite = make_suite(1, get_provider("openssl")), make_suite(1, provider)
    node, owner = new_commit(made, TAG, BORN).solved(bytes(8)), OwnerIdentity.generate(made)
    save_node(path, node)
    save_owner(tmp_path / "owner.key", owner)
    assert load_node(path, suite, TAG) == node
    assert load_owner(tmp_path / "owner.key", suite) == owner


# --- writing -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "save", [lambda p, **f: save_node(p, NODE, **f), lambda p, **f: save_owner(p, OWNER, **f)]
)
def test_nothing_is_overwritten_unless_asked(path: Path, save: Callable[..., None]) -> None:
    path.write_text("precious")
    assert "exists already" in fault(save, path)
    assert path.read_text() == "precious"
    assert os.listdir(path.parent) == [path.name]
    save(path, replace=True)
    assert json.loads(path.read_text())["version"] == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_is_overwritten_where_hard_links_do_not_exist(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)  # as on FAT
    save_owner(path, OWNER)
    assert load_owner(path, SUITE) == OWNER
    assert "exists already" in fault(save_owner, path, OwnerIdentity.generate(SUITE))
    assert load_owner(path, SUITE) == OWNER
    assert set_aside(path).name == "some.key.1"
    assert os.listdir(path.parent) == ["some.key.1"]


def test_a_dangling_link_is_not_written_through(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")
    assert "exists already" in fault(save_owner, path, OWNER)
    assert not (tmp_path / "elsewhere").exists()


@each
def test_a_full_disk_leaves_nothing_behind(path: Path, save: Callable[[Path], None], load: Load) -> None:
    with full_disk():
        assert "free some space" in fault(save, path)
    assert os.listdir(path.parent) == []


def test_a_full_disk_leaves_the_old_file_as_it_was(path: Path) -> None:
    save_owner(path, OWNER)
    with full_disk():
        fault(save_owner, path, OwnerIdentity.generate(SUITE), replace=True)
    assert load_owner(path, SUITE) == OWNER
    assert os.listdir(path.parent) == [path.name]


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    assert f"make the directory {tmp_path / 'no'}" in fault(save_owner, tmp_path / "no" / "x.key", OWNER)


def test_a_file_where_a_directory_should_be(path: Path) -> None:
    path.write_text("")
    assert "cannot be written" in fault(save_owner, path / "x.key", OWNER)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_write_access(path: Path) -> None:
    path.parent.chmod(0o500)
    try:
        assert "write access" in fault(save_owner, path, OWNER)
    finally:
        path.parent.chmod(0o700)


# --- reading -----------------------------------------------------------------------------------


@pytest.mark.parametrize("load", [FILES[0][1], FILES[1][1]])
def test_a_missing_file_says_how_to_make_one(path: Path, load: Load) -> None:
    assert "pqdht keygen" in fault(load, path)


@each
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o610, 0o777])
def test_a_file_open_to_others_is_refused(
    path: Path, save: Callable[[Path], None], load: Load, mode: int
) -> None:
    save(path)
    path.chmod(mode)
    assert f"chmod 600 {path}" in fault(load, path)


@each
def test_a_link_is_judged_by_the_file_it_leads_to(
    path: Path, tmp_path: Path, save: Callable[[Path], None], load: Load
) -> None:
    save(path)
    link = tmp_path / "link"
    link.symlink_to(path)
    assert load(link) == load(path)
    path.chmod(0o644)
    assert "chmod 600" in fault(load, link)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file(path: Path) -> None:
    save_owner(path, OWNER)
    path.chmod(0)
    assert "may not be read" in fault(load_owner, path, SUITE)


@each
def test_what_is_no_file_is_refused_at_once(path: Path, save: object, load: Load) -> None:
    path.mkdir()
    assert str(path) in fault(load, path)
    path.rmdir()
    os.mkfifo(path, 0o600)
    assert "not a file" in fault(load, path)


@each
def test_a_cut_file_is_damaged(path: Path, save: Callable[[Path], None], load: Load) -> None:
    save(path)
    data = path.read_bytes().rstrip()
    for end in range(0, len(data), 7):
        path.write_bytes(data[:end])
        assert "is damaged" in fault(load, path)


DEEP = b'{"passphrase":' + b"[" * 20_000
"""More brackets than Python's stack takes."""


@each
@pytest.mark.parametrize(
    "junk", [b"", b"\0" * 100, b"\xff\xfe", b"[]", b"null", b"{" * 5000, b" " * (MAX_FILE + 1), DEEP]
)
def test_junk_is_damaged(path: Path, save: object, load: Load, junk: bytes) -> None:
    path.write_bytes(junk)
    path.chmod(0o600)
    assert "is damaged" in fault(load, path)


@each
def test_unknown_fields_versions_formats_and_passphrases(
    path: Path, save: Callable[[Path], None], load: Load
) -> None:
    for change, said in (
        ({"version": 2}, "has version 2"),
        ({"version": 2, "more": 1}, "has version 2"),
        ({"format": "pqdht something"}, "not a 'pqdht "),
        ({"passphrase": {"kdf": "argon2id"}}, "passphrase"),
        ({"more": 1}, "is damaged"),
        ({"version": "1"}, "is damaged"),
        ({"signing_seed": "!"}, "is damaged"),
        ({"signing_seed": "AAAA"}, "is damaged"),
    ):
        save_to = path.with_name("fresh")
        save_to.unlink(missing_ok=True)
        save(save_to)
        edit(save_to, **change)
        assert said in fault(load, save_to)


def test_each_kind_of_file_is_told_from_the_others(path: Path) -> None:
    save_owner(path, OWNER)
    assert "'pqdht owner key' file, not a 'pqdht node key'" in fault(load_node, path, SUITE, TAG)
    assert "not a 'pqdht puzzle search'" in fault(load_puzzle, path, SUITE, TAG, BORN)
    save_node(path, NODE, replace=True)
    assert "not a 'pqdht owner key'" in fault(load_owner, path, SUITE)


def test_a_node_key_of_another_network_or_suite_is_refused(path: Path) -> None:
    save_node(path, NODE)
    assert "another data directory" in fault(load_node, path, SUITE, bytes(32))
    assert "is for suite 1" in fault(load_node, path, fake_suite(2), TAG)


def test_an_owner_key_serves_every_suite_with_its_signature_scheme(path: Path) -> None:
    save_owner(path, OWNER)
    assert load_owner(path, fake_suite(2)).owner_id == OWNER.owner_id
    assert "ML-DSA-65" in fault(load_owner, path, fake_suite(3))


@pytest.mark.parametrize(
    "fields",
    [
        *({"born": BORN + 1}, {"born": -1}, {"born": 2**40}),
        *({"nonce": "AAAAAAAAAAE="}, {"nonce": ""}, {"node_id": "00" * 32}),
    ],
)
def test_a_node_key_that_does_not_give_its_id_is_damaged(path: Path, fields: dict[str, Any]) -> None:
    save_node(path, NODE)
    edit(path, **fields)
    assert "is damaged" in fault(load_node, path, SUITE, TAG)


def test_an_owner_key_that_does_not_give_its_id_is_damaged(path: Path) -> None:
    save_owner(path, OWNER)
    edit(path, owner_id="00" * 32)
    assert "does not give its owner id" in fault(load_owner, path, SUITE)


# --- puzzle searches ---------------------------------------------------------------------------


def test_a_search_goes_on_where_it_stopped(path: Path) -> None:
    assert load_puzzle(path, SUITE, TAG, BORN) == (None, 0)
    save_puzzle(path, UNSOLVED, 77)
    save_puzzle(path, UNSOLVED, 78)
    found, position = load_puzzle(path, SUITE, TAG, BORN)
    assert isinstance(found, UnsolvedIdentity)
    assert (found, position) == (UNSOLVED, 78)
    assert found.solved(bytes(8)) == NODE


def test_a_search_of_another_day_is_left(path: Path) -> None:
    save_puzzle(path, UNSOLVED, 77)
    assert load_puzzle(path, SUITE, TAG, BORN + 1) == (None, 0)


def test_a_search_for_another_network_is_refused(path: Path) -> None:
    save_puzzle(path, UNSOLVED, 77)
    assert "delete it" in fault(load_puzzle, path, SUITE, bytes(32), BORN)
    assert "delete it" in fault(load_puzzle, path, fake_suite(2), TAG, BORN)


@pytest.mark.parametrize("position", [-1, 2**64])
def test_an_impossible_position_is_damage(path: Path, position: int) -> None:
    save_puzzle(path, UNSOLVED, 0)
    edit(path, position=position)
    assert "is damaged" in fault(load_puzzle, path, SUITE, TAG, BORN)


# --- setting aside -----------------------------------------------------------------------------


def test_setting_aside_keeps_every_file(path: Path) -> None:
    kept = []
    for text in ("first", "second", "third"):
        path.write_text(text)
        kept.append(set_aside(path))
        assert not path.exists()
    assert [p.name for p in kept] == ["some.key.1", "some.key.2", "some.key.3"]
    assert [p.read_text() for p in kept] == ["first", "second", "third"]


def test_setting_aside_what_is_not_there(path: Path) -> None:
    assert "cannot be renamed" in fault(set_aside, path)
