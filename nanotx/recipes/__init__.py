"""Recipes: a whole run as one value each, and the door to run it by."""
