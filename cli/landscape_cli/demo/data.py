"""The demo's data: handwritten digits that ship with scikit-learn, or image arrays in an ``.npz`` file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from landscape.errors import FileError, MissingPartError


@dataclass(frozen=True)
class Data:
    """Images (N, C, H, W) float32, standardised channel by channel with the training part's statistics."""

    name: str
    train: tuple[torch.Tensor, torch.Tensor]
    test: tuple[torch.Tensor, torch.Tensor]

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return self.train[0].shape[1]

    @property
    def classes(self) -> int:
        """The number of classes."""
        return int(self.train[1].max()) + 1


def digits() -> Data:
    """Return 1,797 images of 8 by 8 pixels, a fixed fifth of them for testing."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingPartError(
            "the demo's digits come with scikit-learn, which is not installed",
            fix='pip install "torch-landscape[demo]", or pass your own images with --data',
        ) from None
    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    images, labels = found.images[order][:, None], found.target[order]
    cut = len(labels) * 4 // 5
    return _standardised("handwritten digits", images[:cut], labels[:cut], images[cut:], labels[cut:])


def arrays(path: Path) -> Data:
    """Read ``x_train, y_train, x_test, y_test`` (images N x C x H x W and labels N) from an ``.npz`` file."""
    if not path.is_file():
        raise FileError("there is no such file", got=str(path), fix="check the path given to --data")
    names = ("x_train", "y_train", "x_test", "y_test")
    try:
        with np.load(path) as found:
            missing = [name for name in names if name not in found]
            parts = [found[name] for name in names if name in found]
    except (OSError, ValueError) as error:
        raise FileError(
            "the file is not an .npz of arrays", got=str(path), why=str(error), fix="save it with numpy.savez"
        ) from error
    if missing:
        raise FileError("the file lacks arrays", got=", ".join(missing), fix=f"save {', '.join(names)} in it")
    for name, images in (("x_train", parts[0]), ("x_test", parts[2])):
        if images.ndim != 4 or min(images.shape[2:]) < 4:
            raise FileError(
                f"{name} must hold images of shape N x C x H x W, at least 4 by 4 pixels",
                got=f"shape {images.shape}",
                fix="add the channel dimension, for example x[:, None]",
            )
    return _standardised(path.stem, *parts)


def _standardised(name: str, x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray) -> Data:
    mean = x.mean(axis=(0, 2, 3), keepdims=True, dtype=np.float64)
    spread = x.std(axis=(0, 2, 3), keepdims=True, dtype=np.float64) + 1e-8

    def images(a: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(((a - mean) / spread).astype(np.float32))

    def labels(a: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(a.astype(np.int64))

    return Data(name, (images(x), labels(y)), (images(x_test), labels(y_test)))
