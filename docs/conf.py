"""The documentation as a site: make docs-site. Needs no network; links that lead nowhere are errors."""

import posixpath
import re
from pathlib import Path
from typing import Any

import cbnorm._torchvision

import cbnorm

project = "cbnorm"
version = release = cbnorm.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
# Its text is that of index.rst.
exclude_patterns = ["start.md"]
html_theme = "furo"
html_title = "cbnorm"
html_show_copyright = False
html_copy_source = False
pygments_dark_style = "github-dark"
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_use_ivar = True
napoleon_custom_sections = ["Shapes"]

_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(((?:\.\./)+[^)#\s]+)(#[^)\s]*)?\)")


def _say_where(_app: Any, page: str, source: list[str]) -> None:
    """Of files of the repository outside docs/, which are no part of the site, say where they are."""

    def replaced(match: re.Match[str]) -> str:
        text, target, _ = match.groups()
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
        if path.startswith("docs/"):
            return match[0]
        if not (Path(__file__).parents[1] / path).exists():
            raise ValueError(f"{page}: there is no {path}")
        return text if text.strip("`") == path else f"{text} (`{path}`)"

    source[0] = _LINK.sub(replaced, source[0])


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _say_where)
