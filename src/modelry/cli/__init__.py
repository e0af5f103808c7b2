"""The command line. Only `up`, `gateway` and `control` start processes; the rest speaks HTTP."""
