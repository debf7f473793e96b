"""How Sphinx makes the site: `ops/docs`."""

import sys

import worker

# The wheel's name of the same tree.
sys.modules["celery_pymongo"] = worker

project = "celery-pymongo"
copyright = "the authors of celery-pymongo"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click", "sphinx_copybutton"]
exclude_patterns = ["conf.py"]
html_theme = "furo"
html_title = project
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
# Links to files beside docs/ are the repository's; a unit test holds every link and heading.
suppress_warnings = ["myst.xref_missing"]
autodoc_typehints = "description"
autodoc_member_order = "bysource"
copybutton_prompt_text = "$ "
