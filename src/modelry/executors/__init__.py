"""Executors: start, adopt, watch and stop replicas. Nothing else knows where one runs."""
