"""What crossbackend costs beside its libraries, and how fast its reference is: `make bench-peers`."""
