"""Which package index this machine's own clients would use."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from modelry.catalog.package_index import (
    DEFAULT_INDEX,
    IndexSettings,
    PackageIndex,
    read_index_settings,
)
from modelry.errors import FetchError

Read = Callable[..., IndexSettings]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    (folder / ".config" / "pip").mkdir(parents=True)
    (folder / ".config" / "uv").mkdir()
    return folder


@pytest.fixture
def read(home: Path, tmp_path: Path) -> Read:
    """Reads the settings of a machine that has these variables alone.

    `pip_conf` and `uv_toml` are the texts of the user's configuration files.
    The machine's own files in /etc stay out of it.
    """

    def reading(
        pip_conf: str | None = None, uv_toml: str | None = None, **environ: str
    ) -> IndexSettings:
        environ.setdefault("XDG_CONFIG_DIRS", str(tmp_path / "none"))
        environ.setdefault("VIRTUAL_ENV", str(tmp_path / "none"))
        uv = tmp_path / "uv.toml"
        uv.write_text(uv_toml or "")
        environ.setdefault("UV_CONFIG_FILE", str(uv))
        pip = tmp_path / "pip.conf"
        if pip_conf is not None:
            pip.write_text(pip_conf)
        environ.setdefault("PIP_CONFIG_FILE", str(pip) if pip_conf is not None else os.devnull)
        return read_index_settings(environ, home)

    return reading


def test_with_nothing_set_it_is_pypi(read: Read) -> None:
    assert read() == IndexSettings(indexes=(DEFAULT_INDEX,))


# -- pip ---------------------------------------------------------------------


def test_pips_variables_are_read(read: Read) -> None:
    found = read(
        PIP_INDEX_URL="https://mirror/simple",
        PIP_EXTRA_INDEX_URL="https://one/ https://two/",
        PIP_FIND_LINKS="https://wheels/ /srv/wheels",
        PIP_TRUSTED_HOST="one two:8080",
        PIP_PROXY="http://proxy:3128",
        PIP_CERT="/etc/ca.pem",
    )
    assert found == IndexSettings(
        indexes=("https://mirror/simple", "https://one/", "https://two/"),
        find_links=("https://wheels/", "file:///srv/wheels"),
        trusted_hosts=("one", "two:8080"),
        proxy="http://proxy:3128",
        certificates="/etc/ca.pem",
    )


def test_pips_file_is_read(read: Read) -> None:
    found = read(
        "[global]\n"
        "index-url = https://user:p%40ss%25@mirror/simple\n"
        "extra-index-url =\n    https://one/\n    https://two/\n"
        "trusted_host = mirror\n"
        "find-links = /srv/wheels\n"
        "cert = /etc/ca.pem\n"
        "[download]\nproxy = http://proxy:3128\n"
        "[install]\nindex-url = https://only-for-install/\n"
    )
    assert found == IndexSettings(
        indexes=("https://user:p%40ss%25@mirror/simple", "https://one/", "https://two/"),
        find_links=("file:///srv/wheels",),
        trusted_hosts=("mirror",),
        proxy="http://proxy:3128",
        certificates="/etc/ca.pem",
    )


def test_pips_variables_go_before_its_files(read: Read) -> None:
    conf = "[global]\nindex-url = https://file/\nextra-index-url = https://file-extra/\n"
    found = read(conf, PIP_INDEX_URL="https://env/", PIP_EXTRA_INDEX_URL="https://env-extra/")
    assert found.indexes == ("https://env/", "https://env-extra/")


def test_the_users_file_goes_before_the_machines(read: Read, home: Path, tmp_path: Path) -> None:
    machine = tmp_path / "xdg" / "pip" / "pip.conf"
    machine.parent.mkdir(parents=True)
    machine.write_text("[global]\nindex-url = https://machine/\nproxy = http://machine:1\n")
    (home / ".config" / "pip" / "pip.conf").write_text("[global]\nindex-url = https://user/\n")
    found = read("[global]\ncert = /named.pem\n", XDG_CONFIG_DIRS=str(machine.parent.parent))
    assert found.indexes[0] == "https://user/"
    assert found.proxy == "http://machine:1"
    assert found.certificates == "/named.pem"


def test_no_file_of_pips_is_read_where_the_null_device_is_named(read: Read, home: Path) -> None:
    (home / ".config" / "pip" / "pip.conf").write_text("[global]\nindex-url = https://user/\n")
    assert read(PIP_CONFIG_FILE=os.devnull).indexes == (DEFAULT_INDEX,)


@pytest.mark.parametrize("text", ["no section", "[global\nindex-url", "[global]\n\x00=\x01\n"])
def test_a_file_that_cannot_be_read_is_passed_over(read: Read, text: str) -> None:
    assert read(text, PIP_INDEX_URL="https://env/").indexes == ("https://env/",)


def test_without_an_index_only_folders_are_looked_in(read: Read) -> None:
    found = read(PIP_NO_INDEX="1", PIP_FIND_LINKS="/srv/wheels")
    assert found.indexes == ()
    assert found.find_links == ("file:///srv/wheels",)


def test_without_an_index_pips_further_ones_are_out_as_well(read: Read) -> None:
    assert read(PIP_NO_INDEX="1", PIP_EXTRA_INDEX_URL="https://extra/").indexes == ()


@pytest.mark.parametrize("no", ["0", "false", "no", "off", ""])
def test_no_index_can_be_switched_off_again(read: Read, no: str) -> None:
    assert read(PIP_NO_INDEX=no).indexes == (DEFAULT_INDEX,)
    if no:
        assert read("[global]\nno-index = true\n", PIP_NO_INDEX=no).indexes == (DEFAULT_INDEX,)


# -- uv ----------------------------------------------------------------------


def test_uvs_variables_are_read(read: Read) -> None:
    found = read(
        UV_DEFAULT_INDEX="https://mirror/",
        UV_INDEX="https://one/ corp=https://user:pw@two/simple",
        UV_FIND_LINKS="/srv/a,/srv/b",
    )
    assert found.indexes == ("https://mirror/", "https://one/", "https://user:pw@two/simple")
    assert found.find_links == ("file:///srv/a", "file:///srv/b")


def test_uvs_older_variables_are_read(read: Read) -> None:
    found = read(UV_INDEX_URL="https://mirror/", UV_EXTRA_INDEX_URL="https://one/ https://two/")
    assert found.indexes == ("https://mirror/", "https://one/", "https://two/")


def test_a_password_with_an_equals_sign_is_no_name_of_an_index(read: Read) -> None:
    url = "https://user:a=b@host/simple?c=d"
    assert read(UV_INDEX=url).indexes == (DEFAULT_INDEX, url)
    assert read(UV_INDEX=f"corp={url}").indexes == (DEFAULT_INDEX, url)


def test_the_default_index_can_have_a_name_too(read: Read) -> None:
    assert read(UV_DEFAULT_INDEX="corp=https://user:pw@mirror/").indexes == (
        "https://user:pw@mirror/",
    )


def test_uvs_file_is_read(read: Read) -> None:
    found = read(
        uv_toml='find-links = ["/srv/wheels"]\n'
        '[[index]]\nname = "extra"\nurl = "https://extra/"\n'
        '[[index]]\nurl = "https://mirror/"\ndefault = true\n'
    )
    assert found.indexes == ("https://mirror/", "https://extra/")
    assert found.find_links == ("file:///srv/wheels",)


def test_uvs_older_file_options_are_read(read: Read) -> None:
    found = read(uv_toml='index-url = "https://mirror/"\nextra-index-url = ["https://extra/"]\n')
    assert found.indexes == ("https://mirror/", "https://extra/")


def test_an_index_for_chosen_packages_alone_is_not_asked_for_others(read: Read) -> None:
    toml = '[[index]]\nname = "torch"\nurl = "https://torch/"\nexplicit = true\n'
    assert read(uv_toml=toml).indexes == (DEFAULT_INDEX,)


def test_uvs_users_file_is_found_at_home(read: Read, home: Path, tmp_path: Path) -> None:
    (home / ".config" / "uv" / "uv.toml").write_text('index-url = "https://user/"\n')
    elsewhere = tmp_path / "xdg" / "uv"
    elsewhere.mkdir(parents=True)
    (elsewhere / "uv.toml").write_text('index-url = "https://xdg/"\n')
    assert read(UV_CONFIG_FILE="").indexes[0] == "https://user/"
    xdg = read(UV_CONFIG_FILE="", XDG_CONFIG_HOME=str(elsewhere.parent))
    assert xdg.indexes[0] == "https://xdg/"


def test_uvs_variables_go_before_its_file(read: Read) -> None:
    found = read(uv_toml='index-url = "https://file/"\n', UV_DEFAULT_INDEX="https://env/")
    assert found.indexes == ("https://env/",)


def test_a_broken_file_of_uvs_is_passed_over(read: Read) -> None:
    assert read(uv_toml="[[index", UV_INDEX="https://one/").indexes == (
        DEFAULT_INDEX,
        "https://one/",
    )


# -- both --------------------------------------------------------------------


def test_uvs_index_goes_before_pips(read: Read) -> None:
    found = read(
        UV_DEFAULT_INDEX="https://uv/",
        PIP_INDEX_URL="https://pip/",
        UV_INDEX="https://uv-extra/",
        PIP_EXTRA_INDEX_URL="https://pip-extra/",
    )
    assert found.indexes == ("https://uv/", "https://uv-extra/", "https://pip-extra/")


def test_pips_no_index_does_not_take_uvs_index_away(read: Read) -> None:
    assert read(PIP_NO_INDEX="1", UV_DEFAULT_INDEX="https://uv/").indexes == ("https://uv/",)


def test_an_index_named_twice_is_asked_once(read: Read) -> None:
    found = read(PIP_INDEX_URL="https://one/", PIP_EXTRA_INDEX_URL="https://one/ https://two/")
    assert found.indexes == ("https://one/", "https://two/")


def test_a_folder_is_made_an_address(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    found = read(PIP_FIND_LINKS="wheels ~/more file:///srv/wheels")
    assert found.find_links == (
        f"file://{tmp_path}/wheels",
        "file:///home/somebody/more",
        "file:///srv/wheels",
    )


def test_the_default_index_is_asked_first_and_further_ones_after_it() -> None:
    settings = IndexSettings((DEFAULT_INDEX, "http://127.0.0.1:1/simple/"), ("file:///wheels",))
    with PackageIndex(settings) as index:
        sources = [each["url"] for each in index.finder.sources]
    with PackageIndex(IndexSettings((DEFAULT_INDEX,))) as index:
        (default,) = [each["url"] for each in index.finder.sources]
    assert default.startswith("https://")
    assert [url.rstrip("/") for url in sources] == [
        default.rstrip("/"),
        "http://127.0.0.1:1/simple",
        "file:///wheels",
    ]


def test_without_any_index_nobody_is_asked() -> None:
    with pytest.raises(FetchError, match="no package index"):
        PackageIndex(IndexSettings(()))
