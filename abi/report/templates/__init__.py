"""Templates of the pages, and what loads them (jinja2, loaded when a page is made)."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment, Template

FOLDER = Path(__file__).parent


@functools.cache
def environment() -> "Environment":
    """Return the environment of all templates: HTML is escaped, a name that is not given is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=is_html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def is_html(name: str | None) -> bool:
    """Return whether a template is of HTML, so that what is put into it must be escaped."""
    return name is not None and ".html" in name


def template(name: str) -> "Template":
    """Return a template of this folder."""
    return environment().get_template(name)
