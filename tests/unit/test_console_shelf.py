"""What is found in the catalogue, and how a model is shown at a glance."""

from typing import Any, cast

import pytest

from modelry.catalog.cards import TASKS
from modelry.catalog.endpoints import FitView, ModelView, VariantView
from modelry.console import shelf
from modelry.console.shelf import Search, Shown


def variant(**fields: Any) -> VariantView:
    fit = FitView(verdict="fits", where="memory", memory_bytes=1, message="")
    given: dict[str, Any] = {
        "name": "Q4", "format": "gguf", "quantisation": "Q4_K_M", "source": "hf://a/b",
        "projector": None, "size_bytes": 1000, "estimated_bytes": None, "sha256": None,
        "revision": None, "files": [], "weights": "absent", "progress": None, "message": None,
        "allow_pickles": False, "allow_remote_code": False, "copied": False, "default": True,
        "fit": fit, "reason": None,
    }  # fmt: skip
    return VariantView(**(given | fields))


def shown(id_: str = "qwen3-8b", verdict: str = "fits", **fields: Any) -> Shown:
    fit = FitView(verdict=cast(Any, verdict), where="memory", memory_bytes=1, message="")
    weights = fields.pop("weights", "absent")
    given: dict[str, Any] = {
        "id": id_, "name": "Qwen3 8B", "reference": id_, "provider": "Alibaba Qwen",
        "licence": None, "homepage": None, "description": "Thinks before it answers.",
        "tasks": ("chat", "completion"), "tags": ("tools",), "parameters": 8_200_000_000,
        "context_tokens": 40960, "owner": None, "shared": False, "deployable": True,
        "reason": None, "variants": [variant(fit=fit, weights=weights)],
    }  # fmt: skip
    return shelf.shown(ModelView(**(given | fields)), frozenset())


@pytest.mark.parametrize(
    ("search", "found"),
    [
        (Search(), True),
        (Search(q="qwen THINKS"), True),
        (Search(q="qwen llama"), False),
        (Search(task="chat"), True),
        (Search(task="image"), False),
        (Search(tag="tools"), True),
        (Search(tag="vision"), False),
        (Search(provider="Alibaba Qwen"), True),
        (Search(provider="Alibaba"), False),
        (Search(size="medium"), True),
        (Search(size="small"), False),
        (Search(size="unheard of"), False),
        (Search(fits="yes"), True),
        (Search(here="yes"), False),
        (Search(own="yes"), False),
        (Search(task="chat", tag="tools", size="medium", q="8b"), True),
    ],
)
def test_all_that_is_looked_for_has_to_be_so(search: Search, found: bool) -> None:
    assert search.finds(shown()) is found


def test_a_model_of_unknown_size_has_none_of_the_sizes() -> None:
    unknown = shown(parameters=None)
    assert not any(Search(size=size).finds(unknown) for size in shelf.SIZES)
    assert Search().finds(unknown)


def test_every_size_is_of_one_class() -> None:
    for count in (1, 999_999_999, 1e9, 5e9, 14.9e9, 15e9, 80e9, 1e15):
        classes = [size for size, (low, high) in shelf.SIZES.items() if low <= count < high]
        assert len(classes) == 1


def test_a_filter_s_link_keeps_the_others_and_takes_itself_back() -> None:
    search = Search(q="a&b", task="chat")
    assert search.href(tag="tools") == "/models?q=a%26b&task=chat&tag=tools"
    assert search.href(task="chat") == "/models?q=a%26b"
    assert search.href(task="image") == "/models?q=a%26b&task=image"
    assert Search(task="chat").href(task="chat") == "/models"


def test_what_runs_here_best_comes_first_and_one_s_own_before_all() -> None:
    models = [
        shown("huge", "too_large"),
        shown("none", deployable=False),
        shown("tight", "tight"),
        shown("fits"),
        shown("here", "tight", weights="here"),
        shown("own", "too_large", owner="u-1"),
    ]
    order = [each.model.id for each in shelf.in_order(models)]
    assert order == ["own", "here", "fits", "tight", "huge", "none"]


def test_one_click_is_for_what_nothing_speaks_against() -> None:
    assert shown().deploys_at_once
    assert shown(verdict="tight").deploys_at_once
    assert not shown(verdict="too_large").deploys_at_once
    assert not shown(deployable=False).deploys_at_once


def test_paths_are_quoted() -> None:
    assert shown(reference="u-0/a b").path == "/models/u-0/a%20b"
    assert shown(reference="u-0/a&b").deploy_path == "/deploy?model=u-0%2Fa%26b"


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0"), (999, "999"), (134_515_008, "135M"), (8_200_000_000, "8.2B"), (999_900_000, "1B"),
     (1_000_000_000_000, "1T")],
)  # fmt: skip
def test_parameters_are_said_as_in_the_names_of_models(count: int, said: str) -> None:
    assert shelf.parameters(count) == said


@pytest.mark.parametrize(
    ("tokens", "said"), [(512, "512"), (4096, "4K"), (131072, "128K"), (1_048_576, "1M")]
)
def test_contexts_are_said_in_binary_thousands(tokens: int, said: str) -> None:
    assert shelf.context(tokens) == said


def test_each_task_has_its_drawing() -> None:
    assert set(shelf.TASK_ICONS) == set(TASKS)
