"""TLS on the webhook listener itself."""

from __future__ import annotations

import contextlib
import ssl

from sidecar.config.settings import TlsFiles

__all__ = ["tls_context"]


def tls_context(files: TlsFiles) -> ssl.SSLContext:
    """Make the listener's context.

    Raises:
        OSError: A file cannot be read, or is no certificate or key (``ssl.SSLError``).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    with contextlib.suppress(AttributeError):
        context.options |= ssl.OP_NO_RENEGOTIATION
    context.load_cert_chain(files.cert, files.key)
    return context
