"""API keys of subscribers: what one looks like, and where it is known from."""
