"""An adversary that earns trust first."""

from __future__ import annotations

from ...wire.messages import FindValue, Store, Stored, Values
from .values import Forger


class Sleeper(Forger):
    """Stores and answers as an honest node, for as long as it likes; after `wake` it answers with forged
    versions of every record that its gang was shown, denies all others, and signs receipts for what it
    does not keep."""

    name = "sleeper"
    summary = "behaves until it is trusted, then forges and denies"
    defences = ("invalid_rate", "reports", "quarantine", "reputation")

    is_awake = False

    def wake(self) -> None:
        """Use the trust that was gained."""
        self.is_awake = True

    def on_store(self, body: Store) -> Stored | None:
        return super().on_store(body) if self.is_awake else None

    def on_value(self, asked: FindValue, honest: Values) -> Values:
        return super().on_value(asked, honest) if self.is_awake else honest
