"""How fast it is: `python -m bench` measures ours against the plain library in one run."""
