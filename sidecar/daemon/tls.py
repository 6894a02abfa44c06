"""TLS on the webhook listener itself."""

from __future__ import annotations

import contextlib
import ssl

from sidecar.config.settings import TlsFiles

__all__ = ["answer_with", "tls_context"]


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


def answer_with(listening: ssl.SSLContext, fresh: ssl.SSLContext) -> None:
    """Let new connections of a listener get the certificate of another context; nothing in it can fail.

    Loading new files into the context that listens could leave it with a certificate and a key that are no pair.
    """

    def choose(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        del name, context
        connection.context = fresh

    listening.sni_callback = choose
