"""The random programs stand beside the tests of the IR."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "ir"))
