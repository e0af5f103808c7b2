"""What operators set: by variable, by option; and where the files go."""

import os
import stat
import tempfile
from pathlib import Path

import pytest

from modelry.errors import SettingsError
from modelry.settings import Paths, Secret, Settings, load_settings, unknown_variables

TOKEN = "pat-" + "t" * 28


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MODELRY_")]:
        monkeypatch.delenv(name)


def refusal(**overrides: object) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        load_settings(**overrides)
    assert "\n" not in caught.value.message
    return caught.value


# -- values ------------------------------------------------------------------


def test_the_defaults_are_the_contracts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    found = load_settings()
    assert (found.host, found.port) == ("127.0.0.1", 8080)
    assert found.paths.data == Path("/home/somebody/.modelry")
    assert found.max_body_bytes == 64 * 1024 * 1024
    assert found.drain_timeout_s == 60
    assert not found.keep_replicas


def test_every_setting_has_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "HOST": "0.0.0.0",
        "PORT": "0",
        "DATA_DIR": "/srv/modelry",
        "DATABASE_URL": "postgresql://db/modelry",
        "PUBLIC_URL": "https://models.example/",
        "ADMIN_PASSWORD": "long enough",
        "ADMIN_TOKEN": TOKEN,
        "MODELS_DIR": "/srv/models",
        "LOG_LEVEL": "debug",
        "DEMO": "true",
        "MAX_BODY_BYTES": "1024",
        "MAX_BUFFERED_BYTES": "4096",
        "START_WAIT_S": "0.5",
        "DRAIN_TIMEOUT_S": "1",
        "KEEP_REPLICAS": "true",
        "GATEWAY_WORKERS": "4",
        "QUEUE_MAX": "0",
        "QUEUE_WAIT_S": "1.5",
        "ANSWER_TIMEOUT_S": "2",
        "ACCESS_LOG": "false",
        "USAGE_KEEP_DAYS": "1",
        "IMAGE_URL_TTL_S": "60",
        "IMAGE_STORE_BYTES": "2097152",
        "RESPONSE_TTL_S": "60",
        "RESPONSE_STORE_BYTES": "2097152",
        "CORS_ORIGINS": "https://App.example/, http://localhost:3000",
        "TRUSTED_PROXIES": "10.0.0.1, fd00::/8",
        "IMAGE_URLS": "false",
        "IMAGE_NETWORKS": "10.1.0.0/16,192.168.1.7",
        "HF_ENDPOINT": "https://mirror.example/hf/",
        "HF_TOKEN": "hf_of_an_account",
        "MODELSCOPE_ENDPOINT": "https://mirror.example/ms",
        "MODELSCOPE_TOKEN": "ms_of_an_account",
        "OFFLINE": "true",
        "TLS_CERT": "/srv/cert.pem",
        "TLS_KEY": "/srv/key.pem",
        "CONFORMANCE": "asked",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"MODELRY_{name}", value)
    found = load_settings()
    assert (found.host, found.port, found.log_level) == ("0.0.0.0", 0, "debug")
    assert found.data_dir == Path("/srv/modelry")
    assert found.models_dir == Path("/srv/models")
    assert found.database_url is not None
    assert found.database_url.reveal() == "postgresql://db/modelry"
    assert found.public_url == "https://models.example"
    assert found.admin_password is not None
    assert found.admin_password.reveal() == "long enough"
    assert found.admin_token is not None
    assert found.admin_token.reveal() == TOKEN
    assert (found.max_body_bytes, found.start_wait_s, found.drain_timeout_s) == (1024, 0.5, 1)
    assert found.keep_replicas
    assert (found.gateway_workers, found.queue_max, found.queue_wait_s) == (4, 0, 1.5)
    assert (found.answer_timeout_s, found.access_log, found.usage_keep_days) == (2, False, 1)
    assert (found.image_url_ttl_s, found.image_store_bytes) == (60, 2097152)
    assert found.cors_origins == "https://app.example,http://localhost:3000"
    assert found.trusted_proxies == "10.0.0.1/32,fd00::/8"
    assert (found.image_urls, found.image_networks) == (False, "10.1.0.0/16,192.168.1.7/32")
    assert (found.tls_cert, found.tls_key) == (Path("/srv/cert.pem"), Path("/srv/key.pem"))
    assert found.conformance == "asked"
    names = {f"MODELRY_{name.upper()}" for name in Settings.__struct_fields__}
    assert names == {f"MODELRY_{name}" for name in given}


def test_an_option_goes_before_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELRY_PORT", "1000")
    monkeypatch.setenv("MODELRY_HOST", "0.0.0.0")
    found = load_settings(port="2000", host=None)
    assert (found.port, found.host) == (2000, "0.0.0.0")


def test_an_option_can_be_false_where_the_variable_is_true(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MODELRY_KEEP_REPLICAS", "1")
    assert load_settings(keep_replicas=None).keep_replicas
    assert not load_settings(keep_replicas=False).keep_replicas


@pytest.mark.parametrize("name", Settings.__struct_fields__)
def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"MODELRY_{name.upper()}", "")
    assert load_settings() == Settings()


def test_folders_are_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert load_settings(data_dir="data").paths.data == tmp_path / "data"
    assert load_settings(data_dir=Path("~/data")).paths.data == Path("/home/somebody/data")
    assert load_settings(models_dir="models").models_dir == tmp_path / "models"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "-1"),
        ("PORT", "65536"),
        ("PORT", "80.5"),
        ("LOG_LEVEL", "loud"),
        ("MAX_BODY_BYTES", "64MiB"),
        ("MAX_BODY_BYTES", "1023"),
        ("MAX_BUFFERED_BYTES", "1G"),
        ("START_WAIT_S", "soon"),
        ("START_WAIT_S", "-1"),
        ("START_WAIT_S", "nan"),
        ("DRAIN_TIMEOUT_S", "-0.1"),
        ("KEEP_REPLICAS", "perhaps"),
        ("GATEWAY_WORKERS", "0"),
        ("GATEWAY_WORKERS", "65"),
        ("QUEUE_MAX", "-1"),
        ("ANSWER_TIMEOUT_S", "0"),
        ("ACCESS_LOG", "loud"),
        ("USAGE_KEEP_DAYS", "0"),
        ("CORS_ORIGINS", "app.example"),
        ("CORS_ORIGINS", "https://app.example/path"),
        ("TRUSTED_PROXIES", "proxy.example"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("PUBLIC_URL", "models.example"),
        ("PUBLIC_URL", "ftp://models.example"),
        ("PUBLIC_URL", "https://"),
        ("DATA_DIR", "~nobody-of-this-name/data"),
        ("MODELS_DIR", "~nobody-of-this-name/models"),
        ("ADMIN_PASSWORD", "short"),
        ("ADMIN_TOKEN", "pat-short"),
        ("ADMIN_TOKEN", "sk-" + "t" * 40),
        ("ADMIN_TOKEN", "pat-" + "é" * 40),
        ("ADMIN_TOKEN", "pat-" + "two words" * 5),
    ],
)
def test_a_bad_setting_is_one_line_that_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"MODELRY_{name}", value)
    error = refusal()
    assert error.message.startswith(f"MODELRY_{name}: ")
    assert error.param == name.lower()
    if name.startswith("ADMIN"):
        assert value not in error.message


def test_a_bad_option_is_named_as_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELRY_PORT", "8080")
    assert refusal(port="http").message.startswith("--port: ")
    assert refusal(data_dir=Path("~nobody-of-this-name")).message.startswith("--data-dir: ")


def test_secrets_do_not_show_themselves() -> None:
    found = load_settings(admin_password="long enough", admin_token=TOKEN)
    for shown in (repr(found), str(found), f"{found.admin_token}"):
        assert TOKEN not in shown
        assert "long enough" not in shown
    assert repr(Secret("a secret")) == repr(Secret("another"))


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        load_settings().port = 1  # type: ignore[misc]


def test_a_child_process_reads_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    made = load_settings(
        host="::1",
        port="9",
        data_dir="/srv/a b",
        public_url="https://models.example",
        models_dir="/srv/models",
        start_wait_s="0.25",
        keep_replicas=True,
        admin_token=TOKEN,
    )
    environment = made.environment()
    assert TOKEN not in environment.values()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    again = load_settings()
    monkeypatch.setenv("MODELRY_ADMIN_TOKEN", TOKEN)
    assert again.environment() == environment
    assert again.keep_replicas
    assert again.paths == made.paths


# -- paths -------------------------------------------------------------------


def longest_socket(paths: Paths) -> int:
    return len(os.fsencode(paths.sockets / "rep_0123456789abcdef.sock"))


def test_sockets_lie_in_the_data_directory() -> None:
    assert Paths(Path("/srv/modelry")).sockets == Path("/srv/modelry/run")


@pytest.mark.parametrize("letter", ["a", "é"])
def test_every_data_directory_gets_sockets_the_kernel_can_bind(letter: str) -> None:
    for length in range(1, 200):
        paths = Paths(Path("/") / (letter * length))
        # 104 bytes on macOS, 108 on Linux, the final NUL included.
        assert longest_socket(paths) < 104
        for socket in (paths.control_socket, paths.feed_socket):
            assert len(os.fsencode(socket)) < 104


def test_long_data_directories_have_short_sockets_of_their_own() -> None:
    one, other = Paths(Path("/srv") / ("a" * 200)), Paths(Path("/srv") / ("b" * 200))
    assert one.sockets == Paths(one.data).sockets
    assert one.sockets != other.sockets
    assert one.sockets.parent == Path(tempfile.gettempdir())
    assert str(os.getuid()) in one.sockets.name


def test_variables_that_are_no_settings_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MODELRY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MODELRY_PROT", "8080")
    monkeypatch.setenv("MODELRY_FAVOURITE_COLOUR", "green")
    monkeypatch.setenv("MODELRY_QUEUE_MAX", "5")
    monkeypatch.setenv("MODELRY_TOKEN", "pat-")
    assert unknown_variables() == {
        "MODELRY_FAVOURITE_COLOUR": None,
        "MODELRY_PROT": "MODELRY_PORT",
    }


def test_preparing_makes_every_folder_for_this_account_alone(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "deep" / "data")
    paths.prepare()
    paths.prepare()
    for folder in (paths.data, paths.weights, paths.replicas, paths.logs, paths.sockets):
        assert folder.is_dir()
        assert stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0
    assert sorted(each.name for each in paths.data.iterdir() if each.is_file()) == []


def test_a_data_directory_that_is_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.touch()
    with pytest.raises(SettingsError) as caught:
        Paths(file).prepare()
    assert str(file) in caught.value.message
    assert caught.value.param == "data_dir"
    assert "--data-dir" in (caught.value.hint or "")


@pytest.fixture
def long_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A data directory whose sockets lie in the temporary directory."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    paths = Paths(tmp_path / ("long" * 30))
    assert paths.sockets.parent == temporary
    return paths


def test_a_socket_directory_in_the_temporary_one_is_closed_to_others(long_paths: Paths) -> None:
    long_paths.sockets.mkdir(mode=0o777)
    long_paths.prepare()
    assert stat.S_IMODE(long_paths.sockets.stat().st_mode) == 0o700


def test_a_strangers_socket_directory_is_refused(
    long_paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: ours + 1)
    with pytest.raises(SettingsError, match="another account"):
        long_paths.prepare()


def test_a_link_in_the_place_of_the_socket_directory_is_refused(
    long_paths: Paths, tmp_path: Path
) -> None:
    # Who made the link could turn it to a directory of their own later.
    (tmp_path / "elsewhere").mkdir()
    long_paths.sockets.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SettingsError):
        long_paths.prepare()


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:8080"),
        ("::", "http://[::1]:8080"),
        ("fd00::7", "http://[fd00::7]:8080"),
        ("models.example", "http://models.example:8080"),
    ],
)
def test_this_machine_reaches_its_own_instance(host: str, url: str) -> None:
    assert Settings(host=host).own_url(8080) == url
    assert Settings(host=host, tls_cert=Path("/x.pem")).own_url(1).startswith("https://")
