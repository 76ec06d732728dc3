"""The guide says what the compiler can, no more and no less."""

import re
from pathlib import Path

import pytest
from tests.compiler.networks import Net, model

from plantfed_compiler.cli import command
from plantfed_compiler.compiling import Options, compile_model
from plantfed_compiler.rules import FAMILIES
from plantfed_shared.errors import ModelError
from plantfed_shared.model_manifest import (
    LossOfModel,
)

GUIDE = (Path(__file__).parents[2] / "docs" / "bring-your-model.md").read_text(encoding="utf-8")


def test_it_lists_every_operator_in_its_family():
    listed = GUIDE.partition("<!-- operators -->")[2].partition("<!-- end -->")[0]
    found = {}
    for family in listed.split("- **")[1:]:
        name, _, rest = family.partition("**")
        found[name] = set(re.findall(r"\b(?:[A-Z][a-z]*[A-Za-z0-9]*)\b", strip(rest)))
    expected = {f.__name__.rpartition(".")[2]: set(f.RULES) for f in FAMILIES}
    assert found == expected


def strip(text: str) -> str:
    """Without what is said in brackets, and after a colon or semicolon."""
    return re.split("[:;]", re.sub(r"\([^)]*\)", "", text))[0]


def test_it_names_every_option_and_exit_code():
    names = {o for p in command.params for o in p.opts if o.startswith("--")}
    assert {n for n in names - {"--version", "--output"} if f"`{n}" not in GUIDE} == set()
    assert command.help is not None
    for code in re.findall(r"\b(65|74|78|2) ", command.help.partition("Exit codes:")[2]):
        assert re.search(rf"\b{code} [a-z]", GUIDE.partition("Exit codes:")[2])


def test_who_has_an_operator_without_a_rule_is_sent_to_the_guide(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(model(Net("y = Mish(a)")).SerializeToString())
    with pytest.raises(ModelError, match=r"docs/bring-your-model\.md lists the operators"):
        compile_model(path, Options(loss=LossOfModel(kind="mse")))
