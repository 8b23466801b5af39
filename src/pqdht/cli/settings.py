"""The options every command takes, and what follows from them: a `Config` and somebody to ask."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import os
import typing
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from ..config import DEFENCES, Config, DefenceMode
from ..daemon.control import ControlClient, LocalCaller, default_socket
from ..daemon.requests import Caller, Request, Status
from ..errors import ConfigError, ControlError, StorageError
from ..node.dht import SecureDHT
from ..node.identities import NODE_FILE, OWNER_FILE
from ..storage.directories import make_directory
from .output import progress, reporting

JOIN_TIMEOUT_S = 10.0
"""How long a short-lived node tries to reach the network."""


def default_data_dir() -> Path:
    """Per user, by the XDG base directory specification."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "pqdht"


def defences(given: Iterable[str]) -> dict[str, DefenceMode] | None:
    """`NAME=MODE`, or `MODE` for all, a later one over an earlier; None where nothing is said.

    Raises ConfigError for what is neither; names and modes are for `Config` to check.
    """
    modes: dict[str, Any] = {}
    for text in given:
        name, equals, mode = text.partition("=")
        if equals:
            modes[name] = mode
        elif text in typing.get_args(DefenceMode):
            modes |= dict.fromkeys(DEFENCES, text)
        else:
            listed = ", ".join(typing.get_args(DefenceMode))
            raise ConfigError(
                f"--defence takes NAME=MODE or one of {listed}, got {text!r:.80}", name="defence"
            )
    return modes or None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The common options; each field is one, and the environment variable beside it its default."""

    data_dir: Annotated[
        Path,
        typer.Option(
            envvar="PQDHT_DATA_DIR",
            help="Keys, records and remembered peers.",
            show_default="~/.local/share/pqdht",
            default_factory=default_data_dir,
        ),
    ]
    network: Annotated[
        str | None,
        typer.Option(
            envvar="PQDHT_NETWORK", help="main, testnet or demo; networks never mix.", show_default="main"
        ),
    ] = None
    suite: Annotated[
        int | None,
        typer.Option(envvar="PQDHT_SUITE", help="Cryptographic suite, 1 to 3.", show_default="1"),
    ] = None
    provider: Annotated[
        str, typer.Option(envvar="PQDHT_PROVIDER", help="Who computes: auto, openssl or liboqs.")
    ] = "auto"
    bootstrap: Annotated[
        list[str] | None,
        typer.Option(
            envvar="PQDHT_BOOTSTRAP",
            metavar="ENTRY",
            help="<node id>@tcp/host:port, as `pqdht id` prints it; may be repeated.",
        ),
    ] = None
    control: Annotated[
        Path | None,
        typer.Option(envvar="PQDHT_CONTROL", help="Control socket.", show_default="<data-dir>/control.sock"),
    ] = None
    defence: Annotated[
        list[str] | None,
        typer.Option(
            envvar="PQDHT_DEFENCE",
            metavar="NAME=MODE",
            help="Mode of one defence (enforce, observe, off), or MODE for all; may be repeated.",
        ),
    ] = None
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False

    def config(self, **more: Any) -> Config:
        """These settings as a node's. Raises ConfigError."""
        given: dict[str, Any] = {
            "provider": self.provider,
            "data_dir": self.data_dir,
            "bootstrap": tuple(self.bootstrap or ()),
            "defences": defences(self.defence or ()),
        }
        chosen = {"network": self.network, "suite": self.suite}
        given |= {name: value for name, value in chosen.items() if value is not None}
        return Config(**(given | more))

    @property
    def socket(self) -> Path:
        """Where the daemon of this data directory is asked."""
        return self.control if self.control is not None else default_socket(self.data_dir)

    @property
    def has_keys(self) -> bool:
        """Whether `keygen` (or `run`) has been here. Raises StorageError."""
        try:
            return all((self.data_dir / name).exists() for name in (NODE_FILE, OWNER_FILE))
        except OSError as e:
            raise self._unusable("read", e) from None

    def make_data_dir(self) -> None:
        """Raises StorageError where it cannot be."""
        try:
            make_directory(self.data_dir)
        except OSError as e:
            raise self._unusable("made", e) from None

    def _unusable(self, what: str, e: OSError) -> StorageError:
        return StorageError(
            f"{self.data_dir} cannot be {what} ({e.strerror}): choose another --data-dir",
            path=str(self.data_dir),
        )

    async def check_same(self, client: ControlClient) -> None:
        """Raises ConfigError where the daemon runs in another network or suite, or with other modes of its
        defences, than was asked for."""
        if self.network is None and self.suite is None and not self.defence:
            return
        status = await client.call(Status())
        for name, asked in (("network", self.network), ("suite", self.suite)):
            if asked is not None and asked != status[name]:
                raise ConfigError(
                    f"the daemon of {self.data_dir} runs with {name} {status[name]}, not {asked}: leave"
                    f" --{name} (or PQDHT_{name.upper()}) out, or give another --data-dir",
                    name=name,
                )
        modes = {**DEFENCES, **status.get("defences", {})}
        asked_modes = defences(self.defence or ()) or {}
        Config(defences=asked_modes)  # refuses unknown names and modes
        for name, mode in asked_modes.items():
            if modes[name] != mode:
                raise ConfigError(
                    f"the daemon of {self.data_dir} runs with {name}={modes[name]}, not {mode}: modes are"
                    " given to `pqdht run`; leave --defence (or PQDHT_DEFENCE) out here",
                    name="defence",
                )


@contextlib.asynccontextmanager
async def _somebody_to_ask(settings: Settings, request: Request) -> AsyncIterator[Caller]:
    """The running daemon of this data directory, else a node of our own that lives for this command.

    Such a node accepts no connections.  Without keys in the data directory it is nobody in
    particular, which is enough to read; a request that signs needs the owner's key.
    """
    client = ControlClient(settings.socket)
    if client.is_answered():
        await settings.check_same(client)
        yield client
        return
    if not settings.bootstrap or settings.control is not None or request.of_daemon:
        raise _nobody(settings, request)
    if request.signs and not settings.has_keys:
        raise ConfigError(
            f"{settings.data_dir} holds no keys to sign with: run `pqdht keygen` first", name="data_dir"
        )
    data_dir = settings.data_dir if settings.has_keys else None
    dht = SecureDHT(settings.config(listen=(), data_dir=data_dir))
    async with contextlib.AsyncExitStack() as stack:
        async with progress("joining the network"):
            await stack.enter_async_context(dht)
            await dht.bootstrapped(JOIN_TIMEOUT_S)
        yield LocalCaller(dht)


def _nobody(settings: Settings, request: Request) -> ControlError:
    path = settings.socket
    if path.exists() and not path.is_socket():
        return ControlError(f"{path} is no control socket: give another --control", path=str(path))
    if settings.control is not None:
        return ControlError(f"no daemon answers at {path}: start `pqdht run` first", path=str(path))
    other = "" if request.of_daemon else ", or give --bootstrap <node id>@tcp/host:port"
    return ControlError(f"no daemon runs for {settings.data_dir}: start `pqdht run`{other}", path=str(path))


def ask(settings: Settings, request: Request, what: str) -> dict[str, Any]:
    """Carry a request out, showing `what` is being done where it takes long.  Raises PqdhtError."""

    async def run() -> dict[str, Any]:
        async with _somebody_to_ask(settings, request) as somebody:
            slow = (
                f"waiting for the daemon at {somebody.path}" if isinstance(somebody, ControlClient) else what
            )
            async with progress(what, slow):
                return await somebody.call(request)

    return asyncio.run(run())


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the common options, gathered in its `settings` argument, and report its errors."""
    hints = typing.get_type_hints(Settings, include_extras=True)
    common = [
        inspect.Parameter(
            f.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if f.default is MISSING else f.default,
            annotation=hints[f.name],
        )
        for f in fields(Settings)
    ]
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "settings"]

    @functools.wraps(command)
    def wrapper(**given: Any) -> None:
        settings = Settings(**{p.name: given.pop(p.name) for p in common})
        with reporting(json=settings.json, debug=settings.debug):
            command(settings=settings, **given)

    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + common
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapper
