"""The `pqdht` command: what it consists of."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from . import identity, peers, run, testnet, trust, values

app = typer.Typer(
    name="pqdht",
    help="A post-quantum secure DHT for peer discovery.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _show_version(value: bool) -> None:
    if value:
        print(f"pqdht {version('pqdht')}")
        raise typer.Exit


@app.callback()
def _root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


for module in (identity, run, values, peers, trust, testnet):
    module.register(app)


def main() -> None:
    """Entry point of the `pqdht` script and of `python -m pqdht`."""
    app(prog_name="pqdht")
