"""Orthogonal matching pursuit (Pati, Rezaiifar, Krishnaprasad 1993): a row as a weighted sum of a few others."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

BATCH = 128
"""Targets per batch: with 50,000 atoms of width 768 and 64 of them for each target, about 120 MB beside the atoms."""
EXACT = 1e-6
"""Relative norm of the residual below which a target counts as matched: float32 rows are no more precise."""


def pursue(targets: torch.Tensor, atoms: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(places, weights), both [targets, k]: indices and weights of the atoms whose sum approximates each target.

    Each step adds the atom that correlates most with the residual, and all weights are solved for again. A target that is
    matched by fewer atoms has weights of 0 at the end.

    targets: [targets, width]; atoms: [atoms, width]; k: at most the width and the number of atoms. Atoms are chosen in
    float32, where most of the work is: of two that correlate equally, either will do. Weights are solved for in float64,
    since the difference of nearly parallel atoms loses the precision of float32.
    """
    import torch

    unit = torch.nn.functional.normalize(atoms.float(), dim=1)
    parts = [_pursue(batch.double(), atoms, unit, k) for batch in targets.split(BATCH)]
    return torch.cat([places for places, _ in parts]), torch.cat([weights for _, weights in parts])


def _pursue(
    targets: torch.Tensor, atoms: torch.Tensor, unit: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    count, width = targets.shape
    places = torch.zeros(count, k, dtype=torch.long)
    basis = torch.zeros(count, k, width, dtype=torch.double)
    factors = torch.eye(k, dtype=torch.double).repeat(count, 1, 1)  # chosen atoms = factors^T basis
    taken = torch.zeros(count, len(atoms), dtype=torch.bool)
    left = targets.clone()
    for step in range(k):
        open_ = left.norm(dim=1) > EXACT * targets.norm(dim=1)
        scores = (left.float() @ unit.T).abs_().masked_fill_(taken, -1)
        places[:, step] = scores.argmax(dim=1)
        taken[torch.arange(count), places[:, step]] = True
        atom, before = atoms[places[:, step]].double(), basis[:, :step]
        for _ in range(2):  # twice, since one pass leaves nearly parallel atoms not quite orthogonal
            part = torch.einsum("nkw,nw->nk", before, atom)
            atom = atom - torch.einsum("nkw,nk->nw", before, part)
            factors[:, :step, step] += part
        length = atom.norm(dim=1)
        open_ &= length > 0
        factors[open_, step, step] = length[open_]
        basis[open_, step] = atom[open_] / length[open_, None]
        left = left - (basis[:, step] * left).sum(dim=1, keepdim=True) * basis[:, step]
    onto = torch.einsum("nkw,nw->nk", basis, targets)
    return places, torch.linalg.solve_triangular(factors, onto[:, :, None], upper=True)[:, :, 0]
