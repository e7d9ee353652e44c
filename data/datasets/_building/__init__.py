"""The passes of a build, one file each: reading, deciding, writing, and the folder they work in."""
