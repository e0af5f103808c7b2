"""The data plane: authenticates, admits, routes and relays.

It touches no database and no file but its snapshot: all it knows came over
the feed.
"""
