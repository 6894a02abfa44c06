"""Any text is a configuration or a ConfigError that shows all problems and no secret: the judge of the config fuzzers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sidecar.config.describe import render
from sidecar.config.load import load_settings
from sidecar.config.settings import Settings
from sidecar.errors import ConfigError

__all__ = ["HUSHED", "SECRET_ENV", "load_any", "secret_folder"]

HUSHED = "hushhush"
SECRET_ENV = {
    "WEBHOOK_SIDECAR_ADMIN_TOKEN": HUSHED,
    "ORDERS_SECRET": HUSHED,
    "INTERNAL_TOKEN": HUSHED,
    "ORDERS_HANDSHAKE_TOKEN": HUSHED,
}


def secret_folder(folder: Path) -> Path:
    """Put the secret file that the example names into a folder."""
    (folder / "secrets").mkdir()
    (folder / "secrets" / "orders-old").write_text(HUSHED + "\n")
    return folder


def load_any(
    folder: Path, text: str | bytes, env: Mapping[str, str], *, offline: bool, written_secret: bool = True
) -> Settings | None:
    """Load a text as the configuration; None when it was refused.

    Args:
        folder: Where to write it; with a ``secret_folder`` in it.
        text: The text.
        env: The environment.
        offline: As for ``load_settings``.
        written_secret: The example's own secret stands in the text nowhere but where secrets stand.

    Raises:
        AssertionError: A secret is shown, or a refusal says nothing or something that no terminal should get.
    """
    path = folder / "config.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "replace"))
    refused: ConfigError | None = None
    found: Settings | None = None
    try:
        found = load_settings(str(path), env=env, offline=offline)
    except ConfigError as error:
        refused = error
    if found is not None:
        assert HUSHED not in repr(found) + render(found.config, found.origins)
    if refused is not None:
        assert refused.problems
        shown = str(refused) + "".join(refused.problems)
        assert HUSHED not in shown
        assert not written_secret or "change-me" not in shown
        assert all(part.isprintable() for line in refused.problems for part in line.split("\n"))
    return found
