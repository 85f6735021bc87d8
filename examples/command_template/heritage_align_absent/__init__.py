"""Describes the command; what it runs is imported when it is called."""

from __future__ import annotations

from heritage_align import CommandSpec, hookimpl


@hookimpl
def heritage_align_commands() -> list[CommandSpec]:
    """Add the command."""
    return [
        CommandSpec(
            "absent",
            target="heritage_align_absent.command:command",
            summary="Pictures in which no region answers a phrase.",
        )
    ]
