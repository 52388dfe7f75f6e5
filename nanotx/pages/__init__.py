"""Self-contained HTML pages: one file that fetches nothing, with its own styles and scripts.

`html_page` is the frame that every page shares: look, report, trace, and those that the server sends.
"""

from nanotx.pages.page import CHART, content_policy, head, html_page, script_file

__all__ = ["CHART", "content_policy", "head", "html_page", "script_file"]
