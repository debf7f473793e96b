"""The alerts, by Prometheus' own tool: each fires, and each stays silent where it should."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from ops.metrics.series import SERIES

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "ops" / "prometheus" / "rules.yml"
PAGE = ROOT / "docs" / "operate" / "alerts.md"

D = 'deployment="shop"'
WAITS = "db_client_connection_wait_time_seconds_bucket"
Series = dict[str, str]

# By alert: series that make it fire within the hour, and others that are well; a sample each minute.
CASES: dict[str, tuple[Series, Series]] = {
    "CeleryPymongoDown": (
        {f'celery_pymongo_verdict{{{D},verdict="down"}}': "1x60"},
        {f'celery_pymongo_verdict{{{D},verdict="down"}}': "0 1 0 1 0x57"},
    ),
    "CeleryPymongoDegraded": (
        {f'celery_pymongo_verdict{{{D},verdict="degraded"}}': "1x60"},
        {f'celery_pymongo_verdict{{{D},verdict="degraded"}}': "1x8 0x52"},
    ),
    "CeleryPymongoBlind": (
        {f"celery_pymongo_redis_up{{{D}}}": "0x60"},
        {
            f"celery_pymongo_redis_up{{{D}}}": "1x60",
            f"celery_pymongo_exporter_last_look_timestamp_seconds{{{D}}}": "0+60x60",
        },
    ),
    "CeleryPymongoProcessesLost": (
        {f'celery_pymongo_processes{{{D},node="a",state="missing"}}': "2x60"},
        {f'celery_pymongo_processes{{{D},node="a",state="lost"}}': "1x3 0x57"},
    ),
    "CeleryPymongoProcessesCutOff": (
        {
            f'celery_pymongo_circuits{{{D},node="a",state="open"}}': "1x60",
            f'celery_pymongo_circuits{{{D},node="a",state="closed"}}': "3x60",
        },
        {
            f'celery_pymongo_circuits{{{D},node="a",state="open"}}': "0x60",
            f'celery_pymongo_circuits{{{D},node="a",state="closed"}}': "4x60",
        },
    ),
    "CeleryPymongoPoolTimeouts": (
        {f'db_client_connection_timeouts_total{{{D},node="a"}}': "0+1x60"},
        {f'db_client_connection_timeouts_total{{{D},node="a"}}': "7x60"},
    ),
    "CeleryPymongoPoolWaits": (
        {
            f'{WAITS}{{{D},node="a",le="1"}}': "0x60",
            f'{WAITS}{{{D},node="a",le="5"}}': "0+60x60",
            f'{WAITS}{{{D},node="a",le="+Inf"}}': "0+60x60",
        },
        {
            f'{WAITS}{{{D},node="a",le="0.1"}}': "0+60x60",
            f'{WAITS}{{{D},node="a",le="+Inf"}}': "0+60x60",
        },
    ),
    "CeleryPymongoLeaks": (
        {f'celery_pymongo_leaks_total{{{D},node="a"}}': "0+1x60"},
        {f'celery_pymongo_leaks_total{{{D},node="a"}}': "3x60"},
    ),
    "CeleryPymongoBeatSilent": (
        {f"celery_pymongo_beat_silence_seconds{{{D}}}": "10+60x60"},
        {f"celery_pymongo_beat_silence_seconds{{{D}}}": "5x60"},
    ),
    "CeleryPymongoQueueOld": (
        {
            f'celery_pymongo_queue_oldest_seconds{{{D},queue="q"}}': "0+60x60",
            f'celery_pymongo_queue_gated{{{D},queue="q"}}': "0x60",
        },
        {
            f'celery_pymongo_queue_oldest_seconds{{{D},queue="q"}}': "0+60x60",
            f'celery_pymongo_queue_gated{{{D},queue="q"}}': "1x60",
        },
    ),
    "CeleryPymongoQueueGated": (
        {f'celery_pymongo_queue_gated{{{D},queue="q"}}': "1x60"},
        {f'celery_pymongo_queue_gated{{{D},queue="q"}}': "1x20 0x40"},
    ),
    "CeleryPymongoDeadLetters": (
        {f"celery_pymongo_dead_letters{{{D}}}": "2x60"},
        {f"celery_pymongo_dead_letters{{{D}}}": "0x60"},
    ),
    "CeleryPymongoConnectionsShort": (
        {
            f'celery_pymongo_server_connections{{{D},member="h:1"}}': "950x60",
            f'celery_pymongo_server_connections_available{{{D},member="h:1"}}': "50x60",
        },
        {
            f'celery_pymongo_server_connections{{{D},member="h:1"}}': "50x60",
            f'celery_pymongo_server_connections_available{{{D},member="h:1"}}': "950x60",
        },
    ),
}

needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="there is no promtool")


@pytest.fixture(scope="module")
def alerts() -> list[Any]:
    found = YAML(typ="safe").load(RULES)
    return [rule for group in found["groups"] for rule in group["rules"] if "alert" in rule]


def promtool(*arguments: str | Path) -> str:
    command = ["promtool", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
def test_the_rules_are_rules() -> None:
    assert "13 rules found" in promtool("check", "rules", RULES)


@needs_promtool
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("must_fire", [True, False], ids=["fires", "is silent"])
def test_an_alert_fires_and_is_silent_where_it_should(
    name: str, must_fire: bool, alerts: list[Any], tmp_path: Path
) -> None:
    series = CASES[name][0 if must_fire else 1]
    test = {
        "interval": "1m",
        "input_series": [{"series": one, "values": values} for one, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)',
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": "{}", "value": 1 if must_fire else 0}],
            }
            for minute in ([55] if must_fire else [5, 15, 35, 55])
        ],
    }
    path = tmp_path / "test.yml"
    path.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}))
    promtool("test", "rules", path)


def test_every_alert_has_a_case_a_severity_a_sentence_and_a_section(alerts: list[Any]) -> None:
    assert {rule["alert"] for rule in alerts} == set(CASES)
    headings = {line.removeprefix("## ") for line in PAGE.read_text().splitlines() if line.startswith("## ")}
    assert headings == set(CASES)
    for rule in alerts:
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["annotations"]["runbook_url"] == f"docs/operate/alerts.md#{rule['alert'].lower()}"


def test_every_series_of_a_rule_is_one_of_the_exporters(alerts: list[Any]) -> None:
    known = {
        f"{series.name}{ending}"
        for series in SERIES
        for ending in {"gauge": ("",), "counter": ("_total",), "histogram": ("_bucket",)}[series.kind]
    }
    names = {
        word
        for rule in alerts
        for word in rule["expr"].replace("(", " ").replace("{", " ").replace("[", " ").split()
        if word.startswith(("celery_pymongo_", "db_client_"))
    }
    assert {name.strip(")") for name in names} <= known
