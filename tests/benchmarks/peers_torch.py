"""The worker of PyTorch: snntorch, spikingjelly, native activations, and the stop-gradient trick.

Operation by operation is eager PyTorch; compiled is `torch.compile` of the activation, as in a
compiled model: a graph for the value and one for the gradient. Without PyTorch every question is
answered by that.
"""

import sys

from peers_pairs import PAIRS, trick
from peers_worker import THREADS, RefusedError, serve

KEEPS_FREED = False


def step(pair, kind, compiled):
    import torch

    torch.set_num_threads(THREADS)
    activation = _activation(PAIRS[pair], kind)
    # A whole graph of this very shape or an exception, but nothing that silently runs eagerly.
    activation = (
        torch.compile(activation, fullgraph=True, dynamic=False) if compiled else activation
    )

    def value_and_gradient(x, upstream):
        y = activation(x)
        (gradient,) = torch.autograd.grad(y, x, upstream)
        return y.detach(), gradient

    return value_and_gradient


def _activation(pair, kind):
    import torch

    values = {"relu": torch.relu, "sigmoid": torch.sigmoid, "step": lambda x: (x >= 0).to(x.dtype)}
    if kind in ("snntorch", "spikingjelly"):
        return _of_library(pair, kind)
    if kind == "native":
        if pair.value == "step":
            raise RefusedError("", "a step has no derivative of its own")
        return values[pair.value]
    return trick(pair, kind, values[pair.value], torch, torch.Tensor.detach)


def _of_library(pair, name):
    make = getattr(pair, name)
    if make is None:
        raise RefusedError("", f"{name} has no such pair")
    if name == "snntorch":
        import snntorch.surrogate as surrogate
    else:
        import spikingjelly.activation_based.surrogate as surrogate
    return make(surrogate)


def tensors(x, upstream):
    import torch

    return torch.from_numpy(x).requires_grad_(), torch.from_numpy(upstream)


def array(tensor):
    return tensor.numpy()


def wait():
    pass


def forget():
    torch = sys.modules.get("torch")
    if torch:
        torch.compiler.reset()


if __name__ == "__main__":
    serve(sys.modules[__name__])
