"""``fedsep export``: the sub-model of a run as a module that needs nothing of the run."""

from fedsep.export.exporting import Exported, export

__all__ = ["Exported", "export"]
