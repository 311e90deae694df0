"""Reads runs, compares methods, and writes the report.

from fedsep.report import compare, find_runs, read_run, write_report

rows = compare(read_run(folder) for folder in find_runs("runs/quickstart"))
write_report("runs/quickstart", "runs/quickstart")
"""

from fedsep.report.cells import cells
from fedsep.report.comparing import Level, Row, compare
from fedsep.report.finding import find_runs
from fedsep.report.page import write_report
from fedsep.report.reading import RunData, read_run
from fedsep.report.spread import Spread

__all__ = ["Level", "Row", "RunData", "Spread", "cells", "compare", "find_runs", "read_run", "write_report"]
