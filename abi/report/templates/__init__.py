"""Templates of the pages, and what fills them (jinja2, loaded when a page is made)."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abi.report import words
from abi.report.render import markdown

if TYPE_CHECKING:
    from jinja2 import Environment


def fill(name: str, **given: Any) -> str:
    """Return a template of this folder with what is given put in. It may call every function of `words`."""
    return _environment().get_template(name).render(**given)


@functools.cache
def _environment() -> "Environment":
    """Return the environment of all templates: HTML and SVG are escaped, a name that is not given is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=lambda name: name is not None and (".html" in name or ".svg" in name),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals |= vars(words)
    made.filters["markdown"] = markdown
    return made
