"""The command line, called in this process."""

from crossbackend.cli import main


def call(capsys, *args):
    """Return (exit code, standard output, standard error)."""
    code = 0
    try:
        main([str(arg) for arg in args])
    except SystemExit as ended:
        code = ended.code
    said = capsys.readouterr()
    return code, said.out, said.err
