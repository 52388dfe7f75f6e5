"""Libraries that others wrote, in Rust: what they cannot do becomes an error of ours, with the place and the remedy."""

from collections.abc import Iterator
from contextlib import contextmanager

from nanotx.errors import NanotxError, TokenizerError


@contextmanager
def library_errors(where: str, kind: type[TokenizerError] = TokenizerError) -> Iterator[None]:
    """Whatever the library raises inside becomes an error of ours; a panic of Rust's is no `Exception`.

    Raises:
        TokenizerError: it raised something.
    """
    try:
        yield
    except NanotxError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        said = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        raise kind(f"{where}: {said}.") from None


def not_installed(library: str) -> TokenizerError:
    """What is said where a library is not installed."""
    return TokenizerError(f"{library}: the library is not installed; try pip install -c constraints.txt {library}.")
