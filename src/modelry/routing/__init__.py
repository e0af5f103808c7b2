"""What both planes share: frozen messages, the feed's order, and nothing that does I/O."""
