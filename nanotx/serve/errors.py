"""Errors as the OpenAI client reads them, and JSON that no text can break."""

import json
from typing import Any

from starlette.responses import Response

from nanotx.errors import ConfigError, NanotxError, TextError


class ApiError(Exception):
    """A request that is refused.

    Args:
        status: of HTTP.
        message: what is wrong, and what to try.
        param: the field of the request that is wrong.
        kind: the `type` of the error.
        code: a word for programs.
        headers: of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        kind: str = "invalid_request_error",
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param = status, message, param
        self.kind, self.code, self.headers = kind, code, headers or {}

    def to_dict(self) -> dict[str, Any]:
        """Return the body of the response."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def response(self) -> Response:
        """Return the response."""
        return json_response(self.to_dict(), self.status, self.headers)


def json_response(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a response in strict JSON, in ASCII, so that a lone surrogate can be in it."""
    return Response(json.dumps(content, allow_nan=False), status, headers, media_type="application/json")


def as_api_error(error: Exception) -> ApiError:
    """Return the refusal for an error of a generation; what we have not foreseen is a server error.

    A message that begins with the name of a field names it.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ConfigError | TextError):
        message = str(error).replace("bias:", "logit_bias:", 1) if str(error).startswith("bias:") else str(error)
        return ApiError(400, message, param="prompt" if isinstance(error, TextError) else message.partition(":")[0])
    if isinstance(error, NanotxError):
        return ApiError(503, str(error), kind="server_error")
    return ApiError(500, f"{type(error).__name__}: {error!s:.300}", kind="server_error")
