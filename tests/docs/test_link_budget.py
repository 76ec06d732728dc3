"""What docs/link-budget.md advises is what the demo is run with."""

import re
import tomllib
from pathlib import Path

from plantfed_lab.tennessee_eastman import THIN, THIN_RELEASES

TEXT = (Path(__file__).parents[2] / "docs" / "link-budget.md").read_text(encoding="utf-8")


def test_the_advised_short_messages_are_those_of_the_thin_demo() -> None:
    advised = [tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)]
    assert THIN | THIN_RELEASES in advised
