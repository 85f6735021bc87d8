"""``heritage-align config``: check a config, fill in its defaults, print its schema."""

from __future__ import annotations

import click

from heritage_align.cli.options import config_argument, print_json, read_config, set_option


@click.group(name="config")
def command() -> None:
    """Check a config, fill in its defaults, print its schema.

    Example: heritage-align config check laclip.yaml
    """


@command.command()
@config_argument
@set_option
def check(config: str, overrides: tuple[str, ...]) -> None:
    """Validate CONFIG and plan its pipeline.

    No model is loaded. Every fault is printed at once with its place; exit status 2 if there is one.

    Example: heritage-align config check laclip.yaml --set proposer.count=40
    """
    from heritage_align.planning import plan

    resolved = read_config(config, overrides)
    plan(resolved)
    click.echo(f"{config}: fits together ({' -> '.join(c.spec.name for c in resolved.components())})")


@command.command()
@config_argument
@set_option
def fill(config: str, overrides: tuple[str, ...]) -> None:
    """Print CONFIG with every default written out.

    Example: heritage-align config fill laclip.yaml > laclip-full.yaml
    """
    click.echo(read_config(config, overrides).to_yaml(), nl=False)


@command.command()
@click.argument("component", required=False, metavar="[KIND.NAME]")
def schema(component: str | None) -> None:
    """Print the JSON schema of a config, or of one component.

    Give it to an editor that completes and checks YAML.

    Example: heritage-align config schema similarity.scan
    """
    from heritage_align.errors import ConfigError
    from heritage_align.plugins import default_registry
    from heritage_align.schema import component_schema, config_schema

    if component is None:
        print_json(config_schema(default_registry()))
        return
    kind, separator, name = component.partition(".")
    if not separator:
        raise ConfigError([f"{component!r} is not of the form KIND.NAME, e.g. similarity.scan"], "config schema")
    print_json(component_schema(kind, name))
