"""Train what a document says into a folder, under torchrun, for test_two_processes.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
import small

torch.set_num_threads(1)
small.train(json.loads(sys.argv[2]), Path(sys.argv[1]))
