"""What an import costs: the core and the thin plugin modules load no heavy library."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from heritage_align_plugins import PLUGINS

from heritage_align.plugins import BUILTIN
from heritage_align.testing.checks.settings import HEAVY

ROOT = Path(__file__).parents[1]


def loaded_after(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has loaded after running `code`."""
    script = f"import sys\nsys.path[:0] = {[str(ROOT), str(ROOT / 'plugins')]!r}\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_the_package_alone_loads_nothing_but_itself() -> None:
    loaded = loaded_after("import heritage_align; heritage_align.__version__")
    assert not loaded & {*HEAVY, "numpy", "PIL", "pydantic", "pluggy", "yaml", "click", BUILTIN}


@pytest.mark.parametrize(
    "code",
    [
        "from heritage_align import ComponentSpec, hookimpl",
        "from heritage_align.plugin import BuildContext, ComponentConfig, ConfigError, Registry, Regions, hookimpl",
        "import heritage_align.data, heritage_align.evaluation, heritage_align.training",
        "from heritage_align.training import TrainerConfig, TrainingJob, TrainingOutcome",
        "import heritage_align.types, heritage_align.protocols, heritage_align.errors",
        "import heritage_align.config, heritage_align.planning, heritage_align.schema",
        "import heritage_align.testing, heritage_align.testing.pytest_plugin",
        "import heritage_align.scaffold",
        "import heritage_align_plugins.alignment.description, heritage_align_plugins.cl2cm.description",
    ],
)
def test_the_light_modules_load_no_heavy_library(code: str) -> None:
    assert not loaded_after(code) & set(HEAVY)


def test_describing_every_built_in_loads_no_heavy_library() -> None:
    """One process for all: the registry, every component's settings, and the schema of a whole config."""
    code = (
        "from heritage_align.plugins import default_registry\n"
        "from heritage_align.schema import config_schema\n"
        "config_schema(default_registry())\n"
        "print('described', len(default_registry().components()), file=sys.stderr)"
    )
    assert not loaded_after(code) & set(HEAVY)


def test_ops_need_torch_and_nothing_of_the_package() -> None:
    loaded = loaded_after(
        "import heritage_align.ops\n"
        "own = [m for m in sys.modules if m.startswith('heritage_align.')]\n"
        "assert all(m.startswith('heritage_align.ops') for m in own), own"
    )
    assert "torch" in loaded
    assert not loaded & {"pydantic", "pluggy", "yaml", "click", "PIL", "cv2", BUILTIN}


def _imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_thin_plugin_module_imports_what_describes_a_plugin_alone(plugin: str) -> None:
    thin = {m for m in _imports(ROOT / "plugins" / BUILTIN / plugin / "__init__.py") if not m.startswith("__future__")}
    assert thin
    assert thin <= {
        "heritage_align.plugin",
        "heritage_align.plugin.ComponentSpec",
        "heritage_align.plugin.HealthCheck",
        "heritage_align.plugin.hookimpl",
    }, f"{plugin}/__init__.py imports {sorted(thin)}"
