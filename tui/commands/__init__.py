"""One verb of the command line a file; each has a `command`. See the table in `tui.cli`."""
