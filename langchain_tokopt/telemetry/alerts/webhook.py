"""Alerts told to a web address, by a thread of their own: a server that hangs keeps nobody waiting."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import logging
import math
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.telemetry.alerts.posting import Posting
from langchain_tokopt.telemetry.alerts.words import Notice

if TYPE_CHECKING:
    import httpx

log = logging.getLogger("langchain_tokopt")

_AGAIN: Final = frozenset({408, 425, 429})  # and all of 500 and above
_FIRST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 60.0
_AT_EXIT_SECONDS: Final = 3.0


class Webhook:
    """Posts each notice as JSON: `text` for chat services, `change` ("raised", "reminded", "cleared") and `alert`.

    `tell` only queues it. A post that fails, or that the server answers with 408, 425, 429 or 5xx, is tried again after
    1, 2, 4 ... seconds, or when the server says (`Retry-After`), a minute at most. Redirects are not followed. Logs
    name the host and nothing else of the address, since the rest of it often is a secret.

    With a `secret`, `X-TokOpt-Signature` is `signature(secret, timestamp, body)` with the header `X-TokOpt-Timestamp`.
    `X-TokOpt-Delivery` is the same each time that one notice is tried.

    Args:
        url: An https address; http only for this machine, unless `allow_http`.
        secret: What posts are signed with (HMAC-SHA256); `None` for no signature.
        allow_http: Send to another machine in the clear, too.
        proxy: The proxy to go through, such as "http://proxy.example:3128"; variables of the environment do not count.
        timeout_seconds: For each of connecting, sending and waiting for the answer.
        tries: How often a notice is tried.
        max_queue: How many notices wait at most; then the oldest is dropped, and logged.
        clock: Unix time in seconds, for the timestamp.
        pause: Waits so many seconds before the next try.

    Raises:
        ConfigurationError: A setting cannot work.
    """

    def __init__(
        self,
        url: str,
        *,
        secret: str | bytes | None = None,
        allow_http: bool = False,
        proxy: str | None = None,
        timeout_seconds: float = 5.0,
        tries: int = 4,
        max_queue: int = 100,
        clock: Callable[[], float] = time.time,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        self.host = _host(url, allow_http=allow_http)
        if secret is not None and (not isinstance(secret, (str, bytes)) or not secret):
            raise ConfigurationError("secret", "...", "give a text or bytes that are not empty, or None")
        if isinstance(timeout_seconds, bool) or not isinstance(timeout_seconds, (int, float)):
            raise ConfigurationError("timeout_seconds", timeout_seconds, "give a number of seconds above 0")
        if not 0 < timeout_seconds < math.inf:
            raise ConfigurationError("timeout_seconds", timeout_seconds, "give a number of seconds above 0")
        for name, number in (("tries", tries), ("max_queue", max_queue)):
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise ConfigurationError(name, number, "give a whole number, 1 or more")
        key = secret.encode() if isinstance(secret, str) else secret
        sender = _Sender(url, self.host, key, _proxy(proxy), float(timeout_seconds), tries, clock)
        self._post = Posting(host=self.host, send=sender.send, max_queue=max_queue, pause=pause)
        # Also when the interpreter ends: an alert is often about what ends it.
        self._finalizer = weakref.finalize(self, self._post.close, _AT_EXIT_SECONDS)

    def __repr__(self) -> str:
        return f"Webhook({self.host!r})"

    def tell(self, notice: Notice) -> None:
        """Queue a notice. Never waits."""
        self._post.put(notice)

    @property
    def dropped(self) -> int:
        """How many notices could not be told."""
        return self._post.dropped

    def flush(self, timeout_seconds: float = 10.0) -> bool:
        """Wait until all that is queued was sent or given up; whether that was so in time."""
        return self._post.settle(timeout_seconds)

    def close(self) -> None:
        """Send what is queued, for some seconds at most, and stop. What is told afterwards is dropped."""
        self._finalizer()


def signature(secret: str | bytes, timestamp: str, body: bytes) -> str:
    """What `X-TokOpt-Signature` has to be: "sha256=" and the HMAC of timestamp, a dot, and the body, in hexadecimal.

    A receiver computes it, compares with `hmac.compare_digest`, and refuses timestamps that are old.
    """
    key = secret.encode() if isinstance(secret, str) else secret
    return f"sha256={hmac.new(key, timestamp.encode() + b'.' + body, hashlib.sha256).hexdigest()}"


class _Sender:
    """Makes one post, as often as it is worth it."""

    def __init__(
        self,
        url: str,
        host: str,
        secret: bytes | None,
        proxy: httpx.Proxy | None,
        timeout_seconds: float,
        tries: int,
        clock: Callable[[], float],
    ) -> None:
        self._url = url
        self.host = host
        self._secret = secret
        self._proxy = proxy
        self._timeout = timeout_seconds
        self._tries = tries
        self._clock = clock

    def send(self, notice: Notice, pause: Callable[[float], object]) -> bool:
        """Whether the notice was taken. `pause` waits; what it returns tells, if true, that there is no more time."""
        body = json.dumps(notice.as_json(), default=str).encode()
        delivery = hashlib.sha256(body).hexdigest()[:32]
        said = ""
        for attempt in range(self._tries):
            wait = min(_FIRST_PAUSE_SECONDS * 2**attempt, _LONGEST_PAUSE_SECONDS)
            try:
                status, asked = self._once(body, delivery)
            except Exception as error:
                said = type(error).__name__  # its text may name the address
            else:
                if 200 <= status < 300:
                    return True
                said = f"HTTP {status}"
                if status < 500 and status not in _AGAIN:
                    break
                wait = min(asked, _LONGEST_PAUSE_SECONDS) if asked is not None else wait
            if attempt + 1 < self._tries and pause(wait):
                break
        log.warning("the webhook at %s did not take alert %s: %s", self.host, notice.alert.id[:8], said)
        return False

    def _once(self, body: bytes, delivery: str) -> tuple[int, float | None]:
        """The status of the answer, and how long the server wants to be left alone."""
        import httpx

        stamp = str(int(self._clock()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "langchain-tokopt",
            "X-TokOpt-Timestamp": stamp,
            "X-TokOpt-Delivery": delivery,
        }
        if self._secret is not None:
            headers["X-TokOpt-Signature"] = signature(self._secret, stamp, body)
        timeout = dict.fromkeys(("connect", "read", "write", "pool"), self._timeout)
        request = httpx.Request("POST", self._url, content=body, headers=headers, extensions={"timeout": timeout})
        # Without httpx's client, which would write the whole address into the log, and follow what it finds in .netrc.
        with httpx.HTTPTransport(proxy=self._proxy) as transport:
            response = transport.handle_request(request)
            try:
                return response.status_code, _seconds(response.headers.get("Retry-After"))
            finally:
                response.close()


# --- what is given ---------------------------------------------------------------------------------------------------


def _host(url: object, *, allow_http: bool) -> str:
    """The host of an address that may be used. No error shows more of the address than that."""
    import httpx

    remedy = 'give an address such as "https://hooks.example.com/..."'
    if not isinstance(url, str) or not url.isprintable():
        raise ConfigurationError("url", "..." if isinstance(url, str) else url, remedy)
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        raise ConfigurationError("url", "...", f"it is not an address; {remedy}") from None
    host = parsed.host
    if parsed.scheme not in ("https", "http") or not host:
        raise ConfigurationError("url", f"{parsed.scheme}://...", remedy)
    if parsed.userinfo:
        raise ConfigurationError("url", f"{parsed.scheme}://...@{host}", "leave out user and password: use secret=")
    if parsed.scheme == "http" and not allow_http and not _is_here(host):
        remedy = "use https, or allow_http=True to send alerts in the clear"
        raise ConfigurationError("url", f"http://{host}/...", remedy)
    return host


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _proxy(url: str | None) -> httpx.Proxy | None:
    if url is None:
        return None
    import httpx

    try:
        return httpx.Proxy(url)
    except (httpx.InvalidURL, ValueError, TypeError, AttributeError):
        # Not shown: it may hold a password.
        raise ConfigurationError("proxy", "...", 'give an address such as "http://proxy.example:3128"') from None


def _seconds(header: Any) -> float | None:
    """`Retry-After` in seconds; its other form, a date, is not worth reading here."""
    try:
        found = float(header)
    except (TypeError, ValueError):
        return None
    return found if 0 <= found < math.inf else None
