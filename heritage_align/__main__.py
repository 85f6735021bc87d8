"""``python -m heritage_align`` is the same as ``heritage-align``."""

from heritage_align.cli import main

main()
