"""`python -m tui`: the command `pointsman` where its script is not on the path, and in each process of `train --launch`."""

import sys

from tui.cli import main

if __name__ == "__main__":
    sys.exit(main())
