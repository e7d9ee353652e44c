"""Who may ask: the Host header against DNS rebinding, the Origin against foreign web pages, the token.

A page of another site can make a browser send requests to this machine: by a name of its own that it lets point here (its
name is then in Host), or across origins (its address is then in Origin). Both are refused. Not covered: users, rates, TLS.
"""

import hmac
import ipaddress
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from tui.server import faults
from tui.server.faults import Refused

OPEN_PATHS = ("/healthz",)
"""Asked without a token, by whatever watches over the process; it tells nothing."""


HEAD_BYTES = 32 * 1024
"""Of a request's path and headers together; h11 itself bounds only a head that comes in pieces."""


class Hosts:
    """Lets requests pass whose Host is an address, this machine's own name or one of `names`, and whose Origin is named."""

    def __init__(self, app: ASGIApp, names: Sequence[str], origins: Sequence[str]) -> None:
        self._app = app
        self._names = {name.lower() for name in names} | {"localhost"}
        self._origins = {origin.rstrip("/").lower() for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 403, or 431 to a huge head."""
        if scope["type"] == "http" and (fault := _too_much(scope) or self._fault(Headers(scope=scope))):
            await faults.response(fault, scope["path"])(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _fault(self, headers: Headers) -> Refused | None:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or not self._is_here(hosts[0]):
            return Refused("this Host is not served here", "name it in server.hosts", status=403)
        if any(origin.lower() not in self._origins for origin in origins):
            return Refused("web pages of this Origin may not ask", "name it in server.origins", status=403)
        return None

    def _is_here(self, host: str) -> bool:
        name = host.lower()
        name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
        if name.rstrip(".") in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True  # an address is no name that could be pointed elsewhere


class Token:
    """Lets requests pass that bring the token as a bearer token; CORS preflights are answered before."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 401."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS and not self._known(Headers(scope=scope)):
            fault = Refused("a token is needed", "send it as: Authorization: Bearer TOKEN", status=401, code="invalid_api_key")
            await faults.response(fault, scope["path"])(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _known(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._token)


def _too_much(scope: Scope) -> Refused | None:
    size = len(scope["raw_path"]) + len(scope["query_string"]) + sum(len(name) + len(value) for name, value in scope["headers"])
    return Refused(f"the headers have more than {HEAD_BYTES} bytes", status=431) if size > HEAD_BYTES else None
