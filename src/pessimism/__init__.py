"""Conservatism and reward hacking, from offline preference optimisation to online adaptation."""
