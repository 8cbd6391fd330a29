"""SGD, Adam and AdamW on torch's own functional forms.

The classes in ``torch.optim`` do the same arithmetic, but the first one that a process creates imports
torch's compiler, which takes longer than importing torch itself, and longer than training a small model.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from mlnet.task.schema import AdamParameters, OptimizerSpec, SgdParameters


class FunctionalOptimizer:
    """Updates weights by their gradients.

    Args:
        weights: the model's.
        optimizer: type and parameters from the definition.
    """

    def __init__(self, weights: Iterable[Tensor], optimizer: OptimizerSpec) -> None:
        self._weights = list(weights)
        self._parameters = optimizer.parameters
        self._decoupled = optimizer.type == "AdamW"
        # None until the first step: torch's sgd makes the buffers itself.
        self._momenta: list[Tensor | None] = [None] * len(self._weights)
        if isinstance(optimizer.parameters, AdamParameters):
            self._averages = self._zeros()
            self._squares = self._zeros()
            self._maxima = self._zeros() if optimizer.parameters.amsgrad else []
            # Tensors, because torch's adam counts in place.
            self._steps = [torch.tensor(0.0) for _ in self._weights]

    def zero_grad(self) -> None:
        """Drop the gradients."""
        for weight in self._weights:
            weight.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update the weights, all of which have a gradient."""
        gradients = [weight.grad for weight in self._weights if weight.grad is not None]
        if isinstance(self._parameters, SgdParameters):
            self._step_sgd(self._parameters, gradients)
        else:
            self._step_adam(self._parameters, gradients)

    def _zeros(self) -> list[Tensor]:
        return [torch.zeros_like(weight) for weight in self._weights]

    def _step_sgd(self, parameters: SgdParameters, gradients: list[Tensor]) -> None:
        sgd(
            self._weights,
            gradients,
            self._momenta,
            lr=parameters.learning_rate,
            momentum=parameters.momentum,
            weight_decay=parameters.weight_decay,
            dampening=parameters.dampening,
            nesterov=parameters.nesterov,
            maximize=False,
        )

    def _step_adam(self, parameters: AdamParameters, gradients: list[Tensor]) -> None:
        if self._decoupled:
            # Decoupled weight decay, before the step as in torch.optim.AdamW (Loshchilov and Hutter, arXiv
            # 1711.05101).
            for weight in self._weights:
                weight.mul_(1 - parameters.learning_rate * parameters.weight_decay)
        adam(
            self._weights,
            gradients,
            self._averages,
            self._squares,
            self._maxima,
            self._steps,
            lr=parameters.learning_rate,
            beta1=parameters.beta1,
            beta2=parameters.beta2,
            eps=parameters.eps,
            weight_decay=0.0 if self._decoupled else parameters.weight_decay,
            amsgrad=parameters.amsgrad,
            maximize=False,
        )
