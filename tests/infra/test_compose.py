"""docker-compose.yml and the Dockerfile keep what they promise: read, not run.

`make compose-chaos` runs them. Each rule is checked on the file itself and, where Docker's compose
is installed, on what it makes of the file.
"""

import json
import os
import re
import shutil
import subprocess

import pytest
import yaml

from infra.settings import PROJECT

COMPOSE = PROJECT / "docker-compose.yml"
DOCKERFILE = PROJECT / "infra" / "docker" / "Dockerfile"
PROFILES = ("monitoring", "load", "tools")
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
OURS = {"shortlist-serving", "shortlist-pipelines"}
THEIRS = {
    "apache/kafka:4.1.1", "redis:8", "nginx:1.28", "prom/prometheus:v3.5.0", "grafana/grafana:12.1.1",
}  # fmt: skip
MEMORY_MAX_GIB = 6
DONE = "service_completed_successfully"


def as_written():
    """The file with its defaults, mounts and ports in the long form that compose would give them."""
    found = yaml.safe_load(VARIABLE.sub(lambda m: m[2] or "", COMPOSE.read_text()))
    for service in found["services"].values():
        service["volumes"] = [_long_mount(mount) for mount in service.get("volumes", [])]
        service["ports"] = [_long_port(port) for port in service.get("ports", [])]
    return found


def as_rendered():
    """What `docker compose config` makes of it, without anybody's .env."""
    if shutil.which("docker") is None:
        pytest.skip("absent: docker compose")
    command = ["docker", "compose", "-f", str(COMPOSE), "--env-file", os.devnull]
    command += [part for profile in PROFILES for part in ("--profile", profile)]
    told = subprocess.run(
        [*command, "config", "--format", "json"], capture_output=True, text=True,
        env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
    )  # fmt: skip
    if "is not a docker command" in told.stderr or "unknown" in told.stderr:
        pytest.skip("absent: docker compose")
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)


@pytest.fixture(scope="module", params=[as_written, as_rendered], ids=lambda form: form.__name__)
def stack(request):
    return request.param()


@pytest.fixture
def services(stack):
    return stack["services"]


def test_nothing_listens_outside_loopback(services):
    ports = {name: port for name, it in services.items() for port in it.get("ports", [])}
    assert {"nginx", "admin", "mlflow", "prometheus", "kafka", "grafana"} == set(ports)
    assert {port["host_ip"] for port in ports.values()} == {"127.0.0.1"}
    assert all(it.get("network_mode", "none") == "none" for it in services.values())


def test_nobody_is_root_and_nobody_can_become_it(services):
    for name, it in services.items():
        assert it["user"] == "10001:10001", name
        assert it["cap_drop"] == ["ALL"], name
        assert it["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "cap_add", "devices", "pid", "ipc"} & set(it), name


def test_only_named_volumes_and_tmpfs_can_be_written(stack):
    for name, it in stack["services"].items():
        assert it["read_only"] is True, name
        for mount in it.get("volumes", []):
            assert mount["type"] == "volume", name
            assert mount["source"] in stack["volumes"], name
        for mount in it.get("tmpfs", []):
            # Over a folder that is there a tmpfs takes that folder's mode, at the latest when the
            # container starts again: what is to be written needs its owner named.
            place, _, options = mount.partition(":")
            assert "mode=1777" in options if place == "/tmp" else "mode=" not in options, name
            assert "size=" in options, f"{name}: {place} could eat all memory"
    assert any("config:uid=10001,gid=10001" in it for it in stack["services"]["kafka"]["tmpfs"])


def test_every_long_running_service_says_whether_it_is_well(services):
    for name, it in services.items():
        if it.get("restart") == "unless-stopped":
            test = it["healthcheck"]["test"]
            assert test[0] in {"CMD", "CMD-SHELL"}, name
            assert not re.search(r"java|kafka-|\.sh\b", " ".join(test)), f"{name}: costs a Java"
            assert it["logging"]["options"]["max-file"], name


def test_a_job_that_ends_is_waited_for_by_somebody(services):
    """`up --wait` fails on any container that has ended, unless another waits for that end."""
    waited_for = {
        needed
        for it in services.values()
        for needed, how in it.get("depends_on", {}).items()
        if how["condition"] == DONE
    }
    jobs = {name for name, it in services.items() if "restart" not in it and "profiles" not in it}
    assert jobs == {"prepare", "bootstrap"} == waited_for


def test_volumes_get_their_owner_from_the_first_job(services):
    """Docker copies the owner of the folder that an empty volume is first mounted on."""
    owned = DOCKERFILE.read_text().split("install -d -o 10001 -g 10001")[1].split("ENV")[0].split()
    first = {mount["source"]: mount["target"] for mount in services["prepare"]["volumes"]}
    assert set(first.values()) <= set(owned)

    def after_prepare(name):
        needs = services[name].get("depends_on", {})
        return "prepare" in needs or any(after_prepare(needed) for needed in needs)

    for name, it in services.items():
        if name == "prepare":
            continue
        for mount in it.get("volumes", []):
            assert mount["source"] in first, name
            assert after_prepare(name), name
            foreign = it["image"] in THEIRS and not mount.get("read_only")
            # Another image's folder has another owner, which would be copied over ours.
            assert not foreign or mount["volume"] == {"nocopy": True}, name


def test_limits_add_up_to_what_a_laptop_has(services):
    sums = {"memory": 0.0}
    for name, it in services.items():
        assert float(it["cpus"]) <= 1, f"{name}: more than one core fails where there is one"
        assert it["pids_limit"], name
        if "profiles" not in it:
            sums["memory"] += _gib(it["mem_limit"]) * int(it.get("scale", 1))
    assert sums["memory"] <= MEMORY_MAX_GIB


def test_every_image_is_built_here_or_named_by_its_release(services):
    for name, it in services.items():
        if "build" in it:
            assert it["image"] in OURS, name
            assert it["build"]["target"] == it["image"].removeprefix("shortlist-"), name
        else:
            assert it["image"] in THEIRS, name


def test_the_api_can_reach_neither_mlflow_nor_kafka(stack):
    networks = {name: set(it.get("networks", [])) for name, it in stack["services"].items()}
    assert not networks["api"] & (networks["mlflow"] | networks["kafka"])
    assert not stack["services"]["api"].get("ports")
    assert all(stack["networks"][name].get("internal") for name in networks["api"])
    # What only the simulated world may know is mounted where it is made and where it is lived.
    truth = {
        name
        for name, it in stack["services"].items()
        if any(mount["source"] == "truth" for mount in it.get("volumes", []))
    }
    assert truth == {"prepare", "bootstrap", "users"}


def test_what_only_a_person_may_say_is_nowhere_near_a_request(services):
    holders = {
        name
        for name, it in services.items()
        if any(mount["source"] == "operator" for mount in it.get("volumes", []))
    }
    assert holders == {"prepare", "admin", "grafana", "tools"}


def test_there_is_no_default_secret(services):
    for name, it in services.items():
        for key, value in (it.get("environment") or {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|CREDENTIAL", key):
                assert key.endswith("FILE"), f"{name}: {key}"
                assert value.startswith(
                    ("/var/lib/shortlist-secrets/", "/var/lib/shortlist-operator/")
                ), f"{name}: {key}"
    assert not re.search("PASSWORD|SECRET|TOKEN", "".join(_variables()))
    assert not re.search(r"requirepass|\bauth\b|user ", _conf("redis.conf"))


def test_each_setting_stands_in_one_place_with_its_default():
    told = dict(
        re.findall(r"^#?([A-Z_]+)=(.*)$", (PROJECT / ".env.example").read_text(), re.MULTILINE)
    )
    assert told == _variables()


def test_the_proxy_hides_a_replica_that_dies():
    conf = _conf("nginx.conf")
    # Found anew each second, left early, and asked again elsewhere, posts included.
    assert "resolver 127.0.0.11 valid=1s" in conf
    assert "proxy_pass http://$api:8000" in conf
    assert re.search(r"proxy_next_upstream error timeout .*http_503.* non_idempotent;", conf)
    assert re.search(r"location = /metrics \{\s*return 404", conf)
    assert re.search(r"listen 8000 default_server;\s*server_name _;[^}]*return 400", conf)


def test_the_images_are_made_as_promised():
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]
    named = {re.search(r"AS ([\w-]+)", stage)[1]: stage for stage in stages}
    for target in ("serving", "pipelines"):
        # Packages before code: a change of code installs nothing again.
        assert named[target].index("/opt/venv") < named[target].index("--from=code")
        assert re.findall(r"^USER (.*)$", named[target], re.MULTILINE) == ["10001:10001"]
        assert "--require-hashes -r /locks/" in named[f"{target}-packages"]
    assert "torch" not in named["serving"] + named["serving-packages"] + named["base"]
    # Nothing that needs a registry to be resolved, or one kind of machine to run on.
    assert not re.search(r"# ?syntax=|@sha256|amd64|x86_64|arm64|aarch64|:latest", text)


def _variables():
    found = dict(VARIABLE.findall(COMPOSE.read_text()))
    assert all(found.values()), f"no default: {found}"
    return found


def _conf(name):
    lines = (PROJECT / "infra" / "docker" / name).read_text().splitlines()
    return "\n".join(line for line in lines if not line.strip().startswith("#"))


def _long_mount(mount):
    if isinstance(mount, dict):
        return mount
    source, target, *mode = mount.split(":")
    return {"type": "volume", "source": source, "target": target, "read_only": mode == ["ro"]}


def _long_port(port):
    host_ip, published, target = port.split(":")
    return {"host_ip": host_ip, "published": published, "target": target}


def _gib(limit):
    number, unit = re.fullmatch(r"(\d+)([mg]?)", str(limit)).groups()
    return int(number) / {"g": 1, "m": 2**10, "": 2**30}[unit]
