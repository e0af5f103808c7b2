"""Usage: what gateways metered, stored once and summed up by the hour, and their metrics."""
