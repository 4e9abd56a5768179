"""The demonstration: invented providers with invented histories, the same for a seed."""
