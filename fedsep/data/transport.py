"""Equal shares for clients that hold given classes: whole numbers on the edges of a bipartite graph.

Every class starts out split evenly among its holders; the surplus then moves along shared classes. The least
squares correction is a sum of one number per client and one per class, and a flow rounds it to whole numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph
from torch import Tensor

from fedsep.data.drawing import order
from fedsep.data.parts import Indices

_SLACK = 1e-6


class Edges(NamedTuple):
    """Who holds which class: client ``client[e]`` holds class ``label[e]``, ordered by class, then by client."""

    client: Indices
    label: Indices


def edges(held: Indices) -> Edges:
    """The edges of an assignment of shape (clients, k)."""
    client = np.repeat(np.arange(held.shape[0]), held.shape[1])
    label = held.reshape(-1)
    along = np.lexsort((client, label))
    return Edges(client[along], label[along])


def components(held: Indices, classes: int) -> tuple[int, Indices]:
    """Number of connected components of the client-class graph, and the component of every client."""
    clients, k = held.shape
    rows = np.repeat(np.arange(clients), k)
    graph = sparse.csr_array(
        (np.ones(clients * k, np.int8), (rows, held.reshape(-1) + clients)),
        shape=(clients + classes, clients + classes),
    )
    count, component = csgraph.connected_components(graph, directed=False)
    return int(count), component[:clients].astype(np.int64)


def demands(key: Tensor, held: Indices, supply: Indices) -> Indices | None:
    """Sizes of the clients, equal to within one, that each component of the graph can give; None if there are none."""
    count, component = components(held, len(supply))
    least = int(supply.sum()) // len(held)
    sizes = np.full(len(held), least)
    shuffled = order(key, len(held))
    for part in range(count):
        members = shuffled[component[shuffled] == part]
        more = int(supply[np.unique(held[members])].sum()) - least * len(members)
        if not 0 <= more <= len(members):
            return None
        sizes[members[:more]] += 1
    return sizes


def shares(graph: Edges, supply: Indices, demand: Indices) -> Indices | None:
    """Samples on every edge, at least one, so that classes give ``supply`` and clients get ``demand``.

    Args:
        graph: Who holds which class.
        supply: Samples of each class.
        demand: Samples of each client; the sum is that of ``supply``.

    Returns:
        As even as the classes' sizes allow if that leaves every edge a sample, else any solution with a sample on
        every edge; None if there is none.
    """
    even = _least_squares(graph, supply, demand)
    whole = np.abs(even - np.rint(even)) < _SLACK
    low, high = (np.where(whole, np.rint(even), bound).astype(np.int64) for bound in (np.floor(even), np.ceil(even)))
    if low.min() >= 1:
        rounded = flow(graph, supply, demand, low, high)
        if rounded is not None:
            return rounded
    least = np.ones(len(graph.label), np.int64)
    return flow(graph, supply, demand, least, supply[graph.label])


def _least_squares(graph: Edges, supply: Indices, demand: Indices) -> npt.NDArray[np.float64]:
    """The amounts nearest to an even split of every class that meet supply and demand (if they can be met)."""
    holders = np.bincount(graph.label, minlength=len(supply))
    degree = np.bincount(graph.client, minlength=len(demand))
    even = (supply / np.maximum(holders, 1))[graph.label]
    lack = demand - np.bincount(graph.client, weights=even, minlength=len(demand))
    member = sparse.csr_array((np.ones(len(even)), (graph.client, graph.label)), shape=(len(demand), len(supply)))
    by_degree = sparse.diags_array(1 / degree)
    normal = np.diag(holders.astype(np.float64)) - (member.T @ by_degree @ member).toarray()
    by_class = np.linalg.lstsq(normal, -(member.T @ (lack / degree)), rcond=None)[0]
    by_client = (lack - member @ by_class) / degree
    return even + by_client[graph.client] + by_class[graph.label]


def flow(graph: Edges, supply: Indices, demand: Indices, low: Indices, high: Indices) -> Indices | None:
    """Whole numbers between ``low`` and ``high`` on the edges that meet supply and demand; None if there are none."""
    left = supply - np.bincount(graph.label, weights=low, minlength=len(supply)).astype(np.int64)
    wanted = demand - np.bincount(graph.client, weights=low, minlength=len(demand)).astype(np.int64)
    if left.min() < 0 or wanted.min() < 0 or left.sum() != wanted.sum():
        return None
    classes, clients = len(supply), len(demand)
    first, sink = 1 + classes, 1 + classes + clients
    tail = np.concatenate([np.zeros(classes, np.int64), 1 + graph.label, first + np.arange(clients)])
    head = np.concatenate([1 + np.arange(classes), first + graph.client, np.full(clients, sink)])
    room = np.concatenate([left, high - low, wanted]).astype(np.int32)
    network = sparse.csr_array((room, (tail, head)), shape=(sink + 1, sink + 1))
    found = csgraph.maximum_flow(network, 0, sink)
    if found.flow_value != left.sum():
        return None
    return low + np.asarray(found.flow[1 + graph.label, first + graph.client]).reshape(-1).astype(np.int64)
