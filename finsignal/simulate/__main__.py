"""`python -m finsignal.simulate --out FOLDER` writes the bundled sample."""

import sys

from finsignal.simulate.sample import main

if __name__ == "__main__":
    sys.exit(main())
