"""Finished runs, from a project's directory or from a revision that Git or DVC holds."""
