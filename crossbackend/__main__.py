"""`python -m crossbackend`."""

from crossbackend.cli import main

if __name__ == "__main__":
    main()
