"""Functions whose dual numbers are wrong in torch, or forget something: J v against differences and against Jᵀ u."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import landscape as ls
from landscape.curvature import Jacobian

Tensor = torch.Tensor
STEP = 1e-4
PLACES = torch.tensor([[0, 1, 1], [0, 2, 2], [3, 1, 1]])


class Of(nn.Module):
    """A function of three by three matrices, one an example."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(4, 9), function

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.function(z).reshape(-1) for z in self.layer(x).view(-1, 3, 3)])


def _definite(z: Tensor) -> Tensor:
    return z @ z.T + 3 * torch.eye(3, dtype=z.dtype)


def _products(z: Tensor, **options: bool) -> Tensor:
    return z.new_full((4, 3), 2.0).scatter_reduce(0, PLACES, z, "prod", **options)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "det": torch.det,
    "slogdet": lambda z: torch.linalg.slogdet(z)[1],
    "logdet": lambda z: torch.logdet(_definite(z)),
    "inv": lambda z: torch.linalg.inv(_definite(z)),
    "cholesky": lambda z: torch.linalg.cholesky(_definite(z)),
    "cholesky_inverse": lambda z: torch.cholesky_inverse(torch.linalg.cholesky(_definite(z))),
    "cholesky_inverse, upper": lambda z: torch.linalg.cholesky(_definite(z)).mT.cholesky_inverse(upper=True),
    "eigvalsh": lambda z: torch.linalg.eigvalsh(z + z.T),
    "svdvals": torch.linalg.svdvals,
    "qr": lambda z: torch.linalg.qr(z)[1],
    "matrix_exp": torch.matrix_exp,
    "lu_solve": lambda z: torch.linalg.lu_solve(*torch.linalg.lu_factor(_definite(z)), z),
    "prod": lambda z: z.prod(1),
    "cumprod": lambda z: z.cumprod(1),
    "std": lambda z: z.std(1),
    "logsumexp": lambda z: z.logsumexp(1),
    "sort": lambda z: z.sort(1)[0],
    "median": lambda z: z.median(1)[0],
    "normalize": lambda z: nn.functional.normalize(z, dim=1),
    "fft": lambda z: torch.fft.fft2(z).abs(),
    "scatter_reduce, prod": _products,
    "scatter_reduce, prod alone": lambda z: _products(z, include_self=False),
    "scatter_reduce, function": lambda z: torch.scatter_reduce(z, 0, PLACES[:2], z[:2] ** 2, "prod"),
    "scatter_reduce_": lambda z: (z * 1).scatter_reduce_(1, PLACES % 3, z, "prod"),
    "scatter_reduce, mean": lambda z: z.scatter_reduce(1, PLACES % 3, z**2, "mean"),
    "scatter_reduce, amax": lambda z: z.scatter_reduce(1, PLACES % 3, z**2, "amax"),
    "index_add": lambda z: z.index_add(0, torch.tensor([0, 0]), z[:2] ** 2),
    "setitem": lambda z: torch.cat([z[:1] * 0, z[1:]]).index_put((torch.tensor([0]),), z[:1] ** 2),
    "renorm": lambda z: z.renorm(2, 0, 0.5),
}
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "PReLU": nn.PReLU,
    "GLU": lambda: nn.GLU(),
    "Softshrink": nn.Softshrink,
    "GELU, tanh": lambda: nn.GELU("tanh"),
    "Mish": nn.Mish,
    "CELU": lambda: nn.CELU(0.5),
    "Softplus": lambda: nn.Softplus(3, 1),
    "LogSoftmax": lambda: nn.LogSoftmax(1),
    "LayerNorm": lambda: nn.LayerNorm(6),
    "RMSNorm": lambda: nn.RMSNorm(6),
    "GroupNorm": lambda: nn.GroupNorm(2, 6),
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(6, 3)),
    "weight norm, old": lambda: torch.nn.utils.weight_norm(nn.Linear(6, 3), dim=1),
    "orthogonal, cayley": lambda: parametrizations.orthogonal(nn.Linear(6, 6), orthogonal_map="cayley"),
    "orthogonal, exponential": lambda: parametrizations.orthogonal(nn.Linear(6, 6), orthogonal_map="matrix_exp"),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("name", [*FUNCTIONS, *LAYERS])
def test_tangents_are_differences(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = Of(FUNCTIONS[name]) if name in FUNCTIONS else nn.Sequential(nn.Linear(4, 6), LAYERS[name]())
        model, x = model.double(), torch.randn(3, 4, dtype=torch.float64)
        width = model(x).shape[1]
        objective = ls.Objective(model, nn.MSELoss(), (x, torch.zeros(3, width, dtype=torch.float64)))
        v, u = (torch.randn(n, dtype=torch.float64) for n in (objective.space.n, 3 * width))
    names = list(objective.space.names)

    def outputs(step: float) -> Tensor:
        parts = objective.space.split(objective.vector() + step * v)
        with torch.no_grad():
            return torch.func.functional_call(model, dict(zip(names, parts, strict=True)), (x,)).reshape(-1)

    near, far = ((outputs(h) - outputs(-h)) / (2 * h) for h in (STEP, 2 * STEP))
    expected = (4 * near - far) / 3
    for backend in ("forward", "autograd"):
        J = Jacobian(objective, backend=backend)
        assert float((J @ v - expected).norm()) <= 1e-7 * float(expected.norm()), backend
        assert abs(float(u @ expected - v @ (J.T @ u))) <= 1e-7 * float(u.norm() * expected.norm())
    G = ls.GGN(objective, backend="forward", columns="batch")
    block = torch.stack([v, 2 * v], dim=1)
    one = ls.GGN(objective, backend="autograd") @ v
    assert float((G @ block - torch.stack([one, 2 * one], dim=1)).norm()) <= 1e-10 * float(one.norm())
