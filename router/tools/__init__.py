"""What agent mode may call, one file per tool."""
