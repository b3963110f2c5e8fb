"""Subspaces of eigenvectors: how they turn between times, and how much of a gradient lies in one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from landscape.errors import InputError
from landscape.results import EigenResult, Family, SubspaceResult
from landscape.results.provenance import collect, shared

ROWS = 1 << 20  # of a block of vectors that are brought to float64 together
NEARLY = 1e-2  # columns whose Gram matrix differs from I by less are made orthonormal through it

__all__ = ["overlap", "share"]


def overlap(a: Any, b: Any = None, k: int | None = None) -> SubspaceResult:
    """Return how much the spans of two sets of vectors have in common: Tr(P_a P_b) / k.

    Parameters
    ----------
    a, b : EigenResult, tensor (n, k), or several of them
        The first ``k`` columns of each span a subspace; they need not be orthonormal. Several, as a list, a
        dictionary by name or a family over time, give the matrix of all pairs. Without ``b``, ``a`` is
        compared with itself.
    k : int, optional
        The dimension; by default the fewest columns that one of them has.

    Returns
    -------
    SubspaceResult
        ``overlap`` (1 for equal subspaces, k/n on average for random ones) and ``cosines`` of the principal
        angles, beside ``baseline`` and ``chance()``. Where eigenvalues k and k + 1 are too close beside the
        residuals for the subspace to be defined, the status is ``"not converged"`` and the message says so;
        where nothing is known of value k + 1, the message says that too.

    Notes
    -----
    A subspace of eigenvectors is known as well as its residual and the gap to the next value allow: the sine
    of its largest angle to the true one is at most |R| / gap (Davis and Kahan), which is ``undetermined``.
    Ask ``eigsh`` for k + 1 pairs, so that the gap is known. Cost: n k² operations a pair, in float64;
    memory: a slab of rows, and a copy of vectors that are far from orthonormal.

    References
    ----------
    G. Gur-Ari, D. A. Roberts, E. Dyer, Gradient descent happens in a tiny subspace (2018). Å. Björck,
    G. H. Golub, Numerical methods for computing angles between linear subspaces, Math. Comp. 27 (1973).
    """
    left, single = _several(a, "a")
    right, alone = (left, single) if b is None else _several(b, "b")
    subspaces = [*left.values(), *right.values()] if b is not None else list(left.values())
    k = _dimension(k, subspaces)
    rows = {name: _Subspace(each, k) for name, each in left.items()}
    columns = rows if b is None else {name: _Subspace(each, k) for name, each in right.items()}
    n = _length([*rows.values(), *columns.values()])
    cosines = np.array([[row.cosines(column) for column in columns.values()] for row in rows.values()])
    dims = ("row",) * (not single) + ("column",) * (not alone)
    cosines = cosines.reshape([len(rows)] * (not single) + [len(columns)] * (not alone) + [k])
    coords: dict[str, Any] = {"angle": np.arange(k)}
    variables: dict[str, Any] = {
        "overlap": (dims, (cosines**2).mean(axis=-1), {"long_name": "Tr(P_a P_b) / k"}),
        "cosines": ((*dims, "angle"), cosines, {"long_name": "cosine of the principal angle"}),
    }
    for dim, one, side in (("row", single, rows), ("column", alone, columns)):
        slack = np.array([subspace.undetermined for subspace in side.values()])
        coords |= {} if one else {dim: list(side)}
        variables[f"undetermined_{dim}"] = ((), slack[0]) if one else (dim, slack)
    status, message = _said([*rows.items(), *(columns.items() if b is not None else ())])
    return SubspaceResult.make(
        variables, coords, n=n, k=k, status=status, message=message, provenance=_facts(subspaces, "overlap")
    )


def share(eigen: Any, vector: Any, k: int | None = None) -> SubspaceResult:
    """Return how much of a vector lies inside a subspace: |P g|² / |g|².

    Parameters
    ----------
    eigen : EigenResult or tensor (n, k), or several of them
        The first ``k`` columns span the subspace; they need not be orthonormal.
    vector : tensor (n,), or several of them
        A gradient, an update, a difference of checkpoints; several as a list, a dictionary by name, or the
        rows of a tensor (m, n). Several subspaces take as many vectors, or one for all. Tensors by parameter name
        are made flat with ``H.space.flatten``.
    k : int, optional
        The dimension; by default all columns.

    Returns
    -------
    SubspaceResult
        ``share`` and ``cumulative``, the share inside the first 1, 2, ..., k directions, beside ``baseline``
        k/n and ``chance()``: for a random subspace the share has the law Beta(k/2, (n-k)/2).

    Notes
    -----
    Cost: n k operations a vector, in float64; memory: a slab of rows.

    References
    ----------
    G. Gur-Ari, D. A. Roberts, E. Dyer, Gradient descent happens in a tiny subspace (2018).
    """
    given, single = _several(eigen, "eigen")
    k = _dimension(k, list(given.values()))
    subspaces = {name: _Subspace(each, k) for name, each in given.items()}
    n = _length(list(subspaces.values()))
    vectors, alone = _vectors(vector, n)
    if not single and len(vectors) not in (1, len(subspaces)):
        raise InputError("several subspaces take one vector each", got=f"{len(subspaces)} and {len(vectors)}",
                         fix="pass as many vectors, in the same order, or one for all")  # fmt: skip
    names = list(vectors if single or (isinstance(vector, Mapping) and len(vectors) > 1) else subspaces)
    spans = list(subspaces.values()) * (len(names) // len(subspaces))
    each = list(vectors.values()) * (len(names) // len(vectors))
    inside = np.array([span.inside(v) for span, v in zip(spans, each, strict=True)])
    cumulative = np.minimum(np.cumsum(inside, axis=1), 1.0)
    slack = np.array([span.undetermined for span in spans])
    alone = alone and single
    cumulative, slack = (cumulative[0], slack[0]) if alone else (cumulative, slack)
    dims = () if alone else ("vector",)
    status, message = _said(list(subspaces.items()))
    return SubspaceResult.make(
        {
            "share": (dims, cumulative[..., -1], {"long_name": "|P g|² / |g|²"}),
            "cumulative": ((*dims, "direction"), cumulative, {"long_name": "share inside the first directions"}),
            "undetermined": (dims, slack),
        },
        {"direction": np.arange(1, k + 1), **({} if alone else {"vector": names})},
        n=n,
        k=k,
        status=status,
        message=message,
        provenance=_facts(list(given.values()), "share"),
    )


class _Subspace:
    """The span of the first k columns, as ``columns @ mix`` with orthonormal columns, and what is known of it."""

    def __init__(self, source: Any, k: int) -> None:
        self.columns = _columns(source)[:, :k]
        gram = _product(self.columns, self.columns)
        scale = gram.diagonal().clamp_min(0).sqrt()
        if bool((scale == 0).any()) or not bool(torch.isfinite(gram).all()):
            raise InputError("a subspace is spanned by finite vectors other than zero", got=f"norms {scale.tolist()}",
                             fix="leave the others out")  # fmt: skip
        if float((gram - torch.eye(k, dtype=gram.dtype, device=gram.device)).abs().max()) > NEARLY:
            self.columns, triangle = torch.linalg.qr(self.columns.double() / scale)
            size = triangle.diagonal().abs()
            rounding = 10 * torch.finfo(_columns(source).dtype).eps
            if float(size.min()) <= rounding * len(size):
                raise InputError("the columns that span a subspace must be independent",
                                 got=f"{k} columns of rank {int((size > rounding * len(size)).sum())}",
                                 fix="leave out those that are combinations of others, or pass k=")  # fmt: skip
            gram = _product(self.columns, self.columns)
        lower = torch.linalg.cholesky(gram)
        self.mix = torch.linalg.solve_triangular(
            lower, torch.eye(k, dtype=gram.dtype, device=gram.device), upper=False
        ).T
        self.sure, self.undetermined, self.gap, self.residual = _certainty(source, k)

    def cosines(self, other: _Subspace) -> np.ndarray:
        """Return the cosines of the principal angles, largest first."""
        cross = self.mix.T @ _product(self.columns, other.columns).to(self.mix.device) @ other.mix.to(self.mix.device)
        return torch.linalg.svdvals(cross).clamp(0.0, 1.0).cpu().numpy()

    def inside(self, vector: torch.Tensor) -> np.ndarray:
        """Return the shares of |vector|² along the k orthonormal directions."""
        column = vector[:, None]
        whole = _product(column, column)[0, 0]
        if not (bool(torch.isfinite(whole)) and float(whole) > 0):
            raise InputError("a share is of a finite vector other than zero", got=f"|g|² = {float(whole):g}",
                             fix="leave it out")  # fmt: skip
        parts = (self.mix.T @ _product(self.columns, column).to(self.mix.device))[:, 0]
        return (parts**2 / whole.to(parts.device)).cpu().numpy()


def _product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return aᵀ b (k, m) in float64, a slab of rows at a time."""
    total = torch.zeros(a.shape[1], b.shape[1], dtype=torch.float64, device=a.device)
    for mine, other in zip(a.split(ROWS), b.split(ROWS), strict=True):
        total += mine.double().T @ other.to(a.device).double()
    return total


def _certainty(source: Any, k: int) -> tuple[str, float, float, float]:
    """Return how well the subspace is known: in a word, the bound on a sine, the gap at the cut, the residual."""
    if not isinstance(source, EigenResult):
        return "given", np.nan, np.nan, np.nan
    values, which = source.values, str(source.dataset.attrs.get("which", ""))
    residual = float(np.linalg.norm(source.residuals[:k]))
    if k == int(source.dataset.attrs["n"]):
        return "known", 0.0, np.inf, residual
    if not source.converged[:k].all():
        return "open", np.nan, np.nan, residual
    if which not in ("LA", "SA", "LM") or "sigma" in source.dataset.attrs or len(values) <= k:
        return "unknown", np.nan, np.nan, residual
    gap = float(np.abs(values[k - 1]) - np.abs(values[k]) if which == "LM" else np.abs(values[k - 1] - values[k]))
    gap -= float(source.residuals[k])  # an eigenvalue lies within it of value k + 1
    bound = residual / gap if gap > 0 else np.inf
    return ("known" if bound < 1 else "undetermined"), min(bound, 1.0), gap, residual


def _said(subspaces: list[tuple[str, _Subspace]]) -> tuple[str, str]:
    """Return the status and what is to be said of how well the subspaces are known."""
    open_ = [name for name, s in subspaces if s.sure == "open"]
    if open_:
        return "not converged", f"of {', '.join(open_)} not all pairs are converged: compute them again"
    lost = [(name, s) for name, s in subspaces if s.sure == "undetermined"]
    if lost:
        name, s = lost[0]
        k = s.mix.shape[0]
        return "not converged", (
            f"the top {k} of {name} are not determined: eigenvalues {k} and {k + 1} differ by {s.gap:.2g}, and the "
            f"residual is {s.residual:.2g}" + (f" (and {len(lost) - 1} more)" if len(lost) > 1 else "")
            + ": choose k at a gap, or lower tol"
        )  # fmt: skip
    bounds = [s.undetermined for _, s in subspaces if s.sure == "known"]
    words = [f"each is within an angle of sine {max(bounds):.2g} of the true subspace"] if bounds else []
    unknown = sum(s.sure == "unknown" for _, s in subspaces)
    if unknown:
        words.append(f"of {unknown} the gap below the last value is not known: ask eigsh for one pair more than k")
    return "complete", "; ".join(words)


def _columns(source: Any) -> torch.Tensor:
    found = torch.as_tensor(getattr(source, "vectors", source)).detach()
    found = found if found.is_floating_point() else found.double()
    return found[:, None] if found.ndim == 1 else found


def _several(source: Any, name: str) -> tuple[dict[str, Any], bool]:
    """Return subspaces by name, and whether it is a single one."""
    if isinstance(source, Family):
        source = source.members
    if isinstance(source, EigenResult | torch.Tensor | np.ndarray):
        named, single = {name: source}, True
    elif isinstance(source, Mapping):
        named, single = {str(key): each for key, each in source.items()}, False
    else:
        named, single = {str(i): each for i, each in enumerate(source if isinstance(source, Iterable) else ())}, False
    fitting = [isinstance(s, EigenResult | torch.Tensor | np.ndarray) and _columns(s).ndim == 2 for s in named.values()]
    if not named or not all(fitting):
        raise InputError("a subspace is an EigenResult or a tensor (n, k)", got=f"{name}={type(source).__name__}",
                         fix="pass ls.eigsh(H, k), or several as a list or a family")  # fmt: skip
    return named, single


def _dimension(k: int | None, sources: list[Any]) -> int:
    most = min(_columns(source).shape[1] for source in sources)
    if k is None:
        return most
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= most:
        raise InputError(f"k must lie between 1 and {most}, the vectors at hand", got=k, fix="compute more, or lower k")
    return int(k)


def _length(subspaces: list[_Subspace]) -> int:
    lengths = {len(s.columns) for s in subspaces}
    if len(lengths) > 1:
        raise InputError("subspaces must lie in the same space", got=f"vectors of {sorted(lengths)} entries",
                         fix="compare results of the same parameters")  # fmt: skip
    return lengths.pop()


def _vectors(vector: Any, n: int) -> tuple[dict[str, torch.Tensor], bool]:
    """Return flat vectors by name, and whether it is a single one."""
    if isinstance(vector, Mapping):
        named, single = {str(key): each for key, each in vector.items()}, False
    elif isinstance(vector, torch.Tensor | np.ndarray) and vector.ndim == 1:
        named, single = {"vector": vector}, True
    else:
        named, single = {str(i): each for i, each in enumerate(vector if isinstance(vector, Iterable) else ())}, False
    flat = {}
    for name, each in named.items():
        if not isinstance(each, torch.Tensor | np.ndarray) or tuple(each.shape) != (n,):
            shape = f"shape {tuple(each.shape)}" if hasattr(each, "shape") else type(each).__name__
            raise InputError(f"vectors must be flat, of length {n}", got=f"{name}: {shape}",
                             fix="flatten tensors by name with H.space.flatten(...)")  # fmt: skip
        flat[name] = torch.as_tensor(each).detach()
    if not flat:
        raise InputError("a share is of at least one vector", got=type(vector).__name__, fix="pass a gradient")
    return flat, single


def _facts(sources: list[Any], question: str) -> dict[str, Any]:
    """Return what all results have in common."""
    known = [source for source in sources if isinstance(source, EigenResult)]
    return collect(question=question, **(shared(known) if len(known) == len(sources) else {}))
