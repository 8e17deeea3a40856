"""Orthogonal matching pursuit against its definition, one target and one least-squares problem at a time."""

import numpy as np
import pytest
import torch

from lmtune.modeling.pursuit import BATCH, pursue


def pursue_plainly(target, atoms, k):
    """The definition: the atom nearest in direction to the remainder, then least squares over those chosen."""
    unit = atoms / np.linalg.norm(atoms, axis=1, keepdims=True)
    chosen, left = [], target
    for _ in range(k):
        scores = np.abs(unit @ left)
        scores[chosen] = -1
        chosen.append(int(scores.argmax()))
        weights = np.linalg.lstsq(atoms[chosen].T, target, rcond=None)[0]
        left = target - weights @ atoms[chosen]
    return chosen, weights


@pytest.fixture
def rows():
    draw = np.random.default_rng(0)
    return draw.normal(size=(BATCH + 5, 24)), draw.normal(size=(90, 24)) * draw.uniform(0.1, 5, size=(90, 1))


def test_atoms_and_weights_are_those_of_the_definition(rows):
    targets, atoms = rows
    places, weights = pursue(torch.from_numpy(targets), torch.from_numpy(atoms), 8)
    assert places.shape == weights.shape == (BATCH + 5, 8)
    for row in (0, 1, BATCH - 1, BATCH, BATCH + 4):
        chosen, expected = pursue_plainly(targets[row], atoms, 8)
        assert places[row].tolist() == chosen
        np.testing.assert_allclose(weights[row], expected, rtol=1e-6, atol=1e-9)


def test_a_sum_of_few_atoms_is_found_again(rows):
    _, atoms = rows
    made = torch.from_numpy(2 * atoms[3:4] - 0.5 * atoms[40:41])
    places, weights = pursue(made, torch.from_numpy(atoms), 6)
    found = {place: weight for place, weight in zip(places[0].tolist(), weights[0].tolist(), strict=True) if weight}
    rebuilt = sum(weight * atoms[place] for place, weight in found.items())
    np.testing.assert_allclose(rebuilt, made[0].numpy(), rtol=1e-5, atol=1e-6)
    assert len(set(places[0].tolist())) == 6, "each atom once"


def test_nearly_parallel_atoms_do_not_blow_up():
    draw = np.random.default_rng(1)
    atoms = draw.normal(size=(1, 16)) + 1e-5 * draw.normal(size=(30, 16))
    targets = atoms[:1] + 1e-5 * draw.normal(size=(1, 16))
    places, weights = pursue(torch.from_numpy(targets), torch.from_numpy(atoms), 10)
    rebuilt = weights[0].numpy() @ atoms[places[0].numpy()]
    expected = pursue_plainly(targets[0], atoms, 10)[1]
    assert np.isfinite(weights.numpy()).all()
    assert np.linalg.norm(rebuilt - targets[0]) <= 1.5e-5 * 4
    assert np.abs(weights.numpy()).max() < 100 * np.abs(expected).max()


def test_an_exact_match_and_an_empty_target_leave_the_other_weights_at_zero():
    atoms = torch.eye(4, dtype=torch.double)
    places, weights = pursue(torch.stack([3 * atoms[2], 0 * atoms[0]]), atoms, 4)
    assert (places[0, 0].item(), weights[0, 0].item()) == (2, 3.0)
    assert weights[0, 1:].abs().max() < 1e-12
    assert weights[1].tolist() == [0.0] * 4


def test_the_same_rows_give_the_same_bits(rows):
    targets, atoms = (torch.from_numpy(each).float() for each in rows)
    one, other = pursue(targets, atoms, 12), pursue(targets, atoms, 12)
    assert all(torch.equal(each, again) for each, again in zip(one, other, strict=True))
