"""What is written, without any broker."""

import stat
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509

from plantfed_agent.settings import load_agent_settings
from plantfed_broker.files import write_file
from plantfed_broker.folder import add_agent, remove_agent, render_federation
from plantfed_broker.passwords import line_matches, new_password, passwd_line
from plantfed_broker.settings import Variant, read_folder
from plantfed_shared.errors import ConfigError, StorageError
from plantfed_shared.topics import COORDINATOR, Permission, Topics

TOPICS = Topics("hall-7", "site/plantfed")
SECRETS = {
    "password": ["passwd", "nats-passwords", "coordinator.password", "agents/press-01/password"],
    "mtls": ["ca.key", "server.key", "coordinator.key", "agents/press-01/agent.key"],
}
PUBLIC = {
    "password": [],
    "mtls": ["ca.crt", "server.crt", "coordinator.crt", "revoked.crl", "issued/press-01.crt"],
}
ALWAYS = ["mosquitto.conf", "coordinator-broker.toml", "README.md", "broker.toml"]

both_variants = pytest.mark.parametrize("variant", ["password", "mtls"])


def rendered(folder: Path, variant: Variant = "password", *agents: str) -> Path:
    render_federation(folder, TOPICS.federation, TOPICS.root, "broker.plant", variant=variant)
    for agent in agents:
        add_agent(folder, agent)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@both_variants
def test_every_file_is_there_and_secrets_are_private(tmp_path: Path, variant: Variant) -> None:
    rendered(tmp_path, variant, "press-01")
    private = [*SECRETS[variant], "acl", "agents/press-01/agent.toml"]
    assert {name: mode(tmp_path / name) for name in private} == dict.fromkeys(private, 0o600)
    for name in [*ALWAYS, *PUBLIC[variant]]:
        assert mode(tmp_path / name) == 0o644
    described = (tmp_path / "README.md").read_text()
    top = {name.partition("/")[0] for name in contents(tmp_path)} - {".lock", "README.md"}
    assert [name for name in sorted(top) if f"`{name}" not in described] == []


@both_variants
def test_a_second_render_changes_nothing(tmp_path: Path, variant: Variant) -> None:
    before = contents(rendered(tmp_path, variant, "press-01", "press-02"))
    render_federation(tmp_path, TOPICS.federation, TOPICS.root, variant=variant)
    assert contents(tmp_path) == before


def test_a_new_address_reaches_all_made_files_and_keeps_the_secrets(tmp_path: Path) -> None:
    before = contents(rendered(tmp_path, "mtls", "press-01"))
    render_federation(tmp_path, TOPICS.federation, TOPICS.root, "10.0.0.7", 9883, "mtls")
    after = contents(tmp_path)
    assert {n for n in after if after[n] != before.get(n)} == {
        "mosquitto.conf",
        "coordinator-broker.toml",
        "README.md",
        "broker.toml",
        "server.crt",
    }
    assert b"listener 9883\n" in after["mosquitto.conf"]
    server = x509.load_pem_x509_certificate(after["server.crt"])
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "10.0.0.7" in map(str, names.get_values_for_type(x509.IPAddress))
    assert "localhost" in names.get_values_for_type(x509.DNSName)


def test_only_a_broker_for_this_machine_listens_on_it_alone(tmp_path: Path) -> None:
    for host, line in {
        "localhost": "listener 1883 127.0.0.1",
        "::1": "listener 1883 ::1",
        "10.0.0.7": "listener 1883",
    }.items():
        render_federation(tmp_path / host, "hall-7", host=host)
        assert line in (tmp_path / host / "mosquitto.conf").read_text().splitlines()


def test_the_access_list_is_the_topic_table(tmp_path: Path) -> None:
    rendered(tmp_path, "password", "press-02", "press-01")
    lines = (tmp_path / "acl").read_text().splitlines()
    user, found = "", []
    for line in lines:
        match line.split():
            case ["user", name]:
                user = name
            case ["topic", access, topic]:
                found.append(Permission(user, access, topic))
            case words:
                assert not words or words[0] == "#"
    assert tuple(found) == (
        *TOPICS.coordinator_permissions(),
        *TOPICS.permissions("press-01"),
        *TOPICS.permissions("press-02"),
    )


@both_variants
def test_the_agent_can_read_its_settings(tmp_path: Path, variant: Variant) -> None:
    rendered(tmp_path, variant)
    path = add_agent(tmp_path, "press-01", tmp_path / "for the press")
    settings = load_agent_settings(path)
    assert (settings.agent.id, settings.agent.federation) == ("press-01", "hall-7")
    assert settings.agent.root == "site/plantfed"
    address = settings.broker.address()
    files = (address.ca_file, address.cert_file, address.key_file)
    if variant == "password":
        assert (address.port, address.username, files) == (1883, "press-01", (None, None, None))
        assert address.password
        hashed = (tmp_path / "passwd").read_text().splitlines()
        [line] = [line for line in hashed if line.startswith("press-01:")]
        assert line_matches(line, address.password)
    else:
        assert (address.port, address.username) == (8883, None)
        assert all(name and Path(name).is_file() for name in files)
        assert {p.parent for p in map(Path, filter(None, files))} == {path.parent}
        certificate = x509.load_pem_x509_certificate(Path(address.cert_file or "").read_bytes())
        assert certificate.subject.rfc4514_string() == "CN=press-01"


@both_variants
def test_the_coordinators_section_names_its_files(tmp_path: Path, variant: Variant) -> None:
    rendered(tmp_path, variant)
    section = tomllib.loads((tmp_path / "coordinator-broker.toml").read_text())["broker"]
    assert section.get("username", COORDINATOR) == COORDINATOR
    named = [value for key, value in section.items() if key.endswith("_file")]
    assert named
    assert all((tmp_path / name).is_file() for name in named)


def test_a_password_line_is_salted_and_matches_only_its_password() -> None:
    secret = new_password()
    line, other = passwd_line("press-01", secret), passwd_line("press-01", secret)
    assert line != other
    assert line_matches(line, secret)
    assert not line_matches(line, new_password())
    assert not line_matches("press-01:" + secret, secret)


@both_variants
def test_a_known_agent_is_added_again_only_on_request(tmp_path: Path, variant: Variant) -> None:
    before = contents(rendered(tmp_path, variant, "press-01"))
    with pytest.raises(ConfigError, match=r"'press-01' exists\. .* --replace"):
        add_agent(tmp_path, "press-01")
    assert contents(tmp_path) == before
    settings = tmp_path / "agents/press-01/agent.toml"
    settings.write_text(settings.read_text().replace("train.csv", "logs/*.csv"))
    add_agent(tmp_path, "press-01", replace=True)
    secret = SECRETS[variant][-1]
    assert (tmp_path / secret).read_bytes() != before[secret]
    assert "logs/*.csv" in settings.read_text()
    assert read_folder(tmp_path).agents == ("press-01",)


def test_credentials_of_another_agent_are_not_overwritten(tmp_path: Path) -> None:
    rendered(tmp_path, "password", "press-01")
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match="holds credentials already"):
        add_agent(tmp_path, "press-02", tmp_path / "agents/press-01")
    assert contents(tmp_path) == before


@both_variants
def test_a_removed_agent_leaves_no_line(tmp_path: Path, variant: Variant) -> None:
    rendered(tmp_path, variant, "press-01", "press-02")
    serial = (
        x509.load_pem_x509_certificate((tmp_path / "issued/press-01.crt").read_bytes())
        if (variant == "mtls")
        else None
    )
    remove_agent(tmp_path, "press-01")
    for name in ("acl", "broker.toml", *SECRETS[variant][:2]):
        assert "press-01" not in (tmp_path / name).read_text()
    if serial is not None:
        revoked = x509.load_pem_x509_crl((tmp_path / "revoked.crl").read_bytes())
        assert [entry.serial_number for entry in revoked] == [serial.serial_number]
    with pytest.raises(ConfigError, match=r"no agent 'press-01'\. Known: press-02"):
        remove_agent(tmp_path, "press-01")


def test_agents_added_at_once_are_all_kept(tmp_path: Path) -> None:
    rendered(tmp_path)
    agents = [f"press-{number:02}" for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda agent: add_agent(tmp_path, agent), agents))
    assert list(read_folder(tmp_path).agents) == agents
    assert len((tmp_path / "passwd").read_text().splitlines()) == len(agents) + 1


def test_the_clear_text_list_stays_deleted(tmp_path: Path) -> None:
    rendered(tmp_path, "password", "press-01")
    (tmp_path / "nats-passwords").unlink()
    rendered(tmp_path, "password", "press-02")
    assert not (tmp_path / "nats-passwords").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"federation": "hall-8"}, "is of federation 'hall-7', not 'hall-8'. Use another folder"),
        ({"root": "plantfed"}, "is of root 'site/plantfed', not 'plantfed'"),
        ({"variant": "mtls"}, "is of variant 'password', not 'mtls'"),
        ({"federation": "Hall 7"}, "federation id 'Hall 7' is not allowed"),
        ({"root": "a/b/c"}, "topic root 'a/b/c' is not allowed"),
        ({"host": "a b"}, "host = 'a b': write the name or the IP address"),
        ({"host": "broker\nuser root"}, "write the name or the IP address"),
        ({"port": 65536}, "port = 65536: "),
        ({"bind": "eth0"}, "bind = 'eth0': write an IP address of this machine"),
        ({"variant": "none"}, "variant = 'none': "),
    ],
)
def test_a_wrong_choice_names_itself_and_writes_nothing(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    before = contents(rendered(tmp_path, "password", "press-01"))
    choices: dict[str, object] = {"federation": TOPICS.federation, "root": TOPICS.root}
    with pytest.raises(ConfigError) as caught:
        render_federation(tmp_path, **(choices | change))  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert contents(tmp_path) == before


def test_a_folder_that_was_not_rendered_says_how_to_render_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not a broker folder.* plantfed-broker render"):
        add_agent(tmp_path / "nowhere", "press-01")
    assert not (tmp_path / "nowhere").exists()


def test_an_agents_id_is_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="agent id '_coordinator' is not allowed"):
        add_agent(rendered(tmp_path), "_coordinator")


def test_a_lost_authority_key_is_not_replaced(tmp_path: Path) -> None:
    rendered(tmp_path, "mtls")
    (tmp_path / "ca.key").unlink()
    with pytest.raises(ConfigError, match=r"ca\.key is missing .* backup"):
        rendered(tmp_path, "mtls")


def test_a_damaged_key_is_named(tmp_path: Path) -> None:
    rendered(tmp_path, "mtls")
    (tmp_path / "ca.key").write_text("nonsense")
    with pytest.raises(StorageError, match=r"ca\.key: certificate or key cannot be read"):
        add_agent(tmp_path, "press-01")


def test_access_given_by_hand_survives(tmp_path: Path) -> None:
    rendered(tmp_path)
    (tmp_path / "passwd").chmod(0o640)
    add_agent(tmp_path, "press-01")
    assert mode(tmp_path / "passwd") == 0o640


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file.*cannot be written"):
        rendered(tmp_path / "file" / "folder")
    with pytest.raises(StorageError, match="cannot be written"):
        write_file(tmp_path / "file" / "name", "", 0o600)
