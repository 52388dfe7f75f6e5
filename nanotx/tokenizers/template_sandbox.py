"""Jinja's sandbox for chat templates, as a program: a line of JSON in for each template, a line of JSON out.

`template_process.py` runs it. It imports nothing of nanotx, so that it starts at once and needs little memory.
"""

import json
import signal
import sys
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import IO, Any

MEMORY = 1 << 29
"""Bytes that the process may take."""

TOO_MUCH = f"takes more than {MEMORY >> 20} MB of memory, so it was stopped"
"""Why a template that fills the memory has no text."""

TODAY = "strftime_now"
"""The function of published templates that writes the date of the day; its name in a template."""


class Refused(Exception):
    """A template that is not valid, fails, reaches for Python, or takes too much; `line` is 0 where none is known."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line, self.reason = line, reason


@lru_cache(maxsize=16)
def compiled(source: str) -> Any:
    """Return a template, ready to run in the sandbox.

    Raises:
        Refused: it is not valid Jinja.
    """
    from jinja2.exceptions import TemplateSyntaxError

    try:
        return environment().from_string(source)
    except TemplateSyntaxError as error:
        raise Refused(error.lineno, str(error.message)) from None
    except RecursionError:
        raise Refused(0, "nested too deeply") from None


@lru_cache(maxsize=1)
def environment() -> Any:
    """Return the sandbox, with the settings and functions that published templates expect."""
    from jinja2 import nodes
    from jinja2.exceptions import SecurityError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """The tag `generation`, which marks an answer in some published templates and writes nothing."""

        tags = {"generation"}  # noqa: RUF012  of the class that Jinja reads

        def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body).set_lineno(line)

    class Sandbox(ImmutableSandboxedEnvironment):
        """The sandbox, which refuses where Jinja would write nothing."""

        def unsafe_undefined(self, obj: Any, attribute: str) -> Any:
            raise SecurityError(f"attribute {attribute!r} of {type(obj).__name__}")

    made = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation])
    made.globals["raise_exception"] = raise_exception
    made.globals[TODAY] = strftime_now
    made.filters["tojson"] = to_json
    return made


def strftime_now(form: str) -> str:
    """Return the date and the time of now, as `datetime.strftime` writes them."""
    return datetime.now().strftime(str(form))


def raise_exception(message: object) -> None:
    """Let a template refuse what it is given."""
    raise Refused(0, f"refuses these messages: {message}")


def to_json(value: object, indent: int | None = None) -> str:
    """Return a value as JSON, in plain characters and without HTML's escapes."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def render(source: str, values: Mapping[str, Any] | None) -> str:
    """Return what a template writes; without values it is only compiled.

    Raises:
        Refused: it is not valid, fails, or reaches for Python.
    """
    from jinja2.exceptions import SecurityError

    template = compiled(source)
    if values is None:
        return ""
    try:
        return str(template.render(values))
    except MemoryError:
        raise Refused(0, TOO_MUCH) from None
    except Exception as error:  # of a template, which may raise anything
        reason, line = f"{type(error).__name__}: {error!s:.200}", failing_line(error)
        if isinstance(error, SecurityError):
            reason = f"reaches for Python, which a template may not: {error!s:.200}"
        elif isinstance(error, Refused):  # of `raise_exception`
            reason = error.reason
        raise Refused(line, reason) from None


def failing_line(error: BaseException) -> int:
    """Return the line of a template at which an error arose; Jinja names it in the traceback."""
    trace, line = error.__traceback__, 0
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def answer(line: bytes) -> dict[str, str | int]:
    """Return the answer to a line: the text, or why there is none."""
    try:
        asked = json.loads(line)
        return {"text": render(asked["source"], asked["values"])}
    except Refused as refused:
        return {"line": refused.line, "reason": refused.reason}


def serve(lines: IO[bytes], out: IO[bytes]) -> None:
    """Answer each line, until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to this process too, and the other one decides
    sys.path[:] = json.loads(lines.readline())
    limit_memory()
    for line in lines:
        try:
            reply = json.dumps(answer(line)).encode()
        except MemoryError:
            reply = json.dumps({"line": 0, "reason": TOO_MUCH}).encode()
        out.write(reply + b"\n")
        out.flush()


def limit_memory() -> None:
    """Limit the memory of this process, where the system can."""
    try:
        import resource  # not on Windows
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
