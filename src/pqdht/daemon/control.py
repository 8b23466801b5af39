"""The control interface of a daemon: newline-delimited JSON over a unix-domain socket.

    -> {"method": "get", "params": {"name": "greeting"}}
    <- {"result": {...}}
    <- {"error": {"type": "NotFound", "message": "...", "exit_code": 12, "fields": {}}}

Whoever may open the socket (mode 0600: the same user, or root) may do whatever the daemon may.
Requests of one connection are answered one after the other; open another connection for more.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec

from ..errors import ConfigError, ControlError, ListenError, PqdhtError
from ..node.dht import SecureDHT
from .failure import describe, restore
from .requests import Request, parse_request

_log = logging.getLogger(__name__)

SOCKET_NAME = "control.sock"
MAX_LINE = 16 * 1024 * 1024
"""Bytes of one request or answer: a list of some 50,000 records."""
MAX_PATH = 100
"""Bytes of a path that go into a socket address everywhere; Linux takes 107, macOS 103."""
HANDLES = Path("/proc/self/fd")
MARGIN_S = 10.0
"""How much longer than its own time limit a request may take before the daemon counts as hung."""


_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for a line that is not what it should be."""


class _Call(msgspec.Struct, forbid_unknown_fields=True):
    method: str
    params: Any = {}


def default_socket(data_dir: Path) -> Path:
    """Where the daemon of a data directory listens."""
    return data_dir / SOCKET_NAME


# --- the daemon's side ---------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def control_server(dht: SecureDHT, path: Path) -> AsyncIterator[None]:
    """Answer requests at `path` until the block ends. Raises ListenError, ConfigError."""
    talks: dict[asyncio.Task[Any], None] = {}

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks[task] = None
        try:
            await _talk(dht, reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the caller left, or we do
        finally:
            del talks[task]
            writer.close()

    with _bound(path) as listener:
        server = await asyncio.start_unix_server(talk, sock=listener, limit=MAX_LINE)
        try:
            yield
        finally:
            server.close()
            for task in list(talks):
                task.cancel()
            if talks:
                await asyncio.wait(list(talks))


async def _talk(dht: SecureDHT, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        try:
            line = await reader.readline()
        except ValueError:
            writer.write(_failed(ConfigError(f"a request has at most {MAX_LINE} bytes", name="request")))
            return
        if not line:
            return
        writer.write(await _answer(dht, line))
        await writer.drain()


async def _answer(dht: SecureDHT, line: bytes) -> bytes:
    try:
        result = await parse_line(line).run(dht)
        return msgspec.json.encode({"result": result}) + b"\n"
    except PqdhtError as e:
        return _failed(e)
    except Exception:
        _log.exception("a control request failed")
        return _failed(ControlError("the daemon failed inside; its log says where: please report it"))


def parse_line(line: bytes) -> Request:
    """The request in one line of a caller. Raises ConfigError."""
    try:
        call = msgspec.json.decode(line, type=_Call)
        return parse_request(call.method, call.params)
    except _UNREADABLE as e:
        raise ConfigError(f"not a request: {e}", name="request") from None


def _failed(error: PqdhtError) -> bytes:
    return msgspec.json.encode({"error": describe(error)}) + b"\n"


@contextlib.contextmanager
def _bound(path: Path) -> Iterator[socket.socket]:
    """A socket only its owner can open: nobody can connect between `bind` and `chmod`, since nobody
    listens yet. A socket left behind by a killed daemon is replaced, one in use is not."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as e:
        raise ConfigError(
            f"{path.parent} cannot be made ({e.strerror}): choose another --data-dir or --control",
            name="control",
        ) from None
    if path.exists() and not path.is_socket():
        raise ListenError(
            f"cannot listen on {path}: a file that is no socket is there; move it away, or give another"
            " --control",
            address=str(path),
            errno=errno.EEXIST,
        )
    if _is_answered(path):
        raise ListenError(
            f"a daemon already answers at {path}: stop it, or give another --data-dir",
            address=str(path),
            errno=errno.EADDRINUSE,
        )
    with _fitting(path) as address, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            if path.is_socket():
                path.unlink()
            listener.bind(address)
            os.chmod(path, 0o600)
        except OSError as e:
            raise ListenError(
                f"cannot listen on {path}: {e.strerror}; give another --control",
                address=str(path),
                errno=e.errno,
            ) from e
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, _fitting(path) as address:
        probe.settimeout(1.0)
        return probe.connect_ex(address) in (0, errno.EAGAIN)


@contextlib.contextmanager
def _fitting(path: Path) -> Iterator[str]:
    """`path` as a socket address, which is short: a longer one goes by a handle on its directory."""
    if len(os.fsencode(path)) <= MAX_PATH:
        yield str(path)
        return
    if len(os.fsencode(path.name)) > MAX_PATH - 32 or not HANDLES.is_dir():
        raise ConfigError(
            f"the control socket's path has over {MAX_PATH} bytes: give a shorter --control ({path})",
            name="control",
        )
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        yield str(HANDLES / str(directory) / path.name)
    finally:
        os.close(directory)


# --- the caller's side -----------------------------------------------------------------------------


class ControlClient:
    """Asks the daemon at `path`.  One connection per call: safe to use concurrently, nothing to close."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def is_answered(self) -> bool:
        """Whether a daemon listens there. Raises ControlError where that cannot be found out."""
        try:
            return self.path.is_socket() and _is_answered(self.path)
        except OSError as e:
            raise ControlError(f"{self.path} cannot be reached: {e.strerror}", path=str(self.path)) from None

    async def call(self, request: Request) -> dict[str, Any]:
        """The result. Raises what the daemon raised, and ControlError where none answers in time."""
        patience_s = request.limit_s + MARGIN_S
        try:
            async with asyncio.timeout(patience_s):
                return await self._call(request)
        except TimeoutError:
            raise ControlError(
                f"the daemon at {self.path} did not answer within {patience_s:.0f} s: it hangs or is"
                " stopped; see its log, or start it anew",
                path=str(self.path),
            ) from None

    async def _call(self, request: Request) -> dict[str, Any]:
        line = msgspec.json.encode({"method": request.method, "params": request}) + b"\n"
        try:
            with _fitting(self.path) as address:
                reader, writer = await asyncio.open_unix_connection(address, limit=MAX_LINE)
        except OSError as e:
            raise ControlError(
                f"no daemon answers at {self.path}: start one with `pqdht run`", path=str(self.path)
            ) from e
        try:
            writer.write(line)
            await writer.drain()
            answer = await reader.readline()
        except (OSError, ValueError) as e:
            raise self._left() from e
        finally:
            writer.close()
        return self._open(answer)

    def _open(self, line: bytes) -> dict[str, Any]:
        try:
            answer = msgspec.json.decode(line, type=dict[str, dict[str, Any]])
        except _UNREADABLE as e:
            raise self._left() from e
        if "error" in answer:
            raise restore(answer["error"])
        if "result" not in answer:
            raise self._left()
        return answer["result"]

    def _left(self) -> ControlError:
        return ControlError(
            f"the daemon at {self.path} ended before it answered; see its log", path=str(self.path)
        )


class LocalCaller:
    """Carries requests out on a node in this process."""

    def __init__(self, dht: SecureDHT) -> None:
        self.dht = dht

    async def call(self, request: Request) -> dict[str, Any]:
        """The result. Raises PqdhtError."""
        return await request.run(self.dht)
