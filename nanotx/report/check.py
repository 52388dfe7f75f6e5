"""Check the report in a run's folder, which anybody may have put there."""

from pathlib import Path

from nanotx.errors import RunError, shell_quoted
from nanotx.files import read_regular
from nanotx.pages import head, script_file
from nanotx.report.page import SCRIPTS

LONGEST = 1 << 26
"""Maximal size of a report in bytes."""


def check_report(path: Path) -> str:
    """Return what is known of a report.

    Raises:
        RunError: it cannot be read, or is not a whole page.
    """
    try:
        page = read_regular(path, LONGEST).decode("utf-8", "replace")
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}.") from None
    if not page.rstrip().endswith("</html>"):
        again = f"{shell_quoted(path.parent)}"
        raise RunError(f"{path}: not a whole page; nanotx report {again} writes it again.")
    if page.startswith(head(tuple(map(script_file, SCRIPTS)))):
        return f"{len(page):,} characters; no script but those of this nanotx can run in it"
    return "not written by this version of nanotx; nanotx report writes it again"
