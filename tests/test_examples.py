"""The example plugins as third parties have them: installed by pip into a folder of their own, tested, used."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ("plugin_template", "command_template", "trainer_template")
IGNORED = shutil.ignore_patterns("build", "*.egg-info", "__pycache__", ".pytest_cache")

USE = """
import json, sys
from dataclasses import asdict

import torch
from PIL import Image
from heritage_align_plugins.cn_clip.architecture import Architecture

from heritage_align import Pipeline
from heritage_align.plugins import default_registry
from heritage_align.testing import samples

text = {"text_hidden_size": 32, "text_num_hidden_layers": 1, "text_num_attention_heads": 2}
text["text_intermediate_size"] = 32
with open("tiny.json", "w") as file:
    json.dump(Architecture("tiny", 16, 32, 1, 32, 16, vision_head_width=16, **text).asdict(), file)

registry = default_registry()
plugin = registry.plugin_of("proposer", "saliency_boxes")
pipeline = Pipeline.from_config({
    "version": 1,
    "name": "saliency",
    "encoder": {"name": "cn_clip", "model": "tiny.json", "checkpoint": "random"},
    "proposer": {"name": "saliency_boxes", "count": 3},
    "fragmenter": {"name": "punctuation"},
    "similarity": {"name": "scan"},
    "runtime": {"device": "cpu"},
})
pictures = samples.images()
features = pipeline.encode_images(list(pictures.values()), list(pictures))
scores = pipeline.score(features, pipeline.encode_texts(samples.TEXTS))
json.dump({
    "state": plugin.state,
    "dist": plugin.dist,
    "file": sys.modules["heritage_align_saliency"].__file__,
    "regions": features.regions.lengths.tolist(),
    "finite": bool(torch.isfinite(scores).all()),
    "shape": list(scores.shape),
}, sys.stdout)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the examples as their users do, but into a temporary folder; the source tree is left as it is."""
    pytest.importorskip("setuptools", minversion="77", reason="pip builds the examples with setuptools")
    work = tmp_path_factory.mktemp("examples")
    sources = [str(shutil.copytree(ROOT / "examples" / name, work / name, ignore=IGNORED)) for name in EXAMPLES]
    target = work / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "--target", str(target), *sources], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def run(installed: Path, arguments: list[str], cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    paths = [str(installed), str(ROOT), str(ROOT / "plugins")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "HERITAGE_ALIGN_STRICT": "1",
        "OMP_NUM_THREADS": "1",
        **variables,
    }
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("example", EXAMPLES)
def test_its_own_tests_pass_as_installed(installed: Path, tmp_path: Path, example: str) -> None:
    tests = shutil.copytree(ROOT / "examples" / example / "tests", tmp_path / "tests", ignore=IGNORED)
    done = run(installed, ["-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


def test_it_is_discovered_and_runs_in_a_config(installed: Path, tmp_path: Path) -> None:
    done = run(installed, ["-c", USE], tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["state"] == "ok"
    assert found["dist"] == "heritage-align-saliency 0.1.0"
    assert Path(found["file"]).is_relative_to(installed)
    assert found["shape"] == [6, 4]
    assert found["finite"]
    assert all(1 <= n <= 4 for n in found["regions"])
    assert max(found["regions"]) > 1, "something stands out in one of the pictures"


def test_the_command_line_lists_and_checks_it(installed: Path, tmp_path: Path) -> None:
    done = run(installed, ["-m", "heritage_align", "plugins", "check", "saliency"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "proposer.saliency_boxes" in done.stdout
    done = run(installed, ["-m", "heritage_align", "plugins", "list", "--json"], tmp_path)
    assert {"saliency", "absent"} <= {plugin["name"] for plugin in json.loads(done.stdout)}


def test_a_command_is_on_the_first_page_before_it_is_imported(installed: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from heritage_align.cli import cli\n"
        "try: cli(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'heritage_align_absent.command', 'torch', 'numpy', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = run(installed, ["-c", code], tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"Commands of plugins:\n  absent +Pictures in which no region", done.stdout)
    done = run(installed, ["-m", "heritage_align", "absent", "--help"], tmp_path)
    assert "Example: heritage-align absent" in done.stdout


def test_it_is_switched_off_by_the_environment(installed: Path, tmp_path: Path) -> None:
    done = run(
        installed,
        ["-c", "from heritage_align.plugins import discover; print(*discover().names('proposer'))"],
        tmp_path,
        HERITAGE_ALIGN_DISABLE_PLUGINS="saliency",
    )
    assert "random_crops" in done.stdout
    assert "saliency_boxes" not in done.stdout


def test_this_environment_is_left_alone() -> None:
    """The main environment must not have the examples, or the tests above would not show that they were installed."""
    names = ("heritage_align_saliency", "heritage_align_absent")
    code = f"import importlib.util as u; print(*map(u.find_spec, {names}))"
    done = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None None"
