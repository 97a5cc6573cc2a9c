"""The parts of docs/benchmarks.md, each from the same results."""
