"""How people and machines reach it: HTTP, pages and the command line."""
