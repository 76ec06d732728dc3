import re
import tomllib
from pathlib import Path

import pytest

import plantfed_agent.settings
from plantfed_agent.budget import LinkLimits
from plantfed_agent.settings import AgentSettings, load_agent_settings
from plantfed_shared.errors import ConfigError

SMALLEST = """
[agent]
id = "press-07"
federation = "presses"
[broker]
url = "mqtt://broker.plant"
[data]
train = ["logs/*.csv"]
"""


def load(folder: Path, text: str = SMALLEST) -> AgentSettings:
    path = folder / "agent.toml"
    path.write_text(text)
    return load_agent_settings(path)


def test_limits_of_the_link(tmp_path):
    text = (
        SMALLEST
        + """
[link]
rate_limit = "32 kbit/s"
daily_budget = { up = "500 KB" }
quiet_hours = ["07:00-09:00", "23:30-24:00"]
"""
    )
    limits = load(tmp_path, text).link.limits()
    assert (limits.bytes_per_s, limits.day_up, limits.day_down) == (4000.0, 500_000, None)
    assert limits.quiet == ((25_200, 32_400), (84_600, 0))
    assert load(tmp_path).link.limits() == LinkLimits()


def test_paths_count_from_the_folder_of_the_file(tmp_path):
    text = SMALLEST.replace(
        'url = "mqtt://broker.plant"',
        'url = "mqtts://broker.plant"\nca_file = "ca.pem"\nusername = "a"\npassword_file = "pw"\n'
        'cert_file = "/etc/press.pem"\nkey_file = "press.key"',
    )
    (tmp_path / "pw").write_text("geheim\n")
    settings = load(tmp_path, text + 'test = ["late.csv"]')
    assert settings.agent.state_dir == tmp_path / "state"
    assert settings.data.train == (str(tmp_path / "logs/*.csv"),)
    assert settings.data.test == (str(tmp_path / "late.csv"),)
    address = settings.broker.address()
    assert address.ca_file == str(tmp_path / "ca.pem")
    assert address.cert_file == "/etc/press.pem"
    assert (address.port, address.username, address.password) == (8883, "a", "geheim")


def test_defaults(tmp_path):
    settings = load(tmp_path)
    assert settings.agent.root == "plantfed"
    assert settings.data.test_fraction == 0.2
    assert settings.training.rest_after_s == 20
    assert settings.broker.address().port == 1883
    assert settings.broker.address().password is None


def test_the_example_in_the_docstring_is_valid(tmp_path):
    """But for password and certificate, of which it shows both."""
    text = plantfed_agent.settings.__doc__
    assert text is not None
    lines = [line[4:] for line in text.splitlines() if line.startswith("    ")]
    settings = load(tmp_path, "\n".join(lines))
    assert settings.data.columns == {"oil temperature": "T_OIL_1"}
    documented = tomllib.loads("\n".join(lines))
    for name, section in AgentSettings.model_fields.items():
        known = set(section.annotation.model_fields)  # type: ignore[union-attr]
        assert known - set(documented[name]) <= {"password"}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('id = "press-07"', 'id = "Press 7"', r"id 'Press 7' is not allowed"),
        ('id = "press-07"', 'id = "all"', r"id 'all' is not allowed"),
        ('id = "press-07"', 'id = "p"\nroot = "a/b/c"', r"topic root 'a/b/c' is not allowed"),
        ("mqtt://broker.plant", "http://broker.plant", r"Write it like mqtt://broker.plant:1883"),
        ("mqtt://broker.plant", "broker.plant:1883", r"Write it like mqtt://broker.plant:1883"),
        ("mqtt://broker.plant", "mqtt://a:b@broker.plant", r"holds a user or password"),
        ("mqtt://broker.plant", "mqtt://broker.plant:99999", r"not a broker address"),
        ("mqtt://broker.plant", "mqtts://broker.plant", r"mqtts:// and ca_file go together"),
        ("[data]", 'ca_file = "ca.pem"\n[data]', r"mqtts:// and ca_file go together"),
        ("[data]", 'password = "x"\n[data]', r"a password needs a username"),
        (
            "[data]",
            'username = "u"\npassword = "x"\npassword_file = "y"\n[data]',
            r"password or password_file, not both",
        ),
        ("[data]", 'cert_file = "x"\n[data]', r"cert_file and key_file go together"),
        ('["logs/*.csv"]', "[]", r"data.train"),
        ("[data]", "[data]\ntest_fraction = 1.0", r"data.test_fraction = 1.0"),
        ("[data]", "[data]\ntraim = 1", r"unknown key 'data.traim'. Allowed here: columns"),
        ("[data]", "[training]\nnice = 20\n[data]", r"training.nice = 20"),
        (
            "[data]",
            '[link]\nrate_limit = "32 kB/s"\n[data]',
            r"link.rate_limit = '32 kB/s': write a rate such as 32000 \(bit/s\) or \"32 kbit/s\"",
        ),
        ("[data]", "[link]\nrate_limit = 100\n[data]", r"link.rate_limit = 100: .* 8000 bit/s"),
        (
            "[data]",
            '[link]\ndaily_budget = { up = "1 KB" }\n[data]',
            r"link.daily_budget.up = '1 KB': too little even without updates: give 20 KB or more",
        ),
        (
            "[data]",
            "[link]\ndaily_budget = { in = 1 }\n[data]",
            r"unknown key 'link.daily_budget.in'. Allowed here: down, up",
        ),
        (
            "[data]",
            '[link]\nquiet_hours = ["7-9"]\n[data]',
            r"link.quiet_hours.0 = '7-9': write hours such as \"07:00-09:00\"",
        ),
        (
            "[data]",
            '[link]\nquiet_hours = ["07:00-07:00"]\n[data]',
            r"begins when it ends",
        ),
        (
            "[data]",
            '[link]\nquiet_hours = ["06:00-18:00", "17:30-06:00"]\n[data]',
            r"link: quiet_hours cover the whole day: leave some of it for updates",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path, old, new, words):
    with pytest.raises(ConfigError, match=words) as caught:
        load(tmp_path, SMALLEST.replace(old, new))
    assert str(tmp_path / "agent.toml") in str(caught.value)


def test_passwords_are_never_shown(tmp_path):
    settings = load(
        tmp_path, SMALLEST.replace("[data]", 'username = "u"\npassword = "geheim"\n[data]')
    )
    assert settings.broker.address().password == "geheim"
    assert "geheim" not in repr(settings)
    assert "geheim" not in repr(settings.broker.address())


@pytest.mark.parametrize(("content", "words"), [(None, "cannot be read"), ("\n", "is empty")])
def test_an_unusable_password_file_is_an_error(tmp_path, content, words):
    if content is not None:
        (tmp_path / "pw").write_text(content)
    settings = load(
        tmp_path, SMALLEST.replace("[data]", 'username = "u"\npassword_file = "pw"\n[data]')
    )
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path / 'pw'}: {words}")):
        settings.broker.address()
