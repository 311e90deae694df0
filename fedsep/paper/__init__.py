"""The paper's experiments as grids of ordinary runs: what is run at which scale, and how it is drawn."""
