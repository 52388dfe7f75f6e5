"""Third-party tokenizer libraries: turn their errors into ours, with the place and the remedy."""

from collections.abc import Iterator
from contextlib import contextmanager

from nanotx.errors import NanotxError, TokenizerError


@contextmanager
def library_errors(where: str, kind: type[TokenizerError] = TokenizerError) -> Iterator[None]:
    """Raise whatever the library raises as TokenizerError, Rust panics included.

    Raises:
        TokenizerError: the library raised an error.
    """
    try:
        yield
    except NanotxError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        message = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        raise kind(f"{where}: {message}.") from None


def not_installed(library: str) -> TokenizerError:
    """Return the error for a library that is not installed."""
    return TokenizerError(f"{library}: the library is not installed; try pip install -c constraints.txt {library}.")
