"""Entry point of `python -m headway`: the command line, without modules of the working folder."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the working folder: a file random.py in it is not Python's
    from headway.cli import main

    main()
