"""The command line in this process, on the small collection of tests/conftest.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from heritage_align.cli import cli
from heritage_align.pipeline import Pipeline

Call = Callable[..., Result]


@pytest.fixture
def call() -> Call:
    """Run a command; an exception that is no way to end a command fails the test with its traceback."""

    def run(*arguments: str | Path) -> Result:
        result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def refused(call: Call) -> Callable[..., str]:
    """Run a command that must end with status 2 and one message on stderr; return the message."""

    def run(*arguments: str | Path) -> str:
        result = call(*arguments)
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        assert result.stderr.lower().count("error:") == 1, result.stderr
        assert "Traceback" not in result.stderr
        return result.stderr

    return run


@pytest.fixture(scope="session")
def laclip_file(laclip: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _written(laclip, tmp_path_factory)


@pytest.fixture(scope="session")
def scan_file(scan: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _written(scan, tmp_path_factory)


def _written(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("config") / "config.yaml"
    file.write_text(yaml.safe_dump(pipeline.config.as_dict(), allow_unicode=True), encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def captions(pictures: Path) -> Path:
    """A table of the ten good pictures and the bad one, two texts each."""
    rows = ["image,id,text,language,phrases"]
    for name in [*(f"p{n}.png" for n in range(10)), "p3x.png"]:
        rows.append(f"{pictures / name},{name}-zh,第{name}号 蓝地缠枝莲纹，白鹤两只,zh,蓝地|白鹤")
        rows.append(f'{pictures / name},{name}-en,"number {name}, two cranes on blue",en,two cranes|blue')
    file = pictures.parent / f"{pictures.name}-captions.csv"
    file.write_text("\n".join(rows).replace(f"{pictures}/", f"{pictures.name}/") + "\n", encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def scan_store(scan_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _built(scan_file, tmp_path_factory)


@pytest.fixture(scope="session")
def laclip_store(laclip_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _built(laclip_file, tmp_path_factory)


def _built(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("built") / "store"
    result = CliRunner().invoke(cli, ["index", "build", str(config), "--out", str(store)])
    assert result.exit_code == 0, result.output
    return store
