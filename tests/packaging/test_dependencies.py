"""pyproject.toml, doctor and the imports say the same of every library; a missing optional one is one clear line."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from heritage_align.errors import MissingDependency
from heritage_align.evaluation.bleu import corpus_bleu
from heritage_align.evaluation.variance_ratio import variance_ratio_test
from heritage_align.health import LIBRARIES, OPTIONAL

ROOT = Path(__file__).parents[2]
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-contrib-python",
    "cn_clip": "cn-clip",
    "yaml": "pyyaml",
    "faiss": "faiss-cpu",
    "open_clip": "open_clip_torch",
}
ELSEWHERE = {"detectron2", "pytest"}  # from its own repository; and what loads heritage_align.testing brings itself
LOADED_BY_OTHERS = {"httptools", "uvloop"}  # by uvicorn, which we import
COME_WITH_OTHERS = {"datasets", "huggingface-hub", "pyarrow", "starlette", "uvloop"}  # which doctor names
OWN = {"heritage_align", "heritage_align_plugins"}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def names(lines: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in lines}


def imported(tree: ast.AST, everywhere: bool) -> Iterator[str]:
    """Top-level names of what is imported; ``everywhere`` also inside functions and conditions."""
    for node in ast.walk(tree) if everywhere else ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


def libraries(folder: str, everywhere: bool, without: str | None = None) -> set[str]:
    files = [file for file in (ROOT / folder).rglob("*.py") if without is None or ROOT / without not in file.parents]
    found = {name for file in files for name in imported(ast.parse(file.read_text("utf-8")), everywhere)}
    found -= {*sys.stdlib_module_names, *OWN, *ELSEWHERE}
    return {canonicalize_name(DISTRIBUTIONS.get(name, name)) for name in found}


def test_what_is_imported_is_asked_for_and_nothing_else(project: dict[str, Any]) -> None:
    needed, extras = names(project["dependencies"]), project["optional-dependencies"]
    optional = names(
        [line for name, lines in extras.items() if name not in ("test", "lint", "release") for line in lines]
    )
    everything = libraries("heritage_align", True) | libraries("plugins", True)
    assert everything == (needed | optional) - LOADED_BY_OTHERS
    assert optional >= LOADED_BY_OTHERS
    core = libraries("heritage_align", False, without="heritage_align/service")
    assert core <= needed, "an optional library is imported where it is used, not above"
    assert libraries("heritage_align/service", False) <= needed | names(extras["serve"])  # serve alone imports it


def test_doctor_calls_optional_what_is_optional(project: dict[str, Any]) -> None:
    needed, extras = names(project["dependencies"]), project["optional-dependencies"]
    assert names(list(LIBRARIES)) <= needed
    assert not names(list(OPTIONAL)) & needed
    for library, (extra, _) in OPTIONAL.items():
        assert canonicalize_name(library) in names(extras[extra])
    of_users = [line for name, lines in extras.items() if name not in ("test", "lint", "release") for line in lines]
    assert names(of_users) - needed - COME_WITH_OTHERS == names(list(OPTIONAL))


@pytest.mark.parametrize(
    ("module", "use", "message"),
    [
        ("sacrebleu.metrics.bleu", lambda: corpus_bleu(["a"], [["a"]], "en"), r"needs sacrebleu: .*\[evaluation\]"),
        ("scipy.stats", lambda: variance_ratio_test([1, 2], [1, 3]), r"needs scipy: .*\[evaluation\]"),
    ],
)
def test_a_missing_optional_library_is_one_line(
    monkeypatch: pytest.MonkeyPatch, module: str, use: Callable[[], object], message: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependency, match=message) as error:
        use()
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_the_demo_runs_without_the_optional_libraries(tmp_path: Path) -> None:
    blocked = f"import sys; sys.modules.update(dict.fromkeys({list(OPTIONAL)!r})); "
    paths = f"sys.path[:0] = {[str(ROOT), str(ROOT / 'plugins')]!r}; "
    start = "from heritage_align.cli import main; main()"
    demo = ["demo", "--artworks", "2", "--out", str(tmp_path / "out")]
    command = [sys.executable, "-c", blocked + paths + start, *demo]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "out").glob("*.html"))
