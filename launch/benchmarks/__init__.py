"""What launch/benchmark.py measures: ours, the peers, and how they are timed in turn."""
