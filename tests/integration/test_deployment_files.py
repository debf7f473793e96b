"""What is deployed or run by a shell is checked by the tools of its own kind; no docker is needed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.prefix) / "bin"
SCRIPTS = ["ops/up", "ops/test", "ops/lock", "ops/bench", "ops/compose/secrets", ".ci/run"]


def run(*command: str, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    program, *arguments = command
    return subprocess.run(
        [str(BIN / program), *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def compose() -> Any:
    """The compose file, as YAML's own reader has it (check-jsonschema brings one)."""
    from ruamel.yaml import YAML

    return YAML(typ="safe").load(ROOT / "docker-compose.yml")


def test_the_compose_file_keeps_the_specification():
    checked = run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")
    assert checked.returncode == 0, checked.stdout


def test_a_broken_compose_file_would_be_seen(tmp_path: Path):
    (tmp_path / "bad.yml").write_text("services: {worker: {imagine: celery}}\n")
    checked = run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "bad.yml", cwd=tmp_path)
    assert checked.returncode == 1


def test_the_dockerfile_is_clean():
    linted = run("hadolint", "--format", "json", "ops/compose/Dockerfile")
    assert json.loads(linted.stdout) == []


def test_a_dockerfile_of_worse_habits_would_be_seen(tmp_path: Path):
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN cd /tmp\n")
    assert json.loads(run("hadolint", "--format", "json", "Dockerfile", cwd=tmp_path).stdout) != []


@pytest.mark.parametrize("script", SCRIPTS)
def test_shell_scripts_are_clean(script: str):
    linted = run("shellcheck", "--external-sources", script)
    assert linted.returncode == 0, linted.stdout


def test_every_service_has_an_init_and_limits_and_no_service_of_ours_is_root(compose: Any):
    for name, service in compose["services"].items():
        assert service["init"] is True, name
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}, name
    dockerfile = (ROOT / "ops" / "compose" / "Dockerfile").read_text()
    assert dockerfile.rindex("\nUSER 10001") > dockerfile.rindex("\nFROM")


def test_a_worker_may_take_longer_to_stop_than_a_task_may_run(compose: Any):
    from worker.settings import load_settings

    limit = load_settings({}, env_file=None).task_time_limit_seconds
    for name in ("worker", "worker-health"):
        assert int(compose["services"][name]["stop_grace_period"].removesuffix("s")) > limit


def test_health_has_a_worker_of_its_own_and_two_beats_stand_ready(compose: Any):
    services = compose["services"]
    queues = {name: services[name]["command"][2].split(",") for name in ("worker", "worker-health")}
    assert queues == {"worker": ["celery", "mongo.data"], "worker-health": ["mongo.health", "mongo.ops"]}
    assert services["beat"]["deploy"]["replicas"] == 2


def test_every_secret_is_a_file_that_the_script_makes(compose: Any, tmp_path: Path):
    script = tmp_path / "ops" / "compose" / "secrets"
    script.parent.mkdir(parents=True)
    script.write_bytes((ROOT / "ops" / "compose" / "secrets").read_bytes())
    for _ in range(2):  # the second changes nothing
        made = subprocess.run(["/bin/sh", str(script)], capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
    assert "left as it is" in made.stderr
    files = {Path(secret["file"]) for secret in compose["secrets"].values()}
    assert {tmp_path / file for file in files} == set((tmp_path / ".local" / "secrets").iterdir())
    assert (tmp_path / ".local" / "secrets").stat().st_mode & 0o777 == 0o700


def test_no_secret_stands_in_the_compose_file(compose: Any):
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            assert "PASSWORD" not in name or str(value).startswith("/run/secrets/")


def test_redis_keeps_what_it_is_given(compose: Any):
    command = " ".join(compose["services"]["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command
