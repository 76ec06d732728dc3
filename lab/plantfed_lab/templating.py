"""Text files from the templates of this package."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from plantfed_shared.wording import counted

TEMPLATES = Path(__file__).with_name("templates")


def fill(template: str, **words: Any) -> str:
    """A template with its words filled in; HTML is escaped, the rest is not."""
    return _environment().get_template(template).render(**words)


def unbroken(text: str) -> str:
    """A text in which no line ends between a number and its unit."""
    return re.sub(r"(?<=\d) (?=%|(?:s|min|h|d|KB|MB)\b)", "\N{NO-BREAK SPACE}", text)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        autoescape=select_autoescape(["html.j2"]),
        keep_trailing_newline=True,
    )
    environment.filters["toml"] = _toml
    environment.filters["counted"] = counted
    environment.filters["unbroken"] = unbroken
    return environment


def _toml(value: Any) -> str:
    """A text, number, truth value or list of them; for these JSON is TOML as well."""
    return json.dumps(value, ensure_ascii=False)
