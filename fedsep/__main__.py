"""``python -m fedsep`` is ``fedsep``."""

from fedsep.cli import main

if __name__ == "__main__":
    main()
