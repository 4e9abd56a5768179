"""Access tokens of other issuers: who they are, their keys, and what is read from a token."""
