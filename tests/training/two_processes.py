"""What each of two processes computes, for test_distributed.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from heritage_align.training import distributed

sys.path.insert(0, str(Path(__file__).parent))
import toy

folder = Path(sys.argv[1])
torch.set_num_threads(1)
with distributed.process_group("cpu") as device:
    assert device == "cpu"
    rank = distributed.rank()
    model = torch.nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.copy_(torch.arange(6.0).reshape(2, 3).cos())
        model.bias.zero_()
    rows = torch.arange(12.0).reshape(4, 3).sin()[2 * rank : 2 * rank + 2]
    out = distributed.gather(model(rows))
    loss = torch.logsumexp(out @ out.T, dim=1).prod()
    loss.backward()

    used = [torch.zeros(2, requires_grad=True), torch.zeros(1, dtype=torch.float64, requires_grad=True)]
    frozen = torch.zeros(2)
    if rank == 1:
        (3 * used[0]).sum().backward()
    ((1 + 2 * rank) * used[1]).sum().backward()
    distributed.average_gradients([*model.parameters(), *used, frozen])

    found = {
        "rank": rank,
        "world": distributed.world_size(),
        "gathered": distributed.gather(torch.tensor([[float(rank), 10.0 + rank]])).tolist(),
        "loss": loss.item(),
        "weight": model.weight.grad.tolist(),
        "bias": model.bias.grad.tolist(),
        "unused": used[0].grad.tolist(),
        "double": [used[1].grad.tolist(), str(used[1].grad.dtype)],
        "frozen": frozen.grad,
        "decided": distributed.from_first(70.25 if rank == 0 else 70.0),
    }
    (folder / f"{rank}.json").write_text(json.dumps(found))
    distributed.barrier()
    toy.train(folder / "run", toy.Points(dropout=0.0))
