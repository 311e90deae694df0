"""From arguments to an exit code: what went wrong is one message, and a traceback only where it helps.

0: done. 1: a run failed. 2: bad input. 130: interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def main() -> None:
    """The program ``fedsep``."""
    sys.exit(invoke(sys.argv[1:]))


def invoke(arguments: Sequence[str]) -> int:
    """Runs the command line.

    Args:
        arguments: Without the program's name. ``--debug`` may stand anywhere.

    Returns:
        The exit code.
    """
    words = [word for word in arguments if word != "--debug"]
    return guarded(lambda: _command(words), debug=len(words) < len(arguments))


def guarded(work: Callable[[], int], *, debug: bool = False) -> int:
    """Does ``work``; what goes wrong in it is said as a user should hear it.

    Args:
        work: Gives an exit code.
        debug: Whether tracebacks are shown.

    Returns:
        The exit code.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show_warning
            return work()
    except KeyboardInterrupt as stopped:
        return _interrupted(stopped)
    except BrokenPipeError:
        sys.stderr.close()
        return FAILED
    except Exception as error:
        return _refused(error, debug=debug)


def _command(words: list[str]) -> int:
    if os.environ.get("WORLD_SIZE", "1") == "1" or "RANK" not in os.environ:
        return _carried_out(words)
    from fedsep.cli.ranks import follow, lead
    from fedsep.engines.ranks import place

    where = place()
    if where is None:
        return _carried_out(words)
    return follow(where) if where.rank else lead(where, lambda: _carried_out(words))


def _carried_out(words: list[str]) -> int:
    from fedsep.cli.app import app

    result: Any = app(args=words, prog_name="fedsep", standalone_mode=False)
    return result if isinstance(result, int) else DONE


def _refused(error: Exception, debug: bool) -> int:
    """What the user is told about an error, and the exit code it means."""
    if _is_usage(error):
        error.show()  # type: ignore[attr-defined]
        return BAD_INPUT
    if type(error).__name__ == "Abort":  # what typer makes of Ctrl-C
        return _interrupted(error.__cause__)
    if debug:
        traceback.print_exception(error)
    kind = _kind(error)
    if kind is not None:
        _say(str(error))
        return kind
    if not debug:
        _say(f"unexpected {type(error).__name__}: {_first_line(error)}\nthe details are in {_written(error)}")
    return FAILED


def _interrupted(stopped: BaseException | None) -> int:
    _say(str(stopped or "") or "interrupted")
    return INTERRUPTED


def _is_usage(error: Exception) -> bool:
    """Whether it is one of typer's own: their class is click's or typer's, by version."""
    return hasattr(error, "show") and hasattr(error, "exit_code")


def _kind(error: Exception) -> int | None:
    """The exit code of a user's mistake or of a failed run; None for anything else.

    The classes are looked up only if they are loaded: before that, no such error can have been raised.
    """
    core, errors = sys.modules.get("fedsep.core"), sys.modules.get("fedsep.errors")
    if core is None or not isinstance(error, core.FedSepError):
        return None
    return FAILED if errors is not None and isinstance(error, errors.RunFailed) else BAD_INPUT


def _written(error: Exception) -> str:
    """A file with the traceback; its name."""
    import tempfile

    handle, name = tempfile.mkstemp(prefix="fedsep-error-", suffix=".log")
    with open(handle, "w", encoding="utf-8") as file:
        print("fedsep", *sys.argv[1:], file=file)
        traceback.print_exception(error, file=file)
    return name


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def show_warning(message: Any, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
    """A warning as a user reads it: without the line of source that gave it."""
    _say(f"warning: {message}")
