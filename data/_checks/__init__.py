"""The checks of a domain pack's files, one file each; `data.domain_check` runs them."""
