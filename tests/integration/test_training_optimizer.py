"""Our optimizers against the classes of torch.optim, bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from support.datasets import definition, torch_arguments
from torch.nn import functional

from mlnet.training.optimizer import FunctionalOptimizer

SGD = {"learning_rate": 0.1}
ADAM = {"learning_rate": 0.01}


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("SGD", SGD),
        ("SGD", SGD | {"momentum": 0.9, "weight_decay": 0.01, "dampening": 0.1}),
        ("SGD", SGD | {"momentum": 0.9, "nesterov": True}),
        ("Adam", ADAM),
        ("Adam", ADAM | {"beta1": 0.8, "beta2": 0.99, "eps": 1e-6, "weight_decay": 0.1}),
        ("Adam", ADAM | {"amsgrad": True}),
        ("AdamW", ADAM | {"weight_decay": 0.1}),
        ("AdamW", ADAM | {"weight_decay": 0.1, "amsgrad": True}),
    ],
)
def test_the_same_weights_as_torch(kind: str, parameters: dict[str, float]) -> None:
    task = definition(
        optimizer={"type": kind, "optimizer_initialization_parameters": parameters}
    ).ml.optimizer
    models = [torch.nn.Linear(5, 3), torch.nn.Linear(5, 3)]
    models[1].load_state_dict(models[0].state_dict())
    ours = FunctionalOptimizer(models[0].parameters(), task)
    theirs = getattr(torch.optim, kind)(models[1].parameters(), **torch_arguments(task))
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        rows = torch.randn(8, 5, generator=generator)
        for model, optimizer in zip(models, (ours, theirs), strict=True):
            optimizer.zero_grad()
            torch.autograd.backward(functional.mse_loss(model(rows), rows[:, :3]))
            optimizer.step()
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)


def test_training_does_not_import_the_compiler() -> None:
    """It would double what a trainer needs before its first step."""
    program = (
        "import sys, torch; from mlnet.training.optimizer import FunctionalOptimizer; import"
        " mlnet.training.child\n"
        "from support.datasets import definition\n"
        "layer = torch.nn.Linear(2, 2)\n"
        "optimizer = FunctionalOptimizer(layer.parameters(), definition().ml.optimizer)\n"
        "optimizer.zero_grad(); layer(torch.ones(1, 2)).sum().backward(); optimizer.step()\n"
        "sys.exit('torch._dynamo' in sys.modules)\n"
    )
    path = os.pathsep.join(filter(None, sys.path))
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ | {"PYTHONPATH": path})
