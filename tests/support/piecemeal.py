"""The daemon whose reloads fail at the last thing that can: a backend cannot be made, or meets a bug, where its URL says so.

A file ``tls.crt.before`` or ``tls.key.before`` takes its place after the pair was judged and just before it is loaded, one with
``.after`` just after.

Deliberate bugs: ``RELOAD_BUG=pieces`` takes over each part as it comes to it, so a failure leaves half of the new
configuration in force; ``RELOAD_BUG=half`` loads certificate and key into the context that listens.
"""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sidecar.__main__ import main
from sidecar.config.settings import Settings, TlsFiles
from sidecar.daemon import Daemon
from sidecar.daemon import daemon as module
from sidecar.outbound.dispatch import DestinationOptions, Dispatcher

honest_prepare, honest_apply, honest_context = Dispatcher.prepare, Daemon._apply, module.tls_context
loaded: dict[ssl.SSLContext, TlsFiles] = {}


def prepare(self: Dispatcher, destinations: Sequence[DestinationOptions]) -> Any:
    """As where a file that was there when the configuration was judged has gone."""
    if any("/cannot-be-made" in options.http.url for options in destinations):
        raise FileNotFoundError(2, "No such file or directory")
    if any("/meets-a-bug" in options.http.url for options in destinations):
        raise KeyError("a bug")
    return honest_prepare(self, destinations)


def exchange(files: TlsFiles, moment: str) -> None:
    """As where somebody renews them at that moment, one after the other."""
    for file in (Path(files.cert), Path(files.key)):
        fresh = file.with_name(f"{file.name}.{moment}")
        if fresh.exists():
            fresh.rename(file)


def tls_context(files: TlsFiles) -> ssl.SSLContext:
    exchange(files, "before")
    context = honest_context(files)
    exchange(files, "after")
    loaded[context] = files
    return context


def answer_half(listening: ssl.SSLContext, fresh: ssl.SSLContext) -> None:
    listening.load_cert_chain(loaded[fresh].cert, loaded[fresh].key)


async def apply_pieces(self: Daemon, new: Settings) -> None:
    self.receiver.configure(new.sources, new.server.trusted_proxies)
    await honest_apply(self, new)


Dispatcher.prepare = prepare
module.tls_context = tls_context
match os.environ.get("RELOAD_BUG"):
    case "pieces":
        Daemon._apply = apply_pieces
    case "half":
        module.answer_with = answer_half
if __name__ == "__main__":
    sys.exit(main())
