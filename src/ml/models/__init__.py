"""Where weights come from, and how they are loaded without running what a file says."""
