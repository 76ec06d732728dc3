"""Reading settings: every mistake is one line that names file, key, value and what to do."""

from pathlib import Path
from typing import Annotated, Literal, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, model_validator

from plantfed_shared.broker_settings import BrokerSection
from plantfed_shared.definition import Settings
from plantfed_shared.errors import ConfigError
from plantfed_shared.settings_file import check_settings, read_settings


class Sensor(Settings):
    name: str
    range_kn: tuple[float, float] = (0.0, 10.0)


class Press(Settings):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    strokes: Annotated[int, Field(ge=1)] = 1
    mode: Literal["single", "double"] = "single"
    sensors: tuple[Sensor, ...] = ()
    main: Sensor | None = None
    from_: Annotated[str, Field(alias="from")] = ""


class Networked(Settings):
    broker: BrokerSection


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "press.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def complaint(path: Path, model: type[BaseModel] = Press) -> str:
    with pytest.raises(ConfigError) as refused:
        read_settings(path, model)
    text = str(refused.value)
    assert text.startswith(f"{path}: ")
    assert text.isprintable()
    return text.removeprefix(f"{path}: ")


def test_settings_are_read(tmp_path):
    text = 'strokes = 3\nfrom = "hall 2"\n[[sensors]]\nname = "força"\nrange_kn = [1, 2.5]\n'
    settings = read_settings(written(tmp_path, text), Press)
    assert settings.strokes == 3
    assert settings.from_ == "hall 2"
    assert settings.sensors == (Sensor(name="força", range_kn=(1.0, 2.5)),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("strokes = 0", "strokes = 0: Input should be greater than or equal to 1"),
        ('mode = "triple"', "mode = 'triple': Input should be 'single' or 'double'"),
        ('strokes = "many"', "strokes = 'many': Input should be a valid integer"),
        ("stroke = 1", "unknown key 'stroke'. Allowed here: from, main, mode, sensors, strokes"),
        (
            "[main]\nname = 'x'\nunit = 'kN'",
            "unknown key 'main.unit'. Allowed here: name, range_kn",
        ),
        (
            "[[sensors]]\nname = 'x'\n[[sensors]]\nname = 'y'\nunit = 'kN'",
            "unknown key 'sensors.1.unit'. Allowed here: name, range_kn",
        ),
        ("[[sensors]]\nrange_kn = [0, 1]", "key 'sensors.0.name' is missing. Add it"),
        ("strokes = 0\nmode = 3", "strokes = 0: .* (1 more after this one)"),
        ("sensors = 3", "sensors = 3: Input should be a list in [ ]"),
        ("[sensors]\nname = 'a'", "sensors: Input should be a list in [ ]. Write [[sensors]]"),
        ("main = 'a'", "main = 'a': Input should be a table"),
        ("strokes = ", "is not TOML: Invalid value (at end of document)"),
        (
            "strokes = 1\nstrokes = 2",
            "is not TOML: Cannot overwrite a value (at .*)",
        ),
        (b"\xff\xfe", "line 1 is not UTF-8. Save it as UTF-8"),
        (b"strokes = 3\n\nfrom = 'H\xe4lle'", "line 3 is not UTF-8. Save it as UTF-8"),
    ],
)
def test_a_mistake_is_named(tmp_path, text, expected):
    start, _, end = expected.partition(".*")
    found = complaint(written(tmp_path, text))
    assert found.startswith(start)
    assert end in found


def test_a_section_that_contradicts_itself_is_named_without_all_its_keys() -> None:
    class Schedule(Settings):
        first: int
        last: int

        @model_validator(mode="after")
        def _in_order(self) -> Self:
            raise ValueError("first is after last")

    class Hall(Settings):
        ends: Schedule

    with pytest.raises(ConfigError) as refusal:
        check_settings({"ends": {"first": 3, "last": 1}}, Hall, "hall.toml")
    assert str(refusal.value) == "hall.toml: ends: first is after last"


def test_what_windows_puts_before_a_file_is_no_mistake(tmp_path: Path) -> None:
    marked = written(tmp_path, b"\xef\xbb\xbfstrokes = 3\r\n")
    assert read_settings(marked, Press).strokes == 3


def test_a_long_value_is_cut(tmp_path):
    found = complaint(written(tmp_path, f"mode = '{'x' * 5000}'"))
    assert "mode = 'xxxx" in found
    assert len(found) < 200


def test_a_file_that_is_not_there(tmp_path):
    assert complaint(tmp_path / "press.toml") == "no such file. Give the path of one"
    assert complaint(tmp_path) == "cannot be read: Is a directory"
    file = written(tmp_path, "")
    assert complaint(file / "press.toml").startswith("cannot be read: ")


toml_values = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
keys = st.text(max_size=8) | st.sampled_from([*Press.model_fields, "from", "name"])


@given(st.dictionaries(keys, toml_values | st.dictionaries(keys, toml_values), max_size=4))
def test_whatever_is_written_is_read_or_explained_in_one_line(document):
    try:
        settings = check_settings(document, Press, "press.toml")
    except ConfigError as error:
        explained = str(error)
    else:
        explained = ""
        assert settings.model_dump(by_alias=True).keys() >= document.keys()
    assert explained.splitlines() in ([], [explained])


SECRET = "hunter2"


@pytest.mark.parametrize(
    "section",
    [
        f'url = "mqtt://broker"\npassword = ["{SECRET}"]',
        f'url = "mqtt://broker"\npassword = "{SECRET}"',
        f'url = "ftp://broker"\nusername = 1\npassword = "{SECRET}"',
        f'url = "mqtt://broker"\nusername = "bob"\npassword = "{SECRET}"\npassword_file = "p"',
        f'url = "mqtt://bob:{SECRET}@broker"',
        f'url = "mqtt://bob:{SECRET}@broker:port"',
        f'url = "mqtt://bob:1/{SECRET}@broker"',
        f'url = ["mqtt://bob:{SECRET}@broker"]',
    ],
)
def test_no_secret_is_shown(tmp_path, section):
    assert SECRET not in complaint(written(tmp_path, f"[broker]\n{section}\n"), Networked)


def test_no_secret_is_in_a_representation():
    section = BrokerSection(url="mqtt://broker", username="bob", password=SECRET)
    assert SECRET not in repr(section)
    assert SECRET not in repr(section.address())
    assert section.address().password == SECRET
