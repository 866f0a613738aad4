"""A filter over the graph of users and items: nothing is trained, and it beats most that is.

A history is a signal on the items. Smoothing it over items liked by the same people keeps what the
graph supports (GF-CF, Shen et al. 2021); a part of a second, ideal low-pass filter, that of the
strongest singular vectors, adds what is far away in the graph; and the smoothing run backwards for
a while takes away what everything is smoothed towards (BSPM, Choi et al. 2023).

Shape legend: U users, M items the model knows, F singular vectors, B histories.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from training.histories import Histories
from training.models.base import FitContext, Model
from training.models.graph import torch_csr, train_likes
from training.snapshot import Snapshot

_OVERSAMPLING, _POWER_ITERATIONS = 16, 3
"""Of the randomised decomposition (Halko et al. 2011)."""
_BATCH = 512
_ORDER = 4
"""Of the method of Runge and Kutta."""


@dataclass(frozen=True)
class SpectralConfig:
    """Options of the spectral filter."""

    factors: int = 448
    low_pass: float = 0.2
    sharpening: float = 2.5
    user_power: float = 0.5
    item_power: float = 0.5

    def __post_init__(self) -> None:
        if self.factors < 1:
            raise ValueError(f"factors must be at least 1, but it is {self.factors}.")
        for option in ("low_pass", "sharpening"):
            if getattr(self, option) < 0:
                raise ValueError(f"{option} must be at least 0, but it is {getattr(self, option)}.")
        for option in ("user_power", "item_power"):
            if not 0 <= getattr(self, option) <= 1:
                raise ValueError(f"{option} must be in [0, 1], but it is {getattr(self, option)}.")


class Spectral(Model):
    """`x = h S + b h L` of a history h, then `dx/dt = -x S` for a time t.

    R holds the likes, each over powers of both degrees (a half in GF-CF; less lets the popular keep
    more of their weight), scaled to a norm of 1; `S = R' R`; `L` projects on the F strongest right
    singular vectors of R, between the items' powers; b is `low_pass` and t `sharpening`. The time
    is one step of the fourth-order method of Runge and Kutta, as BSPM takes it: at lengths where
    that step is no longer exact it keeps more of what is strong in the graph, which ranks better.

    Attributes:
        likes_UM: sparse (U, M), R.
        factor_FM: (F, M) right singular vectors of R, the strongest first.
        power_M: (M,) the power of each item's degree.
    """

    name: ClassVar[str] = "spectral"
    config_class: ClassVar[type[SpectralConfig]] = SpectralConfig

    def __init__(
        self,
        config: SpectralConfig,
        item_ids: np.ndarray,
        likes_UM: sparse.csr_array,
        factor_FM: np.ndarray,
        power_M: np.ndarray,
    ) -> None:
        super().__init__(config, item_ids)
        self.likes_UM, self.factor_FM, self.power_M = likes_UM, factor_FM, power_M
        self._up, self._down = torch_csr(likes_UM), torch_csr(likes_UM.T.tocsr())
        self._factors, self._power = torch.from_numpy(factor_FM), torch.from_numpy(power_M)

    @classmethod
    def _fit(cls, snapshot: Snapshot, config: SpectralConfig, context: FitContext) -> Self:
        item_ids, _, likes_UM = train_likes(snapshot)
        power_M = (likes_UM.sum(axis=0) ** config.item_power).astype(np.float32)
        power_U = (likes_UM.sum(axis=1) ** config.user_power).astype(np.float32)
        likes_UM = sparse.diags_array(1 / power_U) @ likes_UM @ sparse.diags_array(1 / power_M)
        likes_UM = likes_UM.tocsr().astype(np.float32)
        factors = min(config.factors, *likes_UM.shape)
        context.progress(
            f"spectral  {factors} singular vectors of {likes_UM.nnz:,} likes, "
            f"{likes_UM.shape[0]:,} users, {likes_UM.shape[1]:,} items"
        )
        norm, factor_FM = _right_singular_vectors(likes_UM, factors, context.seed)
        return cls(config, item_ids, likes_UM * np.float32(1 / norm), factor_FM, power_M)

    def _score(self, histories: Histories) -> np.ndarray:
        liked_BM = np.zeros((len(histories), len(self.item_ids)), np.float32)
        liked_BM[histories.rows(), histories.items] = 1.0
        for start in range(0, len(liked_BM), _BATCH):
            part = slice(start, start + _BATCH)
            liked_BM[part] = self._filter(torch.from_numpy(liked_BM[part])).numpy()
        return liked_BM

    def _filter(self, liked_BM: Tensor) -> Tensor:
        smooth_BM = self._smooth(liked_BM)
        if self.config.low_pass:
            strength_BF = (liked_BM / self._power) @ self._factors.T
            smooth_BM += self.config.low_pass * (strength_BF @ self._factors) * self._power
        # One step of the method on a linear equation is the exponential series up to its order.
        term_BM = smooth_BM
        for order in range(1, _ORDER + 1 if self.config.sharpening else 1):
            term_BM = self._smooth(term_BM) * (-self.config.sharpening / order)
            smooth_BM = smooth_BM + term_BM
        return smooth_BM

    def _smooth(self, signal_BM: Tensor) -> Tensor:
        return (self._down @ (self._up @ signal_BM.T.contiguous())).T

    def _tensors(self) -> dict[str, np.ndarray]:
        return {
            "likes.data": self.likes_UM.data,
            "likes.indices": self.likes_UM.indices.astype(np.int32),
            "likes.indptr": self.likes_UM.indptr.astype(np.int64),
            "factors": self.factor_FM,
            "power": self.power_M,
        }

    @classmethod
    def _restore(
        cls,
        config: SpectralConfig,
        tensors: dict[str, np.ndarray],
        vocabularies: dict[str, np.ndarray],
    ) -> Self:
        parts = tuple(tensors[f"likes.{part}"] for part in ("data", "indices", "indptr"))
        shape = (len(parts[2]) - 1, len(vocabularies["item_ids"]))
        likes_UM = sparse.csr_array(parts, shape=shape)
        return cls(config, vocabularies["item_ids"], likes_UM, tensors["factors"], tensors["power"])


def _right_singular_vectors(
    matrix_UM: sparse.csr_array, factors: int, seed: int
) -> tuple[np.float32, np.ndarray]:
    """The norm of a matrix, and (F, M) float32 by random projections (Halko et al. 2011)."""
    up, down = torch_csr(matrix_UM), torch_csr(matrix_UM.T.tocsr())
    generator = torch.Generator().manual_seed(seed)
    width = min(factors + _OVERSAMPLING, *matrix_UM.shape)
    basis_UX = up @ torch.randn(matrix_UM.shape[1], width, generator=generator)
    for _ in range(_POWER_ITERATIONS):
        basis_UX = up @ torch.linalg.qr(down @ torch.linalg.qr(basis_UX).Q).Q
    basis_UX = torch.linalg.qr(basis_UX).Q
    _, strength_X, right_XM = torch.linalg.svd((down @ basis_UX).T, full_matrices=False)
    return np.float32(strength_X[0]), right_XM[:factors].contiguous().numpy()
