"""Read the body of a request: JSON of a bounded size, and its fields with checked types."""

import asyncio
import json
from collections.abc import Collection, Mapping
from typing import Any

from starlette.requests import ClientDisconnect, Request

from nanotx.errors import did_you_mean
from nanotx.serve.errors import ApiError

MOST_BYTES = 1 << 20
"""Largest body in bytes."""

BODY_SECONDS = 10.0
"""Longest time that a body may take to arrive."""


async def read_table(request: Request) -> dict[str, Any]:
    """Return the table in the body of a request.

    Raises:
        ApiError: it is no table in JSON, too large, or too slow.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, f"content-type: expected application/json, got {kind[:80]!r}.")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await read_body(request)
    except TimeoutError:
        raise ApiError(408, f"The body did not arrive within {BODY_SECONDS:g} seconds.", headers=CLOSE) from None
    except ClientDisconnect:
        raise ApiError(400, "The client has gone.") from None
    try:
        table = json.loads(body, parse_constant=no_number)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"The body is not JSON: {error!s:.200}.") from None
    if not isinstance(table, dict):
        raise ApiError(400, f"The body: expected an object, got {type(table).__name__}.")
    return table


CLOSE = {"connection": "close"}
"""Header of a refusal before the body was read."""


async def read_body(request: Request) -> bytes:
    """Return the body, of which no more than the limit is held.

    Raises:
        ApiError: it is too large.
    """
    refusal = ApiError(413, f"The body: expected at most {MOST_BYTES:,} bytes.", headers=CLOSE)
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length[:20]) > MOST_BYTES:
        raise refusal
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise refusal
    return bytes(body)


def no_number(word: str) -> float:
    """Raise ValueError for NaN and infinities, which strict JSON does not have."""
    raise ValueError(f"{word} is not a number of JSON")


class Fields:
    """The fields of a request; each is taken with its type.

    Args:
        table: the request.
        known: the names of all fields.

    Raises:
        ApiError: there is a field that is not known.
    """

    def __init__(self, table: Mapping[str, Any], known: Collection[str]) -> None:
        self.table = table
        for name in table.keys() - set(known):
            raise ApiError(
                400,
                f"{name[:80]}: no such field is supported.{did_you_mean(name[:80], known)} "
                f"Known: {', '.join(sorted(known))}.",
                param=name[:80],
                code="unsupported_parameter",
            )

    def take(self, name: str, kind: type | tuple[type, ...], default: Any, wanted: str) -> Any:
        """Return a field; null and a missing one are the default.

        Raises:
            ApiError: its value has another type; says what was wanted.
        """
        value = self.table.get(name)
        if value is None:
            return default
        if (isinstance(value, bool) and kind is not bool) or not isinstance(value, kind):
            raise ApiError(400, f"{name}: expected {wanted}, got {json.dumps(value)[:80]}.", param=name)
        return value

    def text(self, name: str, default: str = "") -> str:
        """Return a text."""
        return str(self.take(name, str, default, "a text"))

    def flag(self, name: str) -> bool:
        """Return true or false."""
        return bool(self.take(name, bool, False, "true or false"))

    def number(self, name: str, default: float) -> float:
        """Return a number."""
        return as_float(name, self.take(name, (int, float), default, "a number"))

    def count(self, name: str, default: int | None, low: int, high: int) -> int | None:
        """Return a whole number of a range."""
        wanted = f"a whole number from {low:,} to {high:,}"
        value = self.take(name, int, default, wanted)
        if value is not None and not low <= value <= high:
            raise ApiError(400, f"{name}: expected {wanted}, got {str(value)[:40]}.", param=name)
        return value

    def texts(self, name: str, most: int, longest: int) -> tuple[str, ...]:
        """Return a text or a list of them as texts."""
        wanted = f"a text, or at most {most} of them, of at most {longest:,} characters each"
        value = self.take(name, (str, list), [], wanted)
        values = [value] if isinstance(value, str) else value
        if len(values) > most or not all(isinstance(text, str) and len(text) <= longest for text in values):
            raise ApiError(400, f"{name}: expected {wanted}, got {json.dumps(value)[:80]}.", param=name)
        return tuple(values)


def as_float(name: str, value: int | float) -> float:
    """Return a number as a float.

    Raises:
        ApiError: it is a whole number that no float can hold.
    """
    try:
        return float(value)
    except OverflowError:
        raise ApiError(400, f"{name}: {str(value)[:20]}... is out of range.", param=name) from None
