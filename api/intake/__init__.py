"""How rows of other registers become records: read, understood, recorded or kept for a person."""
