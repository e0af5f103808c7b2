"""A service's metrics over time: what its requests came to and how it stood, minute by minute and
hour by hour, each kept for as long as charts ask for it.
"""
