"""For tests of programs built on pqdht: whole networks in one process, real or simulated.

The cryptography of simulated networks (`FakeProvider`) is INSECURE.
"""

from __future__ import annotations

from .fake import FakeProvider
from .loop import run
from .simnet import SimNetwork
from .testnet import Testnet

__all__ = ["FakeProvider", "SimNetwork", "Testnet", "run"]
