"""Speed and memory: ``python -m benchmarks`` (``make bench``). README.md says how to add a benchmark."""
