"""What the console script's commands do and print; one file each."""
