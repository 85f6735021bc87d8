"""Makes `kit_subjects` importable: components that are right, and components with one fault each."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
