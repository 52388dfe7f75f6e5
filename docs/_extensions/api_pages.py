"""Writes the API reference: a page per package into `docs/api`, with all its modules, from their docstrings."""

import pkgutil
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

import nanotx

SKIPPED = (
    *("nanotx.__main__", "nanotx.cli"),  # commands, which `--help` describes
    *("nanotx.selftest", "nanotx.laws.cases"),  # insides
    "nanotx.recipes",  # values
    *("nanotx.hub.harness", "nanotx.hub.remote.modeling"),  # classes of libraries that need not be installed
)
"""What has no page."""

OPTIONS = "   :members:\n   :show-inheritance:\n"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir) / "api"))
    return {"version": "1", "parallel_read_safe": True}


def write_pages(folder: Path) -> None:
    """Write the page of each package, where it has changed."""
    folder.mkdir(exist_ok=True)
    pages = {f"{package}.rst": page(package, modules) for package, modules in packages().items()}
    for path in folder.glob("*.rst"):
        if path.name not in pages:
            path.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def packages() -> dict[str, list[str]]:
    """Return the modules of each package, by its name."""
    contents: dict[str, list[str]] = {"nanotx": []}
    for module in pkgutil.walk_packages(nanotx.__path__, "nanotx."):
        if any(module.name == name or module.name.startswith(f"{name}.") for name in SKIPPED):
            continue
        if module.ispkg:
            contents[module.name] = []
        else:
            contents[module.name.rpartition(".")[0]].append(module.name)
    return contents


def page(package: str, modules: list[str]) -> str:
    """Return the page of a package."""
    lines = [package, "=" * len(package), "", f".. automodule:: {package}", "   :no-members:", ""]
    for module in modules:
        name = module.removeprefix(f"{package}.")
        lines += [name, "-" * len(name), "", f".. automodule:: {module}", OPTIONS]
    return "\n".join(lines)
