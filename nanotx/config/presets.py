"""Presets: trained tokenizers and recipes that are loaded by name."""

from pathlib import Path


def shelf(kind: str) -> Path:
    """The shelf `tokenizers` or `recipes`: the checkout's folder, or its copy in the installed package."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "shelves" / kind
    return inside if inside.is_dir() else package.parent / kind
