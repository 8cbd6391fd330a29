"""DistributedDataParallel without torch's compiler, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
import torch
import torch.distributed as dist
from torch.nn import functional
from mlnet.training.ddp import replicate

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 3))
replica = replicate(model)
functional.cross_entropy(replica(torch.ones(5, 4)), torch.zeros(5, dtype=torch.long)).backward()
assert all(weight.grad is not None for weight in model.parameters())
assert "torch._dynamo" not in sys.modules
assert torch._dynamo.__name__ == "torch._dynamo"  # whoever wants it still gets it
replicate(model)
"""


def test_a_step_is_made_without_the_compiler_which_is_there_for_others() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
