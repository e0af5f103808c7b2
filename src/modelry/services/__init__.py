"""Services: what their owners want, what was observed, and how one becomes the other."""
