import sys
from pathlib import Path

# The helpers that ask Snakemake.
sys.path.insert(0, str(Path(__file__).parents[1] / "workflow"))
