"""Templates of the pages, and what fills them (jinja2, loaded when a page is made)."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abi.base.wording import number
from abi.report import study_words, words
from abi.report.render import listed, markdown

if TYPE_CHECKING:
    from jinja2 import Environment

Used = Callable[..., object]
WORDS = """
MEANINGLESS checks_of deciding fit_words grouped in_words plain_words published_words regime_of sentence_of studies
verdict_words
""".split()
STUDY_WORDS = "counts_words gain_words met_words rates_of rates_words robustness_of robustness_words".split()
"""What every template may use of `words` and of `study_words`."""


def fill(name: str, *used: Used, **given: Any) -> str:
    """Return a template of this folder with what is given put in. Args: used: what it calls, by its own name."""
    return _environment().get_template(name).render({one.__name__: one for one in used}, **given)


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
    for module, names in ((words, WORDS), (study_words, STUDY_WORDS)):
        made.globals |= {name: getattr(module, name) for name in names}
    made.globals |= {"listed": listed, "number": number}
    made.filters["markdown"] = markdown
    return made
