"""Presets: trained tokenizers and recipes that are loaded by name."""

from pathlib import Path


def presets(kind: str) -> Path:
    """Return the preset folder of this kind: the checkout's folder, or its copy in the installed package."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "presets" / kind
    return inside if inside.is_dir() else package.parent / kind
