"""One file per law: each defines `LAW`, and its file's name is the law's id."""
