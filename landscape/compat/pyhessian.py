"""PyHessian's interface (Yao et al. 2020, arXiv:1912.07145) on this engine.

``from landscape.compat.pyhessian import hessian, get_esd_plot`` takes the place of PyHessian's own imports:
arguments and what comes back are the same. What differs is said where it does.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from landscape.curvature import Hessian
from landscape.errors import InputError
from landscape.objective import Objective
from landscape.objective.losses import DENOMINATORS, CriterionLoss, as_loss
from landscape.results import Result
from landscape.seeds import check_seed, generator
from landscape.spectra import eigsh, spectral_density, trace

__all__ = ["get_esd_plot", "hessian"]

Numbers = list[float]
FEWEST = 4  # samples that give an error bar
WIDEST = 0.01  # of the range of the eigenvalues: the smoothing of a plot


class hessian:
    """The eigenvalues, trace and density of a loss's Hessian, asked for as of PyHessian.

    Parameters
    ----------
    model : torch.nn.Module
        The model. It is evaluated in evaluation mode, and afterwards it is as it was: its mode, its gradients and
        the random generators too.
    criterion : callable
        ``criterion(outputs, targets) -> loss``. Torch's own criteria are averaged over all data by what their mean
        divides by (counted labels, class weights), or added up for ``reduction="sum"``; any other one counts as a
        mean over examples, as in PyHessian.
    data : tuple of two tensors, optional
        One batch ``(inputs, targets)``. Either this or ``dataloader``.
    dataloader : iterable, optional
        Batches of two tensors, the same ones in each pass.
    cuda : bool
        Whether to compute on the GPU; the model stays where it is.
    seed : int, optional
        Chooses the random vectors. By default what ``torch.manual_seed`` was called with; nothing is drawn
        from torch's generators. Each further call on the same object has vectors of its own.

    Attributes
    ----------
    params : list of torch.nn.Parameter
        The parameters that require a gradient, in the model's order: what an eigenvector has one tensor for. A
        shared one is there once.

    Raises
    ------
    InputError
        For none or both of ``data`` and ``dataloader``, and for ``cuda=True`` without a GPU.

    Notes
    -----
    Each call is of the parameters that the model has then. Parameters that the loss does not use have zeros.
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: Any,
        data: Any = None,
        dataloader: Any = None,
        cuda: bool = True,
        *,
        seed: int | None = None,
    ) -> None:
        if (data is None) == (dataloader is None):
            raise InputError("the data must be given once", got="none" if data is None else "data and dataloader",
                             fix="pass data=(inputs, targets) or dataloader=loader")  # fmt: skip
        if cuda and not torch.cuda.is_available():
            raise InputError("cuda=True needs a GPU", got="none that torch can use", fix="pass cuda=False")
        self.full_dataset = data is None
        self.device = "cuda" if cuda else "cpu"
        self.seed = torch.initial_seed() if seed is None else check_seed(seed)
        self._objective = Objective(
            model, _loss(criterion), dataloader if self.full_dataset else tuple(data), device=self.device
        )
        self._calls = 0

    @property
    def params(self) -> list[nn.Parameter]:
        """The parameters that require a gradient, in the model's order."""
        return list(self._objective.parameters.values())

    def eigenvalues(
        self, maxIter: int = 100, tol: float = 1e-3, top_n: int = 1
    ) -> tuple[Numbers, list[list[torch.Tensor]]]:
        """Return the eigenvalues of largest magnitude, and their eigenvectors.

        Parameters
        ----------
        maxIter : int
            Products to make for each eigenvalue, at most; those unused by one are used for the others. One more for
            each measures its residual.
        tol : float
            Relative residual: a pair has converged when ``|Hv - λv| <= tol |λ|``, so that a true eigenvalue lies
            within ``tol`` of it. (PyHessian stops when λ changes by less than this from one product to the next.)
        top_n : int
            How many.

        Returns
        -------
        values : list of float
            The largest magnitude first.
        vectors : list of list of torch.Tensor
            For each a unit vector, as one tensor for each of ``params``.

        Warns
        -----
        RuntimeWarning
            When some pairs have not converged; it says which remedy there is.

        Notes
        -----
        Thick-restart Lanczos, see :func:`landscape.eigsh`; for the memory, too.
        """
        _at_least(1, "maxIter", maxIter)
        _at_least(1, "top_n", top_n)
        budget = max(maxIter, 2) * top_n + top_n
        found = eigsh(self._hessian(), top_n, "LM", tol=tol, max_matvecs=budget, seed=self._next_seed())
        self._say(found, "eigenvalues", "raise maxIter or tol")
        space = self._objective.space
        vectors = [
            [part.to(dtype) for part, dtype in zip(space.split(v), space.dtypes, strict=True)]
            for v in found.vectors.unbind(1)
        ]
        return found.values.tolist(), vectors

    def trace(self, maxIter: int = 100, tol: float = 1e-3) -> Numbers:
        """Return samples whose mean is the trace.

        Parameters
        ----------
        maxIter : int
            Most samples, of one product each; at least 4, without which there is no error bar.
        tol : float
            Stop when the 95 % interval of the mean is within ``tol`` of it. (PyHessian stops when the mean changes
            by less than this from one sample to the next, as it soon does at any accuracy: it is typically off by
            5 % then, for 0.1 % asked.)

        Returns
        -------
        list of float
            Take ``numpy.mean`` of it.

        Warns
        -----
        RuntimeWarning
            When ``maxIter`` samples do not suffice for ``tol``; it gives the interval that they have.

        Notes
        -----
        Hutchinson's estimator, see :func:`landscape.trace`, whose other methods need fewer products.
        """
        _at_least(FEWEST, "maxIter", maxIter)
        found = trace(self._hessian(), rtol=tol, max_products=maxIter, method="hutchinson", seed=self._next_seed())
        self._say(found, "trace", "raise maxIter or tol, or use landscape.trace")
        samples: Numbers = found.dataset["samples"].to_numpy().tolist()
        return samples or [found.estimate]  # few parameters: exact, without samples

    def density(self, iter: int = 100, n_v: int = 1) -> tuple[list[Numbers], list[Numbers]]:
        """Return the spectral density as nodes and weights, for :func:`get_esd_plot`.

        Parameters
        ----------
        iter : int
            Lanczos steps for each random vector, of one product each; at most as many as there are parameters.
        n_v : int
            Random vectors.

        Returns
        -------
        eigenvalues, weights : list of list of float
            For each random vector the nodes of a quadrature and their weights, which add up to 1. All lists are of
            one length: where a vector's Lanczos run ends early, its last node is repeated with weight 0.

        Notes
        -----
        Stochastic Lanczos quadrature, see :func:`landscape.spectral_density`. Memory: ``iter`` vectors.
        """
        _at_least(1, "iter", iter)
        _at_least(1, "n_v", n_v)
        found = spectral_density(self._hessian(), probes=n_v, steps=iter, seed=self._next_seed())
        self._say(found, "density", "ask again")
        nodes, weights = found.nodes, found.weights
        last = np.nanmax(nodes, axis=1, keepdims=True)
        return np.where(np.isnan(nodes), last, nodes).tolist(), weights.tolist()

    def _hessian(self) -> Hessian:
        return Hessian(self._objective)

    def _next_seed(self) -> int:
        self._calls += 1
        return int(generator(self.seed, self._calls).integers(2**62))

    def _say(self, found: Result, what: str, remedy: str) -> None:
        if not found.ok:
            warnings.warn(f"{what} {found.status}: {found.message}; {remedy}", RuntimeWarning, stacklevel=3)


def _loss(criterion: Any) -> Any:
    """Return a criterion of torch as it is, and any other function of outputs and targets as a mean over examples."""
    own = isinstance(criterion, nn.Module) and all(type(criterion).forward is not k.forward for k in DENOMINATORS)
    if not own and isinstance(as_loss(criterion), CriterionLoss):
        return criterion

    def mean_over_examples(model: nn.Module, batch: Any) -> tuple[torch.Tensor, int]:
        inputs, targets = batch
        return criterion(model(inputs), targets), len(inputs)

    return mean_over_examples


def _at_least(least: int, name: str, number: int) -> None:
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < least:
        raise InputError(f"{name} must be a whole number of {least} or more", got=number, fix=f"pass {name}={least}")


def get_esd_plot(eigenvalues: Any, weights: Any, filename: str | Path = "example.pdf") -> Any:
    """Draw what :meth:`hessian.density` returns, write it to a file, and return the figure.

    Parameters
    ----------
    eigenvalues, weights : list of list of float
        Nodes and weights, one list for each random vector.
    filename : str or Path
        Where to; the ending says the format, as in ``matplotlib.figure.Figure.savefig``.

    Returns
    -------
    matplotlib.figure.Figure
        It does not belong to pyplot, whose backend stays as it is.

    Notes
    -----
    Each node is smoothed by a Gaussian as wide as the gap to its neighbours, and at most 1 % of the range; the
    grid is finer than that at each of them, whatever the scale. The plot of
    :class:`landscape.results.SpectralDensity` shows more: bands, single eigenvalues, shares.
    """
    from matplotlib.figure import Figure

    nodes, shares = (np.atleast_2d(np.asarray(part, float)) for part in (eigenvalues, weights))
    if nodes.shape != shares.shape or not nodes.size or not np.isfinite(nodes).all():
        raise InputError(
            "eigenvalues and weights must be lists of finite numbers, of one shape",
            got=f"shapes {nodes.shape} and {shares.shape}",
            fix="pass what density() returned",
        )
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    grid, density = _smoothed(nodes, shares)
    axes.semilogy(grid, density, color="#0072B2")
    axes.set_ylim(density.max() * 1e-9, density.max() * 3)
    axes.set_xlabel("Eigenvalue")
    axes.set_ylabel("Density (Log Scale)")
    axes.set_title(f"smoothed by the gaps between nodes, at most {WIDEST:.0%} of the range", fontsize=9, loc="left")
    axes.grid(alpha=0.3)
    figure.savefig(filename)
    return figure


def _smoothed(nodes: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a grid and the mean density of the rows of nodes (probes, steps) on it."""
    order = np.argsort(nodes, axis=1)
    nodes, weights = (np.take_along_axis(part, order, axis=1) for part in (nodes, weights))
    span = float(np.ptp(nodes)) or float(np.abs(nodes).max()) or 1.0
    gaps = np.gradient(nodes, axis=1) if nodes.shape[1] > 1 else np.zeros_like(nodes)
    widths = np.clip(gaps, 1e-4 * span, WIDEST * span)
    near = nodes[..., None] + widths[..., None] * np.linspace(-4, 4, 17)
    margin = 0.05 * span
    even = np.linspace(nodes.min() - margin, nodes.max() + margin, 401)
    grid = np.union1d(near.ravel(), even)
    density = np.zeros_like(grid)
    for node, weight, width in zip(nodes.ravel(), weights.ravel(), widths.ravel(), strict=True):
        density += weight / (width * np.sqrt(2 * np.pi)) * np.exp(-0.5 * ((grid - node) / width) ** 2)
    return grid, density / len(nodes)
