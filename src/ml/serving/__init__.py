"""The one Quart application factory behind every service, and the command that runs it."""
