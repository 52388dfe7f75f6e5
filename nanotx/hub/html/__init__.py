"""A model as one HTML page that computes it by itself, in a browser without a network."""

from nanotx.hub.html.page import export_html

__all__ = ["export_html"]
