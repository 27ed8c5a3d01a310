"""TLS contexts for clients: the peer's name and certificate are always checked."""

from __future__ import annotations

import ssl

from tidegate.app.config import Tls


def client_context(tls: Tls) -> ssl.SSLContext:
    """Return a context that trusts `tls.ca`, or the system's authorities, and shows `tls.cert`.

    Raises OSError (ssl.SSLError is one) if a file can't be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.ca is not None:
        context.load_verify_locations(tls.ca)
    else:
        context.load_default_certs()
    if tls.cert is not None:
        context.load_cert_chain(tls.cert, tls.key)
    return context
