"""What it means: scores, explanations and disclosure, all derived from the ledger."""
