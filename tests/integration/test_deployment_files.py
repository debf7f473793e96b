"""What is deployed or run by a shell is checked by the tools of its own kind; no docker is needed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from ops.local import programs
from ops.local.servers import free_port
from tests.e2e.image import instructions

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.prefix) / "bin"
DOCKERFILE = ROOT / "ops" / "compose" / "Dockerfile"
SCRIPTS = ["ops/up", "ops/test", "ops/docs", "ops/lock", "ops/bench", "ops/compose/secrets", ".ci/run"]


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


def test_every_service_has_an_init_and_limits_and_none_is_root_or_can_be(compose: Any):
    for name, service in compose["services"].items():
        assert service["init"] is True, name
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}, name
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert (service["read_only"], service["tmpfs"]) == (True, ["/tmp"]), name  # noqa: S108 - a container's
        users = {"mongo:8.0": "mongodb", "redis:8.2": "redis", "celery-pymongo": None}
        assert service.get("user") == users[service["image"]], name
    last = [rest for name, rest in instructions(DOCKERFILE.read_text()) if name == "USER"]
    assert last == ["10001"]


def test_the_image_is_the_wheel_and_its_dependencies_alone():
    """What is copied by name falls behind what is imported; the wheel has all of it, and `celery mongo`."""
    followed = instructions(DOCKERFILE.read_text())
    last_from = max(number for number, (name, _) in enumerate(followed) if name == "FROM")
    assert [rest for name, rest in followed[last_from:] if name == "COPY"] == [
        "--from=build /opt/venv /opt/venv"
    ]
    assert dict(followed)["ENTRYPOINT"] == '["celery", "-A", "celery_pymongo"]'


def test_the_password_of_redis_is_in_no_command_line(compose: Any, tmp_path: Path):
    """The compose file's own command, with the server of the tests under Redis' name."""
    secret = tmp_path / "redis_password"
    secret.write_text(password := "s3cret")
    port, program = free_port(), tmp_path / "redis-server"
    program.write_text(f'#!/bin/sh\nexec {programs.redis_server_program()} "$@" --port {port}\n')
    program.chmod(0o755)
    shell, option, script = compose["services"]["redis"]["command"]
    script = script.replace("$$", "$").replace("/run/secrets/redis_password", str(secret))
    path = f"{tmp_path}:{os.environ['PATH']}"
    with subprocess.Popen([shell, option, script], cwd=tmp_path, env={"PATH": path}) as server:
        try:
            client = redis.Redis(port=port, password=password, retry=Retry(ConstantBackoff(0.05), 200))
            assert client.ping()
            assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
            commands = {" ".join(process.cmdline()) for process in psutil.process_iter()}
            assert any(str(port) in command for command in commands)
            assert not [command for command in commands if password in command]
            client.close()
        finally:
            server.terminate()


def test_a_worker_may_take_longer_to_stop_than_a_task_may_run(compose: Any):
    from worker.settings.fields import load_settings

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
