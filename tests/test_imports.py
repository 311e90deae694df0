"""Every package can be the first that is imported: no circle of imports depends on where one enters it.

Whatever lies in a package begins with the package itself, so these are all the places to enter at.
"""

import pkgutil
import subprocess
import sys
from pathlib import Path

import fedsep

ROOT = Path(__file__).parents[1]
PROGRAM = """
import importlib, sys, warnings
import torch
warnings.simplefilter("ignore")
for name in sys.argv[1:]:
    for loaded in [each for each in sys.modules if each.partition(".")[0] == "fedsep"]:
        del sys.modules[loaded]
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(f"{name}: {error}")
"""


def test_every_package_and_module_can_be_imported_first():
    found = (each.name for each in pkgutil.iter_modules(fedsep.__path__, "fedsep."))
    names = [name for name in found if not name.endswith("__main__")]
    assert {"fedsep.views", "fedsep.codecs", "fedsep.pairs"} <= set(names)
    done = subprocess.run([sys.executable, "-c", PROGRAM, *names], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == ""
