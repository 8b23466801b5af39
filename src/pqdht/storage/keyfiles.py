"""Key files: the seeds of the node and of owners, and a puzzle search to go on with (section 8).

JSON, one file per identity, mode 0600.  A file is complete or not there: it is written beside its
place, synced and put there in one step, and an existing one is never overwritten unless asked.
Whatever goes wrong is a `KeyFileError` that names the file and the remedy.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec

from ..crypto.api import Suite
from ..errors import KeyFileError
from ..identity.keys import NodeIdentity, OwnerIdentity, UnsolvedIdentity
from .directories import sync_directory

VERSION = 1
MAX_FILE = 64 * 1024
"""Bytes read at most: a key file has under 1 KiB."""

_NODE = "pqdht node key"
_OWNER = "pqdht owner key"
_PUZZLE = "pqdht puzzle search"


class _Head(msgspec.Struct, kw_only=True):
    """What every version starts with. `passphrase` is reserved: null until files can be encrypted."""

    format: str
    version: int
    passphrase: Any = None


class _NodeFile(_Head, kw_only=True, forbid_unknown_fields=True):
    network_tag: str
    suite: int
    node_id: str
    born: int
    nonce: bytes
    signing_seed: bytes
    kem_seed: bytes


class _OwnerFile(_Head, kw_only=True, forbid_unknown_fields=True):
    algorithm: str
    owner_id: str
    signing_seed: bytes


class _PuzzleFile(_Head, kw_only=True, forbid_unknown_fields=True):
    network_tag: str
    suite: int
    born: int
    signing_seed: bytes
    kem_seed: bytes
    position: int


_File = TypeVar("_File", bound=_Head)


def save_node(path: Path, identity: NodeIdentity, *, replace: bool = False) -> None:
    """Write a node's key file."""
    file = _NodeFile(
        format=_NODE,
        version=VERSION,
        network_tag=identity.network_tag.hex(),
        suite=identity.suite.number,
        node_id=identity.node_id.hex(),
        born=identity.born,
        nonce=identity.nonce,
        signing_seed=identity.signing.seed,
        kem_seed=identity.kem.seed,
    )
    _write(path, file, replace)


def load_node(path: Path, suite: Suite, network_tag: bytes) -> NodeIdentity:
    """Read a node's key file and recompute its id (one Argon2id run); `born` is for the caller to judge."""
    file = _read(path, _NODE, _NodeFile)
    if (file.suite, file.network_tag) != (suite.number, network_tag.hex()):
        _fail(
            path,
            f"is for suite {file.suite} of the network with tag {file.network_tag[:16]}...: "
            "give that network and suite, or another data directory",
            suite=file.suite,
            network_tag=file.network_tag,
        )
    try:
        identity = NodeIdentity.assemble(
            suite, network_tag, file.signing_seed, file.kem_seed, file.born, file.nonce
        )
    except (ValueError, OverflowError) as e:
        _damaged(path, e)
    if identity.node_id.hex() != file.node_id:
        _damaged(path, "its keys do not give its node id")
    return identity


def save_owner(path: Path, identity: OwnerIdentity, *, replace: bool = False) -> None:
    """Write an owner's key file.  An owner belongs to no network; its key to one signature scheme."""
    file = _OwnerFile(
        format=_OWNER,
        version=VERSION,
        algorithm=identity.suite.owner_signer.name,
        owner_id=identity.owner_id.hex(),
        signing_seed=identity.signing.seed,
    )
    _write(path, file, replace)


def load_owner(path: Path, suite: Suite) -> OwnerIdentity:
    """Read an owner's key file and recompute its id."""
    file = _read(path, _OWNER, _OwnerFile)
    if file.algorithm != suite.owner_signer.name:
        _fail(
            path,
            f"holds a key of {file.algorithm}, suite {suite.number} signs values with "
            f"{suite.owner_signer.name}: use another suite or another owner",
            algorithm=file.algorithm,
        )
    try:
        identity = OwnerIdentity.from_seed(suite, file.signing_seed)
    except ValueError as e:
        _damaged(path, e)
    if identity.owner_id.hex() != file.owner_id:
        _damaged(path, "its key does not give its owner id")
    return identity


def save_puzzle(path: Path, unsolved: UnsolvedIdentity, position: int) -> None:
    """Note how far a puzzle search came: nonces below `position` were tried.  Replaces the last note."""
    file = _PuzzleFile(
        format=_PUZZLE,
        version=VERSION,
        network_tag=unsolved.network_tag.hex(),
        suite=unsolved.suite.number,
        born=unsolved.born,
        signing_seed=unsolved.signing.seed,
        kem_seed=unsolved.kem.seed,
        position=position,
    )
    _write(path, file, replace=True)


def load_puzzle(
    path: Path, suite: Suite, network_tag: bytes, born: int
) -> tuple[UnsolvedIdentity | None, int]:
    """(identity to go on with, first nonce to try); (None, 0) where there is nothing to go on with.

    A search for another `born` day is left: the id would expire earlier, and a search has no memory,
    so that starting anew costs nothing.
    """
    if not path.exists():
        return None, 0
    file = _read(path, _PUZZLE, _PuzzleFile)
    if (file.suite, file.network_tag) != (suite.number, network_tag.hex()):
        _fail(path, "is a puzzle search for another network or suite: delete it to start anew")
    if file.born != born:
        return None, 0
    if not 0 <= file.position < 1 << 64:
        _damaged(path, f"position {file.position}")
    try:
        unsolved = UnsolvedIdentity.from_seeds(
            suite, network_tag, file.signing_seed, file.kem_seed, file.born
        )
    except ValueError as e:
        _damaged(path, e)
    return unsolved, file.position


def set_aside(path: Path) -> Path:
    """Rename a file that has had its day to the first free `<name>.1`, `.2`, ...; returns where it is."""
    number = 1
    while True:
        target = path.with_name(f"{path.name}.{number}")
        try:
            _put_in_place(path, target, replace=False)
            path.unlink(missing_ok=True)
            sync_directory(path.parent)
        except FileExistsError:
            number += 1
        except OSError as e:
            _fail(path, f"cannot be renamed ({e.strerror}): give this user write access to {path.parent}")
        else:
            return target


# --- reading -----------------------------------------------------------------------------------


def _read(path: Path, wanted: str, kind: type[_File]) -> _File:
    data = _read_bytes(path)
    try:
        head = msgspec.json.decode(data, type=_Head)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        _damaged(path, e)
    if head.format != wanted:
        _fail(path, f"is a {head.format!r} file, not a {wanted!r} file: give the right file")
    if head.version != VERSION:
        _fail(path, f"has version {head.version}, this pqdht reads {VERSION}: upgrade pqdht")
    if head.passphrase is not None:
        _fail(path, "is protected by a passphrase, which this pqdht cannot ask for: upgrade pqdht")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        _damaged(path, e)


def _read_bytes(path: Path) -> bytes:
    try:
        # Not blocking: a FIFO in the file's place must not hang us. The mode is that of what was opened.
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        with open(fd, "rb") as file:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                _fail(path, "is not a file: give the key file itself")
            if os.name == "posix" and found.st_mode & 0o077:
                mode = stat.S_IMODE(found.st_mode)
                _fail(path, f"is open to others (mode {mode:04o}): run chmod 600 {path}", mode=mode)
            data = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        _fail(path, "does not exist: make a key with `pqdht keygen`, or give the right path")
    except PermissionError:
        _fail(path, "may not be read by this user: run as its owner, or give it to this user with chown")
    except OSError as e:
        _fail(path, f"cannot be read: {e.strerror}")
    if len(data) > MAX_FILE:
        _damaged(path, f"over {MAX_FILE} bytes")
    return data


# --- writing -----------------------------------------------------------------------------------


def _write(path: Path, file: _Head, replace: bool) -> None:
    data = msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n"
    try:
        temporary = _write_beside(path, data)
        try:
            _put_in_place(temporary, path, replace)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()
        sync_directory(path.parent)
    except FileExistsError:
        _fail(path, "exists already and is kept: choose another path, or move it away first")
    except FileNotFoundError:
        _fail(path, f"cannot be written: make the directory {path.parent} first")
    except PermissionError:
        _fail(path, f"cannot be written: give this user write access to {path.parent}")
    except OSError as e:
        full = e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = "free some space and try again" if full else "nothing was changed"
        _fail(path, f"cannot be written ({e.strerror}): {remedy}", full=full)


def _write_beside(path: Path, data: bytes) -> Path:
    """A synced file with `data` in the same directory, mode 0600; nothing is left behind on failure."""
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with open(fd, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(fd)
    except OSError:
        os.unlink(name)
        raise
    return Path(name)


def _put_in_place(temporary: Path, path: Path, replace: bool) -> None:
    if replace:
        temporary.replace(path)
        return
    try:
        os.link(temporary, path)  # unlike rename, atomically refuses to overwrite
    except FileExistsError:
        raise
    except OSError:
        # No hard links on this file system (FAT, some network mounts).
        if path.exists():
            raise FileExistsError(path) from None
        temporary.rename(path)


def _damaged(path: Path, why: object) -> NoReturn:
    _fail(path, f"is damaged ({why}): restore it from a backup, or move it away and make a new one")


def _fail(path: Path, what: str, **fields: Any) -> NoReturn:
    raise KeyFileError(f"{path} {what}", path=str(path), **fields) from None
