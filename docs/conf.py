"""How Sphinx builds the site: `sphinx-build -W docs docs/_build`, then open docs/_build/index.html.

Two tags save time while you write: `-t prose` leaves the API reference out, `-t still` does not run the notebooks.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

import nanotx

project = "nanotx"
author = "the nanotx authors"
release = version = nanotx.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "repository",
    "part_fields",
    *([] if tags.has("prose") else ["api_pages"]),  # noqa: F821 (Sphinx defines `tags`)
]
exclude_patterns = ["_build", "_extensions", *(["api"] if tags.has("prose") else [])]  # noqa: F821

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off" if tags.has("still") else "force"  # noqa: F821
nb_execution_timeout = 1800
nb_execution_in_temp = True
nb_merge_streams = True
nb_execution_raise_on_error = True

default_role = "code"
toc_object_entries = False
autodoc_typehints = "signature"
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"nanotx {release}"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
copybutton_exclude = ".linenos, .gp, .go"
