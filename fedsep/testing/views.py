"""The laws of views: a client is sent tensors, and paste is the transpose of cut."""

from __future__ import annotations

from fedsep import tree
from fedsep.core import Ctx, Tree, View
from fedsep.testing.broken import LawBroken, describe, name_of, named_leaves, require_alike, require_close
from fedsep.testing.draws import context, random_like
from fedsep.testing.payloads import check_payload
from fedsep.testing.purity import pure

ADJOINT = "paste is the transpose of cut: <cut(z), u> = <z, paste(u)>"
SECTION = "cut(paste(u)) = u: a client is sent what it changed"
FITS = "paste gives a change in x's names and shapes"
COVER = "a cover has the change's names and shapes, is nowhere negative, and 0 nowhere but where the change is 0"


def check_view(view: View, x: Tree, *, ctx: Ctx | None = None) -> None:
    """Every law of views, for one client.

    The transpose is checked where a client's change has the names and shapes of what it was sent; a view
    that sends something else than the client changes (a sketch's missed coordinates) is not linear in x.

    Args:
        view: The view.
        x: The server's communication parameter.
        ctx: What both ends know of the client.

    Raises:
        LawBroken: A law does not hold; the message says which, what was expected and what came.
    """
    ctx, name = ctx or context(1, seen=0), name_of(view)
    sent = pure(f"{name}.cut", view.cut, x, ctx)
    check_payload(sent, f"{name}.cut")
    change = random_like(pure(f"{name}.like", view.like, x, ctx), 1)
    value, cover = pure(f"{name}.paste", view.paste, change, x, ctx)
    _fits(name, x, value)
    if cover is not None:
        _covers(name, value, cover)
    if _kinds(sent) and _kinds(change) == _kinds(sent) and _kinds(value) == _kinds(x):
        adjoint(view, x, ctx)


def adjoint(view: View, x: Tree, ctx: Ctx, tolerance: float = 1e-9) -> None:
    """<cut(z), u> = <z, paste(u)> and cut(paste(u)) = u."""
    name = name_of(view)
    z, u = random_like(x, 2), random_like(view.like(x, ctx), 3)
    sent, pasted = view.cut(z, ctx), view.paste(u, z, ctx)[0]
    left, right = float(tree.dot(sent, u)), float(tree.dot(z, pasted))
    if not abs(left - right) <= tolerance * float(tree.norm(sent) * tree.norm(u)):
        raise LawBroken(ADJOINT, name, f"<cut(z), u> = {left:.9g}", f"<z, paste(u)> = {right:.9g}")
    require_close(SECTION, name, u, view.cut(pasted, ctx), tolerance)


def _fits(name: str, x: Tree, value: Tree) -> None:
    known = {place: leaf.shape for place, leaf in named_leaves(x).items()}
    for place, leaf in named_leaves(value).items():
        if known.get(place) != leaf.shape:
            raise LawBroken(FITS, f"{name}.paste", describe(x), describe(value))


def _covers(name: str, value: Tree, cover: Tree) -> None:
    same_dtype = tree.map(lambda part, like: part.to(like.dtype), cover, value)
    require_alike(COVER, f"{name}.paste", value, same_dtype)
    changes = named_leaves(value)
    for place, leaf in named_leaves(cover).items():
        if not bool((leaf >= 0).all()):
            raise LawBroken(COVER, f"{name}.paste", f"weights at {place}", str(leaf.unique().tolist()[:6]))
        outside = changes[place][leaf == 0]
        if bool((outside != 0).any()):
            got = f"changes {outside[outside != 0].tolist()[:4]} where the cover is 0"
            raise LawBroken(COVER, f"{name}.paste", f"no change at {place} that is not covered", got)


def _kinds(of: Tree) -> dict[str, object]:
    return {place: leaf.shape for place, leaf in named_leaves(of).items()}
