"""Whole networks at full size: measured once, kept as JSON, shown in docs/benchmarks.md. Not part of the tests."""
