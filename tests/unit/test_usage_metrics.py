"""What Prometheus reads of what gateways report."""

import re
from pathlib import Path

import msgspec
import pytest

from modelry.routing.messages import (
    BUCKETS_S,
    Histogram,
    Load,
    MetricsReport,
    Route,
    ServiceLoad,
    ServiceMetrics,
    decode_from_gateway,
    encode,
)
from modelry.usage.exposition import histogram, sample
from modelry.usage.metrics import Metrics

PATH = "u-0123456789ab/demo"
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "api.md"


def route(service_id: str = "svc_1", path: str = PATH, state: str = "running") -> Route:
    return Route(service_id, path, "u-0123456789ab", ("chat",), state, "", 0)


def observed(**counts: int) -> Histogram:
    """So many observations in a bucket; `b0` is the first. Each took a second."""
    found = [0] * (len(BUCKETS_S) + 1)
    for bucket, count in counts.items():
        found[int(bucket[1:])] = count
    return Histogram(tuple(found), float(sum(found)))


def counted(requests: int = 1, path: str = PATH, status: int = 200) -> ServiceMetrics:
    seen = observed(b3=requests)
    return ServiceMetrics(path, {status: requests}, 10 * requests, 3, seen, seen, seen, seen)


def report(process: int = 1, **services: ServiceMetrics) -> MetricsReport:
    return MetricsReport(f"process-{process}", services)


def samples(metrics: Metrics) -> dict[str, float]:
    """Sample → value, as a scraper reads them."""
    lines = [line for line in metrics.text().splitlines() if not line.startswith("#")]
    found = {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}
    assert len(found) == len(lines), "a sample stands there twice"
    return found


def requests(metrics: Metrics, path: str = PATH, status: int = 200) -> float:
    return samples(metrics)[f'modelry_requests_total{{service="{path}",status="{status}"}}']


# -- the format --------------------------------------------------------------


def test_a_label_is_escaped() -> None:
    assert sample("x", 1, service='a"b\\c\nd') == r'x{service="a\"b\\c\nd"} 1'
    assert sample("x", 0.5) == "x 0.5"


def test_a_histograms_buckets_count_everything_up_to_their_bound() -> None:
    lines = list(histogram("x", observed(b0=2, b2=3, b18=1), service="s"))
    assert lines[:3] == [
        'x_bucket{service="s",le="0.0001"} 2',
        'x_bucket{service="s",le="0.00025"} 2',
        'x_bucket{service="s",le="0.0005"} 5',
    ]
    assert lines[-4:] == [
        'x_bucket{service="s",le="60.0"} 5',
        'x_bucket{service="s",le="+Inf"} 6',
        'x_sum{service="s"} 6.0',
        'x_count{service="s"} 6',
    ]
    assert len(lines) == len(BUCKETS_S) + 3


def test_every_metric_has_its_kind_and_stands_in_the_guide() -> None:
    metrics = Metrics(lambda: (route(),))
    metrics.gateway_connected(1)
    metrics.report(1, report(svc_1=counted()))
    text = metrics.text()
    assert text.endswith("\n")
    kinds = dict(re.findall(r"^# TYPE (\w+) (counter|gauge|histogram)$", text, re.MULTILINE))
    named = {
        re.sub(r"_(bucket|sum|count)$", "", name.partition("{")[0]) for name in samples(metrics)
    }
    assert named == kinds.keys() == set(re.findall(r"^# HELP (\w+) .+$", text, re.MULTILINE))
    assert kinds.keys() == set(re.findall(r"`(modelry_\w+)", GUIDE.read_text()))


# -- counters ----------------------------------------------------------------


def test_a_report_replaces_the_one_before_and_services_it_leaves_out_stay() -> None:
    metrics = Metrics(tuple)
    metrics.gateway_connected(1)
    metrics.report(1, report(svc_1=counted(2), svc_2=counted(7, "public/other")))
    metrics.report(1, report(svc_1=counted(5)))
    assert requests(metrics) == 5
    assert requests(metrics, "public/other") == 7
    assert samples(metrics)[f'modelry_prompt_tokens_total{{service="{PATH}"}}'] == 50


def test_images_and_speech_are_counted_beside_tokens() -> None:
    metrics = Metrics(tuple)
    for gateway in (1, 2):
        metrics.gateway_connected(gateway)
        used = {"images": 2, "pixels": 8192, "audio_s": 1.5, "characters": 40}
        counted_too = msgspec.structs.replace(counted(), **used)
        metrics.report(gateway, report(gateway, svc_1=counted_too))
    found = samples(metrics)
    named = ("images", "image_pixels", "audio_seconds", "characters")
    values = [found[f'modelry_{name}_total{{service="{PATH}"}}'] for name in named]
    assert values == [4, 16384, 3.0, 80]


def test_a_report_of_a_gateway_that_counts_tokens_alone_is_read() -> None:
    fields = msgspec.json.decode(encode(report(svc_1=counted())))
    for name in ("images", "pixels", "audio_s", "characters"):
        del fields["services"]["svc_1"][name]
    message = decode_from_gateway(msgspec.json.encode(fields))
    assert message == report(svc_1=counted())


def test_gateways_are_added_up() -> None:
    metrics = Metrics(tuple)
    for gateway in (1, 2):
        metrics.gateway_connected(gateway)
        metrics.report(gateway, report(gateway, svc_1=counted(gateway)))
    metrics.report(2, report(2, svc_1=counted(4, status=503)))
    found = samples(metrics)
    assert requests(metrics) == 1
    assert requests(metrics, status=503) == 4
    for name in ("first_token", "between_tokens", "queue", "gateway"):
        assert found[f'modelry_{name}_seconds_bucket{{service="{PATH}",le="0.001"}}'] == 5
        assert found[f'modelry_{name}_seconds_bucket{{service="{PATH}",le="0.0005"}}'] == 0
        assert found[f'modelry_{name}_seconds_sum{{service="{PATH}"}}'] == 5


def test_a_counter_never_goes_down_when_gateways_go() -> None:
    metrics = Metrics(tuple)
    for gateway in range(1, 101):
        metrics.gateway_connected(gateway)
        metrics.report(gateway, report(gateway, svc_1=counted(10)))
        metrics.gateway_gone(gateway)
        assert requests(metrics) == 10 * gateway
    assert samples(metrics)["modelry_gateways"] == 0


def test_a_service_made_anew_under_its_path_goes_on_counting() -> None:
    metrics = Metrics(tuple)
    metrics.gateway_connected(1)
    metrics.report(1, report(svc_1=counted(3)))
    metrics.report(1, report(svc_2=counted(4)))
    assert requests(metrics) == 7


# -- gauges ------------------------------------------------------------------


def test_load_is_what_the_connected_gateways_have_now() -> None:
    metrics = Metrics(lambda: (route(), route("svc_2", "public/quiet")))
    for gateway in (1, 2):
        metrics.gateway_connected(gateway)
        metrics.load(gateway, Load({"svc_1": ServiceLoad(3, gateway, 0.0)}))
    inflight = f'modelry_inflight_requests{{service="{PATH}"}}'
    waiting = f'modelry_waiting_requests{{service="{PATH}"}}'
    assert (samples(metrics)[inflight], samples(metrics)[waiting]) == (6, 3)
    assert samples(metrics)['modelry_inflight_requests{service="public/quiet"}'] == 0

    metrics.load(1, Load({"svc_1": ServiceLoad(0, 0, 0.0)}))
    assert (samples(metrics)[inflight], samples(metrics)[waiting]) == (3, 2)
    metrics.gateway_gone(2)
    assert (samples(metrics)[inflight], samples(metrics)[waiting]) == (0, 0)


def test_gateways_and_services_are_counted() -> None:
    routes = [route("svc_1"), route("svc_2", "public/a"), route("svc_3", "public/b", "failed")]
    metrics = Metrics(lambda: routes)
    metrics.gateway_connected(1)
    found = samples(metrics)
    assert found["modelry_gateways"] == 1
    assert found['modelry_services{state="running"}'] == 2
    assert found['modelry_services{state="failed"}'] == 1


@pytest.mark.parametrize("path", ['public/"quoted"', "public/back\\slash"])
def test_an_unusual_path_breaks_no_line(path: str) -> None:
    metrics = Metrics(tuple)
    metrics.gateway_connected(1)
    metrics.report(1, report(svc_1=counted(1, path)))
    for line in metrics.text().splitlines():
        assert line.startswith("#") or re.fullmatch(
            r'[a-z_]+(\{([a-z]+="([^"\\]|\\["\\n])*",?)*\})? [0-9.]+', line
        )


def test_a_process_that_comes_back_on_another_connection_is_counted_once() -> None:
    metrics = Metrics(tuple)
    for connection in (1, 2, 3):
        metrics.gateway_connected(connection)
        metrics.report(connection, report(7, svc_1=counted(10 * connection)))
        metrics.gateway_gone(connection)
        assert requests(metrics) == 10 * connection
