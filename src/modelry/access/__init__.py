"""Who may do what: users, access tokens, API keys."""
