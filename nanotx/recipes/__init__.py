"""Recipes: a whole run as one value each, and an entry point to run it."""
