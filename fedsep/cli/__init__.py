"""The command line: ``fedsep run``, ``resume``, ``report``, ``compare``, ``check``, ``sweep``, ``ls``, ``show``."""

from fedsep.cli.entry import invoke, main

__all__ = ["invoke", "main"]
