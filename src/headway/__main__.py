"""Entry point of `python -m headway`, which ignores modules in the working directory."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the working folder: a file random.py in it is not Python's
    from headway.cli import main

    main()
