"""Messages for a package that is missing and for a PyTorch that is too old.

pip installs all that nanotx needs; the Python of another environment may lack some of it.
"""

import re
import shlex
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from nanotx.errors import ConfigError

TORCH = (2, 10)
"""Oldest version of PyTorch, as in pyproject.toml."""

PACKAGES = (
    "torch", "numpy", "einops", "regex", "rich", "tomli_w", "safetensors", "jaxtyping", "platformdirs", "filelock",
    "hypothesis", "matplotlib", "jinja2",
)  # fmt: skip
"""Modules of the packages that nanotx requires."""


def install_problem(error: BaseException) -> str:
    """Return a message if an error is of a package that is missing or of a PyTorch that is too old; empty otherwise."""
    module = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if module in PACKAGES:
        return missing_problem(module)
    return torch_problem() if isinstance(error, ImportError | AttributeError | TypeError) else ""


def end_where_incomplete() -> None:
    """End `python -m nanotx.recipes.NAME` with a message where a package is missing or PyTorch is too old.

    A recipe is imported before any code of ours could catch the error; an import from Python gets the error itself.

    Raises:
        SystemExit: one is.
    """
    if sys.argv[:1] != ["-m"]:  # what Python puts there while it imports the packages around the module
        return
    missing = next((module for module in PACKAGES if find_spec(module) is None), "")
    if problem := missing_problem(missing) if missing else torch_problem():
        sys.stderr.write(f"ConfigError: {problem}\n")
        raise SystemExit(ConfigError.exit_code)


def missing_problem(module: str) -> str:
    """Return the message for a package that is not installed."""
    package = module.replace("_", "-")
    return f"{package} is not installed for {sys.executable}; try: {install_command(package)}"


def torch_problem() -> str:
    """Return a message if PyTorch is older than nanotx needs; empty if it is not, or if its version is unknown."""
    text = str(getattr(sys.modules.get("torch"), "__version__", ""))
    with suppress(PackageNotFoundError):
        text = text or version("torch")
    numbers = re.match(r"(\d+)\.(\d+)", text)
    if numbers is None or tuple(map(int, numbers.groups())) >= TORCH:
        return ""
    oldest = ".".join(map(str, TORCH))
    return f"nanotx needs torch {oldest} or later, and {sys.executable} has {text}; try: {install_command('torch')}"


def install_command(package: str) -> str:
    """Return the command that installs a package, with all others where nanotx is a checkout."""
    python = shlex.quote(sys.executable)
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").is_file():
        return f"{python} -m pip install --upgrade -e {shlex.quote(str(checkout))}"
    wanted = f"torch>={'.'.join(map(str, TORCH))}" if package == "torch" else package
    return f"{python} -m pip install {shlex.quote(wanted)}"
