"""Configs: slots and their parts, dataclasses as tables, TOML, flags and presets."""
