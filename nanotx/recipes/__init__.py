"""Recipes: a whole run as one value each, and an entry point to run it."""

from nanotx.hardware.installed import end_where_incomplete

end_where_incomplete()
