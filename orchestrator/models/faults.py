"""What went wrong with a call, in the house's own words: one class of error for each way to answer it.

Three doors: an HTTP status, a transport that broke, an exception of the openai or LiteLLM package. Messages are cut
short and stripped of the key that was sent, because they end in the ledger.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import orjson

from orchestrator.errors import (
    AuthRefused,
    BadAnswer,
    CallTimedOut,
    ConnectionLost,
    ContextOverflow,
    ModelError,
    RateLimited,
    RequestRefused,
    ServerFailed,
)

if TYPE_CHECKING:
    import aiohttp

_GATEWAY_GAVE_UP = frozenset({504, 524})
_MESSAGE_CHARS = 300
_SECRET_CHARS = 6  # a shorter one is a placeholder, and would blot out words
_OVERFLOW = (
    "maximum context length", "context_length_exceeded", "context window", "prompt is too long",
    "contextwindowexceeded", "exceed context limit", "input is too long", "exceeds the maximum number of tokens",
)


def from_status(
    status: int, headers: Mapping[str, str], body: bytes | str | object, endpoint: str, *, secrets: Sequence[str] = ()
) -> ModelError:
    """The error for a reply that is not 2xx."""
    message = _message(body, secrets)
    text = f"{endpoint} answered {status}: {message}"
    if status == 429:
        if "insufficient_quota" in message:
            return RequestRefused(text, endpoint=endpoint, hint="the account's quota is spent: waiting won't help")
        return RateLimited(text, retry_after_s=retry_after(headers), endpoint=endpoint)
    if status in (401, 403):
        return AuthRefused(text, endpoint=endpoint)
    if status in _GATEWAY_GAVE_UP:
        return CallTimedOut(text, endpoint=endpoint, hint="a gateway gave up: the provider may bill the call")
    if status in (408, 409) or status >= 500:
        return ServerFailed(text, endpoint=endpoint)
    if status in (400, 413, 422) and is_overflow(message):
        return ContextOverflow(text, endpoint=endpoint)
    if 300 <= status < 400:
        return RequestRefused(text, endpoint=endpoint, hint="redirects are not followed: name the final address")
    return RequestRefused(text, endpoint=endpoint)


def from_transport(
    error: BaseException, endpoint: str, *, outer: BaseException | None = None
) -> ModelError | None:
    """The error for a time-out or a connection that broke; None where `error` is of another kind.

    The openai package and its aiohttp transport wrap the true cause, and call some lost connections time-outs: so the
    innermost of aiohttp's own errors decides. `outer` is what was being handled when the call began: no cause of it.
    """
    import aiohttp

    causes = list(_causes(error, outer))
    for cause in reversed(causes):
        if isinstance(cause, ModelError):
            return cause
        if isinstance(cause, aiohttp.ClientError):
            return _from_aiohttp(cause, endpoint)
    for cause in reversed(causes):
        if isinstance(cause, TimeoutError):
            return CallTimedOut(f"{endpoint} gave no complete answer in time", endpoint=endpoint)
        if isinstance(cause, ConnectionError):
            return ConnectionLost(f"{endpoint} closed the connection: {cause}", endpoint=endpoint)
    return None


def _from_aiohttp(error: aiohttp.ClientError, endpoint: str) -> ModelError:
    import aiohttp

    detail = str(error) or type(error).__name__
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return CallTimedOut(f"{endpoint} took no connection in time", endpoint=endpoint, sent=False)
    if isinstance(error, TimeoutError):
        return CallTimedOut(f"{endpoint} gave no complete answer in time", endpoint=endpoint)
    if isinstance(error, aiohttp.InvalidURL):
        return RequestRefused(f"{endpoint!r} is no address: {detail}", endpoint=endpoint, sent=False)
    if isinstance(error, aiohttp.ClientConnectorError):
        return ConnectionLost(f"{endpoint} can't be connected to: {detail}", endpoint=endpoint, sent=False)
    return ConnectionLost(f"{endpoint} closed the connection: {detail}", endpoint=endpoint)


def from_sdk(
    error: Exception, endpoint: str, *, secrets: Sequence[str] = (), outer: BaseException | None = None
) -> ModelError:
    """The error for any exception of the openai or LiteLLM package, or of the HTTP libraries beneath them.

    Read by status and by the names of its classes, since LiteLLM's own share no base and must not be imported here.
    """
    if isinstance(error, ModelError):
        return error
    names = {cls.__name__ for cls in type(error).__mro__}
    body: Any = getattr(error, "body", None)
    message = _message(body, secrets) if isinstance(body, dict) else _clean(str(error) or type(error).__name__, secrets)
    text = f"{endpoint}: {message}"
    if "ContextWindowExceededError" in names or (names & _REFUSED and is_overflow(message)):
        return ContextOverflow(text, endpoint=endpoint)
    if (broken := _broken(error, names, text, endpoint, outer)) is not None:
        return broken
    status = getattr(error, "status_code", None) or (body.get("code") if isinstance(body, dict) else None)
    if isinstance(status, int) and status >= 300 and not names & _OWN_MEANING:
        return from_status(status, _headers(error, outer), message, endpoint, secrets=secrets)
    if names & _AUTH:
        return AuthRefused(text, endpoint=endpoint)
    if "RateLimitError" in names:
        return RateLimited(text, retry_after_s=retry_after(_headers(error, outer)), endpoint=endpoint)
    if names & _REFUSED:
        return RequestRefused(text, endpoint=endpoint)
    if names & _FAILED:
        return ServerFailed(text, endpoint=endpoint)
    return BadAnswer(text, endpoint=endpoint)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from `retry-after-ms` or `Retry-After` (a number or an HTTP date); None where neither is sane."""
    named = {key.lower(): value for key, value in headers.items() if key.lower().startswith("retry-after")}
    for key, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(named[key]) * scale
        except (KeyError, ValueError):
            continue
        if 0.0 <= seconds < float("inf"):
            return seconds
    try:
        return max(0.0, parsedate_to_datetime(named["retry-after"]).timestamp() - time.time())
    except (KeyError, ValueError, OverflowError):
        return None


def is_overflow(message: str) -> bool:
    lowered = message.lower()
    return any(mark in lowered for mark in _OVERFLOW)


_AUTH = frozenset({"AuthenticationError", "PermissionDeniedError", "OAuthError", "SubjectTokenProviderError"})
_REFUSED = frozenset({
    "BadRequestError", "NotFoundError", "UnprocessableEntityError", "UnsupportedParamsError", "BudgetExceededError",
    "ModelNotMappedError", "GuardrailRaisedException", "BlockedPiiEntityError", "ModifyResponseException",
    "SensitiveDataRouteException", "UnsupportedProtocol", "InvalidURL",
})
_FAILED = frozenset({
    "InternalServerError", "ServiceUnavailableError", "BadGatewayError", "ConflictError", "APIStatusError",
})
_OWN_MEANING = frozenset({"APIResponseValidationError", "MidStreamFallbackError"})
_TIMED_OUT = frozenset({"APITimeoutError", "TimeoutException", "Timeout", "TimeoutError"})
_UNREADABLE = (json.JSONDecodeError, KeyError, TypeError, AttributeError, IndexError)
"""What the packages stumble over in a reply that is not the protocol, and wrap as a lost connection or a 500."""
_LOST = frozenset({
    "APIConnectionError", "TransportError", "MidStreamFallbackError", "WebSocketConnectionClosedError",
    "WebSocketQueueFullError",
})


def _broken(
    error: Exception, names: set[str], text: str, endpoint: str, outer: BaseException | None
) -> ModelError | None:
    """A time-out or a lost connection, told by its innermost cause where there is one, by its class otherwise."""
    if (found := from_transport(error, endpoint, outer=outer)) is not None:
        return found
    if names & _TIMED_OUT:
        return CallTimedOut(text, endpoint=endpoint, sent="ConnectTimeout" not in names)
    if any(isinstance(cause, _UNREADABLE) for cause in _causes(error, outer)):
        return BadAnswer(text, endpoint=endpoint)
    if names & _LOST and "UnsupportedProtocol" not in names:
        refused = any(type(cause).__name__ in ("ConnectError", "gaierror") for cause in _causes(error, outer))
        return ConnectionLost(text, endpoint=endpoint, sent=not refused)
    return None


def _causes(error: BaseException, outer: BaseException | None) -> Iterator[BaseException]:
    """`error` and what led to it, explicit or not: LiteLLM raises its errors while handling the true ones."""
    seen = {id(outer)}
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _headers(error: Exception, outer: BaseException | None) -> Mapping[str, str]:
    """The reply's headers; LiteLLM keeps them on the exception it wraps, or under a name of its own."""
    for cause in _causes(error, outer):
        response = getattr(cause, "response", None)
        for found in (
            getattr(response, "headers", None), getattr(cause, "litellm_response_headers", None),
            getattr(cause, "headers", None),
        ):
            if isinstance(found, Mapping) and any(str(key).lower().startswith("retry-after") for key in found):
                return found
    return {}


def _message(body: bytes | str | object, secrets: Sequence[str]) -> str:
    found: Any = body
    if isinstance(body, bytes | str):
        try:
            found = orjson.loads(body)
        except orjson.JSONDecodeError:
            found = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    inner = found.get("error", found) if isinstance(found, dict) else found
    if isinstance(inner, dict):
        parts = [str(inner[key]) for key in ("code", "message") if isinstance(inner.get(key), str)]
        inner = ": ".join(parts) or orjson.dumps(inner, default=str).decode()
    return _clean(str(inner), secrets)


def _clean(message: str, secrets: Sequence[str]) -> str:
    """One line, at most 300 characters, without a stack trace and without the keys that were sent."""
    for secret in secrets:
        if len(secret) >= _SECRET_CHARS:
            message = message.replace(secret, "***")
    line = " ".join(message.partition("Traceback (most recent call last)")[0].split())
    return line if len(line) <= _MESSAGE_CHARS else f"{line[:_MESSAGE_CHARS]}…"
