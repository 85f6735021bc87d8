"""``heritage-align plugins``: list, show, check and create plugins."""

from __future__ import annotations

from pathlib import Path

import click

from heritage_align.cli.options import FileOrFolder, json_option, print_json
from heritage_align.errors import PluginError, did_you_mean
from heritage_align.hookspecs import KINDS, CommandSpec, ComponentSpec
from heritage_align.plugins import PluginInfo, default_registry, missing_requirements


@click.group(name="plugins")
def command() -> None:
    """List, show, check and create plugins.

    Example: heritage-align plugins list --kind proposer
    """


@command.command(name="list")
@click.option("--kind", type=click.Choice(KINDS), help="Only components of this kind.")
@json_option
def list_(kind: str | None, as_json: bool) -> None:
    """List plugins, their state, their components and their commands.

    Example: heritage-align plugins list --kind encoder
    """
    registry = default_registry()
    if as_json:
        print_json([_record(p) for p in registry.plugins if not kind or any(c.kind == kind for c in p.components)])
        return
    for plugin in registry.plugins:
        components = [c for c in plugin.components if kind in (None, c.kind)]
        if kind and not components and plugin.state == "ok":
            continue
        click.echo(f"{plugin.name} ({plugin.dist}): {plugin.state}{': ' + plugin.reason if plugin.reason else ''}")
        offered: list[ComponentSpec | CommandSpec] = [*components, *(() if kind else plugin.commands)]
        for spec in offered:
            missing = missing_requirements(spec)
            note = f"  [needs {', '.join(missing)}: {spec.install}]" if missing else ""
            click.echo(f"  {spec.kind + '.' + spec.name:<30}{spec.summary}{note}")


@command.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show one plugin, its components with their settings, and its commands.

    Of a broken one the traceback is shown.

    Example: heritage-align plugins show sift
    """
    plugin = _named(name)
    if as_json:
        print_json(_record(plugin))
        return
    click.echo(f"{plugin.name} ({plugin.dist}), module {plugin.module}: {plugin.state}")
    if plugin.trace:
        click.echo(plugin.trace, nl=False)
    elif plugin.reason:
        click.echo(plugin.reason)
    registry = default_registry()
    for spec in plugin.components if plugin.state == "ok" else ():
        click.echo(f"\n{spec.kind}.{spec.name}: {spec.summary}")
        click.echo(f"  needs {', '.join(spec.inputs) or 'nothing'}; gives {', '.join(spec.outputs) or 'scores'}")
        for key, info in registry.config_model(spec).model_fields.items():
            default = "required" if info.is_required() else f"default {info.default!r}"
            click.echo(f"  {key:<18}{info.description or ''} ({default})")
    for added in plugin.commands if plugin.state == "ok" else ():
        click.echo(f"\ncommand.{added.name}: {added.summary}")


@command.command()
@click.argument("name")
def check(name: str) -> None:
    """Import all that a plugin registers.

    Exit status 2 if a component, its settings or a command cannot be imported.

    Example: heritage-align plugins check sift
    """
    plugin = _named(name)
    if plugin.state != "ok":
        raise PluginError(f"plugin {name!r} is {plugin.state}: {plugin.reason}")
    registry = default_registry()
    for spec in plugin.components:
        registry.config_model(spec)
        registry.target(spec)
        click.echo(f"{spec.kind}.{spec.name}: imports")
    for command in plugin.commands:
        registry.command(command.name)
        click.echo(f"command.{command.name}: imports")
    click.echo("behaviour: see heritage_align.testing (run it in the plugin's own tests)")


@command.command()
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), default="proposer", show_default=True, help="Kind of component.")
@click.option("--to", type=FileOrFolder(), default=".", help="Folder in which the package is made.")
def new(name: str, kind: str, to: Path) -> None:
    """Create a plugin package, tests included.

    It holds one component, which works as it is.

    Example: heritage-align plugins new silk-colours --kind similarity
    """
    from heritage_align.scaffold import create_plugin

    click.echo(f"wrote {create_plugin(name, kind, to)}")


def _named(name: str) -> PluginInfo:
    plugins = {plugin.name: plugin for plugin in default_registry().plugins}
    if name not in plugins:
        raise PluginError(f"there is no plugin {name!r}.{did_you_mean(name, list(plugins))}")
    return plugins[name]


def _record(plugin: PluginInfo) -> dict[str, object]:
    return {
        "name": plugin.name,
        "module": plugin.module,
        "dist": plugin.dist,
        "state": plugin.state,
        "reason": plugin.reason,
        "components": [
            {
                "kind": spec.kind,
                "name": spec.name,
                "summary": spec.summary,
                "inputs": list(spec.inputs),
                "outputs": list(spec.outputs),
                "missing": missing_requirements(spec),
            }
            for spec in plugin.components
        ],
        "commands": [
            {"name": spec.name, "summary": spec.summary, "missing": missing_requirements(spec)}
            for spec in plugin.commands
        ],
    }
