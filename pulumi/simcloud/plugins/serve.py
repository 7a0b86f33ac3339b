"""Serves the simulated cloud named first; the rest is what the engine says to a plugin."""

import importlib
import sys
from pathlib import Path

# By its place, so that no installation is needed: the engine starts plugins in folders of its own choice.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from simcloud.server import serve

sys.exit(serve(importlib.import_module(f"simcloud.{sys.argv[1]}").CLOUD, sys.argv[2:]))
