"""Exact mean and variance of the stochastic encode of Eq. (3) on the first bed, for independent minibatches.

Written with matrices, apart from the library's code, as its oracle. The noise of H is s (G + G') / sqrt(2), G with
standard normal entries, so that E[N X N] = s^2 (tr(X) I + X'); that of A is independent, E[W' S W] = s^2 tr(S) I.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fedsep.theory.quadratic import Quadratic
from fedsep.theory.settings import Settings


class Moments(NamedTuple):
    """Of the random matrix Ê that a client encodes with: its mean (p, d), and E|(Ê - mean) v|^2 = v' spread v."""

    mean: Tensor
    spread: Tensor


def moments(bed: Quadratic, client: int, settings: Settings) -> Moments:
    """For fresh minibatches in every factor (``reuse=False``)."""
    hessian, cross = bed.hessian[client], bed.cross[client]
    d, p = bed.sizes
    pull = torch.eye(d) - settings.tau * hessian
    share = 0.0 if settings.encode_batch is None else 1.0 / settings.encode_batch
    mean = cross.mT @ series(hessian, settings)
    sums = _second_moments(pull, settings, settings.tau**2 * bed.noise.hessian**2 * share)
    traces = sums.diagonal(dim1=-2, dim2=-1).sum(-1)
    through = torch.einsum("ijde,dp,ep->ij", sums, cross, cross) + bed.noise.cross**2 * share * p * traces
    return Moments(mean, through - mean.mT @ mean)


def series(hessian: Tensor, settings: Settings) -> Tensor:
    """tau sum_{q=0..Q} (I - tau H)^q."""
    term = total = torch.eye(len(hessian))
    for _ in range(settings.terms):
        term = term - settings.tau * hessian @ term
        total = total + term
    return settings.tau * total


def _second_moments(pull: Tensor, settings: Settings, variance: float) -> Tensor:
    """E[s_i s_j'] of the series' sums s_i = tau sum_q (...) e_i, shape (d, d, d, d).

    term <- (I - tau H_B) term, total <- total + term; a minibatch is independent of all before it.
    """
    d = len(pull)
    eye = torch.eye(d)
    tt = torch.einsum("id,je->ijde", eye, eye)
    ts, ss = tt, tt
    for _ in range(settings.terms):
        noise = tt.mT + tt.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None] * eye
        tt = pull @ tt @ pull + variance * noise
        moved = pull @ ts  # E[term' total'], before this step's term is added to the total
        back = moved.transpose(0, 1).mT  # E[total term'] of the pair (i, j) is the transpose of the pair (j, i)'s
        ts, ss = moved + tt, ss + moved + back + tt
    return settings.tau**2 * ss


def reuse_bias(bed: Quadratic, client: int, settings: Settings) -> Tensor:
    """b_x times the leading extra bias of E[Ê] with one minibatch in all factors, shape (p, d).

    The part of second order in N of tau sum_q (I - tau (H + N))^q is tau^3 sum P^a E[N P^b N] P^c, a + b + c = q - 2.
    """
    d = bed.sizes[0]
    pull = torch.eye(d) - settings.tau * bed.hessian[client]
    powers = [torch.linalg.matrix_power(pull, n) for n in range(settings.terms + 1)]
    total = torch.zeros(d, d)
    for b in range(settings.terms - 1):
        middle = powers[b] + torch.eye(d) * powers[b].trace()
        for a in range(settings.terms - 1 - b):
            tail = torch.stack(powers[: settings.terms - 1 - b - a]).sum(0)
            total = total + powers[a] @ middle @ tail
    return bed.cross[client].mT @ (settings.tau**3 * bed.noise.hessian**2 * total)
