"""The backends, one file each, and the contract that they fulfil."""
