"""Configuration of the documentation: Sphinx, MyST-NB, and tutorials that are executed."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.append(str(Path(__file__).parent / "_extensions"))

project = "ddn-torch"
author = "The ddn-torch developers"
copyright = "The ddn-torch developers"
release = version = installed_version("ddn-torch")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    # Of this documentation, in _extensions/.
    "complete_reference",
    "displays",
    "mathml",
    "signatures",
]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]

# Pages are Markdown; a tutorial is a page with code cells.
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# Every tutorial runs on every build, away from the sources, and an error in one fails it.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
nb_output_stderr = "warn"

# The reference is written from the docstrings, in the order of the source, and is complete.
autodoc_default_options = {"members": True}
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
complete_reference_packages = ["ddn", "ddn_etf"]

# Pages need no network to be read.
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_theme = "furo"
html_title = f"{project} {release}"
copybutton_exclude = ".linenos, .gp, .go"
copybutton_selector = "div:not(.display):not(.output) > div.highlight > pre"
