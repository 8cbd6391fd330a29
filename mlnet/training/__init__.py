"""Training: the process of a node that trains, its model, and inference with what was trained.

It imports data, kernels, store, task and util; only here is torch loaded, and in the child process only.
Begin with :mod:`mlnet.training.process` and :mod:`mlnet.training.worker`.
"""
