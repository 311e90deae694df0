"""From a dotted path to the function or class it names, and to nothing that the user did not allow.

A recipe may come from anybody, so a path must lie in ``fedsep`` or in a package that the user named, and so must
what it leads to: ``fedsep.tree.torch.hub.load`` is refused although it can be reached.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from fedsep.recipes.mistakes import nearest


class UnknownPath(Exception):
    """A path that names nothing usable.

    Attributes:
        reason: Why not.
        meant: The nearest right path; empty if none is near.
    """

    def __init__(self, reason: str, meant: str = "") -> None:
        """Keeps both for the caller's message."""
        super().__init__(reason)
        self.reason, self.meant = reason, meant


def resolve(path: str, allow: Sequence[str] = ()) -> Callable[..., Any]:
    """What a dotted path names.

    Args:
        path: ``package.module.name``. A path that ends in a module means the callable of the same name in it.
        allow: Packages beside ``fedsep`` that may be named.

    Raises:
        UnknownPath: It names nothing, nothing callable, or lies outside of the allowed packages.
    """
    parts = path.split(".")
    roots = ("fedsep", *allow)
    if not any(_inside(path, root) for root in roots):
        raise UnknownPath(
            f"only paths in {' and '.join(roots)} may be named; --allow {parts[0]} permits this one", _meant(path)
        )
    found = _walk(path, parts)
    home = getattr(found, "__module__", "")
    if not callable(found) or not any(_inside(home, root) for root in roots):
        raise UnknownPath(f"{path} is no function or class of {' or '.join(roots)}", _meant(path))
    return found


def _inside(path: str, root: str) -> bool:
    return path == root or path.startswith(root + ".")


def _walk(path: str, parts: list[str]) -> Any:
    """Modules as far as they go, then one name in the last of them."""
    module, depth = importlib.import_module(parts[0]) if _exists(parts[0]) else None, 1
    if module is None:
        raise UnknownPath(f"no package {parts[0]!r} is installed or in this folder")
    while depth < len(parts) and _exists(".".join(parts[: depth + 1])):
        depth += 1
        module = importlib.import_module(".".join(parts[:depth]))
    found: Any = module if depth == len(parts) else getattr(module, parts[depth], None)
    if isinstance(found, ModuleType):
        found, depth = getattr(found, parts[-1], None), depth - 1
    if found is None or depth < len(parts) - 1 or parts[-1].startswith("_"):
        raise UnknownPath(f"there is no {path}", _meant(path))
    return found


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):
        return False


def _meant(path: str) -> str:
    """The nearest public path; a right last name in a wrong place counts as near."""
    known = public_paths()
    same_name = [name for name in known if name.rpartition(".")[2] == path.rpartition(".")[2]]
    return same_name[0] if same_name else nearest(path, known)


def public_paths() -> list[str]:
    """Every callable that a subpackage of fedsep has in its ``__all__``, by its dotted path."""
    root = importlib.import_module("fedsep")
    packages = [found.name for found in pkgutil.iter_modules(root.__path__) if found.ispkg]
    return [
        path for name in packages if name not in ("cli", "recipes", "report") for path in public_names(f"fedsep.{name}")
    ]


def public_names(package: str) -> list[str]:
    """The dotted paths of the callables in a package's ``__all__``."""
    module = importlib.import_module(package)
    names: list[str] = list(getattr(module, "__all__", ()))
    return [f"{package}.{name}" for name in names if _offered(getattr(module, name, None))]


def _offered(found: Any) -> bool:
    return inspect.isfunction(found) or inspect.isclass(found)
