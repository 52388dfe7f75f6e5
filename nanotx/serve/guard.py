"""Whom the server answers: programs and pages of this machine.

A page from elsewhere can make a browser send requests here, also under a name of its own that it lets point to
127.0.0.1 (DNS rebinding). Such a request has a foreign `Host` or a foreign `Origin`, and is refused.
"""

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nanotx.serve.errors import ApiError

LOCAL = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
"""Names of this machine; any port, because a tunnel may have another one at its other end."""

POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
"""Content-Security-Policy of a response that is no page."""

HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
    "content-security-policy": POLICY,
}
"""Headers of every response that does not set them itself."""


class Guard:
    """Refuses requests with a foreign `Host` or `Origin`, and sets the security headers of each response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if refusal := foreign(Headers(scope=scope)):
            await refusal.response()(scope, receive, guarded)
            return
        await self.app(scope, receive, guarded)


def foreign(headers: Headers) -> ApiError | None:
    """Return the refusal of a request that comes from elsewhere."""
    hosts, origins = headers.getlist("host"), headers.getlist("origin")
    if len(hosts) != 1 or not LOCAL.fullmatch(hosts[0]):
        return ApiError(403, "Host: expected 127.0.0.1 or localhost; this server answers its own machine only.")
    if origins and origins != [f"http://{hosts[0]}"]:
        return ApiError(403, "Origin: expected the page of this server; pages from elsewhere are refused.")
    return None
