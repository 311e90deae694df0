"""What a package offers is there, says what it is, and has types."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest

import fedsep

PACKAGES = ["fedsep", *(each.name for each in pkgutil.iter_modules(fedsep.__path__, "fedsep.") if each.ispkg)]


@pytest.mark.parametrize("name", PACKAGES)
def test_what_is_offered_is_there_documented_and_typed(name):
    package = importlib.import_module(name)
    offered = getattr(package, "__all__", [])
    assert len(set(offered)) == len(offered)
    for entry in offered:
        found = getattr(package, entry)
        if inspect.isfunction(found) or inspect.isclass(found):
            assert found.__doc__, f"{name}.{entry} says nothing of itself"
        if inspect.isfunction(found):
            parameters = [*inspect.signature(found).parameters.values()]
            bare = [each.name for each in parameters if each.annotation is inspect.Parameter.empty]
            assert not bare, f"{name}.{entry}: {bare} have no types"
            assert inspect.signature(found).return_annotation is not inspect.Signature.empty


@pytest.mark.parametrize("name", PACKAGES)
def test_all_that_can_be_read_off_a_package_is_offered(name):
    """Every public function and class of fedsep that is a name of a package is in its ``__all__``."""
    package = importlib.import_module(name)
    seen = {
        entry
        for entry, found in vars(package).items()
        if not entry.startswith("_")
        and (inspect.isfunction(found) or inspect.isclass(found))
        and found.__module__.startswith("fedsep")
    }
    assert seen <= set(getattr(package, "__all__", []))


def test_the_names_of_the_ten_line_script():
    from fedsep import algorithms, data, fit, models, tasks

    assert {"fit", "algorithms", "data", "models", "tasks"} <= set(fedsep.__all__)
    assert callable(fit)
    assert all(inspect.ismodule(each) for each in (algorithms, data, models, tasks))
