"""How the shipped models were trained, the studies behind the defaults, and the benchmarks."""
