"""The examples for operators say what the program takes: unit, container file, settings and proxy."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from heritage_align.cli.serve import command
from heritage_align.service.settings import ServiceSettings, read_settings

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "service"
CONTAINERFILE = (EXAMPLES / "Containerfile").read_text("utf-8").replace("\\\n", " ")


def parsed(arguments: list[str]) -> dict[str, Any]:
    """What the command line makes of the arguments after ``heritage-align``; raises for one that it does not know."""
    name, *rest = arguments
    assert name == command.name
    return command.make_context(name, rest).params


@pytest.fixture(scope="module")
def unit() -> ConfigParser:
    parser = ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(EXAMPLES / "heritage-align.service")
    return parser


@pytest.fixture(scope="module")
def settings() -> ServiceSettings:
    return read_settings(EXAMPLES / "service.yaml")


def test_the_unit_starts_what_there_is(unit: ConfigParser) -> None:
    program, *arguments = shlex.split(unit["Service"]["ExecStart"])
    assert Path(program).name == "heritage-align"
    options = parsed(arguments)
    assert (options["workers"], options["host"]) == (2, "127.0.0.1")
    assert options["settings"].name == "service.yaml"
    [credential] = [line.partition(":")[0] for line in unit["Service"]["LoadCredential"].split()]
    assert str(options["token_file"]) == f"%d/{credential}"


def test_the_unit_waits_and_reloads_as_the_service_does(unit: ConfigParser, settings: ServiceSettings) -> None:
    service = unit["Service"]
    assert int(service["TimeoutStopSec"]) > settings.stop_seconds
    assert service["KillMode"] == "mixed"
    assert "-HUP" in service["ExecReload"]
    assert int(service["LimitNOFILE"]) > 2 * settings.connections
    assert int(service["RestartPreventExitStatus"]) == 2  # as tests/cli has it of every command with a fault


def test_systemd_takes_the_unit(unit: ConfigParser, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze")
    text = (EXAMPLES / "heritage-align.service").read_text("utf-8")
    start = shlex.split(unit["Service"]["ExecStart"])[0]
    file = tmp_path / "heritage-align.service"
    for content, told in ((text.replace(start, "/bin/true"), ""), (text.replace("KillMode", "KilMode"), "KilMode")):
        file.write_text(content, encoding="utf-8")
        done = subprocess.run([program, "verify", str(file)], capture_output=True, text=True, check=False)
        if "SD_BUS" in done.stderr or "Failed to initialize manager" in done.stderr:
            pytest.skip("systemd-analyze verifies nothing here")
        lines = [line for line in done.stderr.splitlines() if "heritage-align" in line]
        assert any(told in line for line in lines) if told else lines == []


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} +(.*)$", CONTAINERFILE, re.M)


def test_the_container_starts_what_there_is(service: Any) -> None:
    [entry], [more] = instructions("ENTRYPOINT"), instructions("CMD")
    program, *arguments = [*json.loads(entry), *json.loads(more)]
    assert program == "heritage-align"
    options = parsed(arguments)
    assert (options["host"], str(options["port"])) == ("0.0.0.0", *instructions("EXPOSE"))
    [check] = re.findall(r"^HEALTHCHECK .*? CMD (\[.*\])$", CONTAINERFILE, re.M)
    python, *rest = json.loads(check)
    assert python == "python3"
    for port, status in ((service.port, 0), (1, 1)):
        asked = [part.replace("8000", str(port)) for part in rest]
        done = subprocess.run(["python3", *asked], capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr


def test_the_container_is_built_of_what_there_is() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    [installed] = re.findall(r'"(/src\[.*\])"', CONTAINERFILE)
    extras = Requirement(installed.replace("/src", "heritage-align")).extras
    assert "serve" in extras <= set(project["optional-dependencies"])
    torch = Requirement(next(line for line in project["dependencies"] if line.startswith("torch>")))
    [asked] = re.findall(r'"(torch[^"]*)"', CONTAINERFILE)
    assert Requirement(asked).specifier == torch.specifier
    stages = re.findall(r"^FROM \S+ AS (\S+)$", CONTAINERFILE, re.M)
    for variant in ("cpu", "cuda"):
        assert {f"build-{variant}", f"run-{variant}"} <= set(stages)
    [cuda] = re.findall(r"ARG CUDA=(\d+)\.(\d+)", CONTAINERFILE)
    assert f"whl/cu{''.join(cuda)}" in CONTAINERFILE
    assert instructions("USER") == ["10001:10001"]
    for shell in instructions("RUN"):
        subprocess.run(["bash", "-n", "-c", shell], check=True)


def test_the_proxy_waits_longer_and_takes_as_much(settings: ServiceSettings) -> None:
    text = (EXAMPLES / "nginx.conf").read_text("utf-8")
    [seconds] = re.findall(r"proxy_read_timeout (\d+)s;", text)
    [size] = re.findall(r"client_max_body_size (\d+)m;", text)
    assert int(seconds) > settings.answer_seconds
    assert int(size) * 2**20 >= settings.body_bytes
    assert text.count("{") == text.count("}")


def test_nginx_takes_the_proxy(tmp_path: Path) -> None:
    nginx, openssl = shutil.which("nginx"), shutil.which("openssl")
    if nginx is None or openssl is None:
        pytest.skip("no nginx, or no openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate]
    subprocess.run([*made, "-days", "1", "-subj", "/CN=localhost"], check=True, capture_output=True)
    site = (EXAMPLES / "nginx.conf").read_text("utf-8")
    site = re.sub(r"(ssl_certificate +)\S+;", rf"\g<1>{certificate};", site)
    site = re.sub(r"(ssl_certificate_key +)\S+;", rf"\g<1>{key};", site)
    (tmp_path / "site.conf").write_text(site)
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ access_log off; include {tmp_path}/site.conf; }}"
    )
    done = subprocess.run([nginx, "-t", "-c", tmp_path / "nginx.conf"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
