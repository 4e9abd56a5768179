"""What happened: the immutable events, their rules and their storage. Imports nothing of ours."""
