"""Configuration of the documentation: Sphinx, MyST-NB, and tutorials that are executed."""

from __future__ import annotations

from importlib.metadata import version as installed_version

project = "ddn-torch"
author = "The ddn-torch developers"
copyright = "The ddn-torch developers"
release = version = installed_version("ddn-torch")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]

# Pages are Markdown; a tutorial is a page with code cells.
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# Every tutorial runs on every build, and an error in one fails it.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True

# The reference is written from the docstrings, in the order of the source.
add_module_names = False
autodoc_member_order = "bysource"
autosummary_generate = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"{project} {release}"
copybutton_exclude = ".linenos, .gp, .go"
