import sys
from pathlib import Path

# dag.py asks snakemake.
sys.path.insert(0, str(Path(__file__).parents[1] / "workflow"))
