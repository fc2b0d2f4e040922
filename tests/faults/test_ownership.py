"""A problem's file is code: who could have written it is said before it is run."""

import os
import sys

import pytest

from crossbackend.load import gallery, load, not_own
from tests.command import call

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system knows no owner of a file")
loading = sys.modules["crossbackend.load"]  # the package has a function of that name
RIGHTS = "loading it runs it with your rights"


@pytest.fixture
def path(lab):
    found = lab.problem()
    found.chmod(0o644)
    return found


def test_ones_own_file_is_nothing_to_speak_of(path):
    assert not_own(path) == ""


def test_another_users_file(path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    assert not_own(path).startswith(f"{path} belongs to ")
    assert not_own(path).endswith(f"(user {path.stat().st_uid}): {RIGHTS}")


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_given_to_a_user_without_a_name(path):
    os.chown(path, 54321, -1)
    assert not_own(path) == f"{path} belongs to user 54321: {RIGHTS}"


def test_a_file_that_everybody_can_write(path):
    path.chmod(0o646)
    assert not_own(path) == f"{path} can be written by every user of this system: {RIGHTS}"


def test_a_file_that_a_group_can_write(path, monkeypatch):
    path.chmod(0o664)
    monkeypatch.setattr(loading, "_private", lambda group, user: False)
    assert f"{path} can be written by the group " in not_own(path)
    monkeypatch.setattr(loading, "_private", lambda group, user: True)
    assert not_own(path) == "", "many systems give every user a group of their own"


def test_a_private_group(monkeypatch):
    grp, pwd = pytest.importorskip("grp"), pytest.importorskip("pwd")
    me = pwd.getpwuid(os.geteuid()).pw_name

    def group(name, members):
        monkeypatch.setattr(grp, "getgrgid", lambda _: grp.struct_group((name, "x", 7, members)))
        return loading._private(7, os.geteuid())

    assert (group(me, []), group(me, [me]), group(me, ["eve"]), group("staff", [])) == (True, True, False, False)


def test_systems_without_owners(path, monkeypatch):
    path.chmod(0o666)
    monkeypatch.delattr(os, "geteuid")
    assert not_own(path) == ""


@pytest.mark.parametrize("word", ["linear", "nowhere.py", "~nosuchuser/x.py", "x" * 5000 + ".py", ".", ""])
def test_what_is_no_file_of_ones_own(word, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    assert not_own(word) == ""


def test_the_gallery_is_the_packages(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    assert [not_own(loading.gallery_folder() / f"{name}.py") for name in gallery()] == [""] * len(gallery())


COMMANDS = [
    ["plan", "{}", "--backend", "a", "--rtol", "1e-4"],
    ["plan", "--problem", "{}", "--backend", "a", "--rtol", "1e-4"],
    ["run", "{}", "--backend", "a", "--rtol", "1e-4", "--norm", "nonsense"],
    ["lower", "{}"],
    ["recipe", "{}", "--library", "nonsense"],
    ["export", "{}", "--julia", "/dev/null/x"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: "-".join(words[:2]).replace("{}", "FILE"))
def test_every_command_that_loads_a_file_says_so_first(path, capsys, words):
    path.write_text("raise SystemExit('it ran')")
    path.chmod(0o666)
    code, out, err = call(capsys, *[word.format(path) for word in words])
    first, second = err.splitlines()
    assert (code, out) == (2, "")
    assert first == f"warning: {path} can be written by every user of this system: {RIGHTS}"
    assert "it ran" in second


def test_json_stays_json(path, capsys):
    path.chmod(0o666)
    code, out, err = call(capsys, "plan", path, "--backend", "a", "--rtol", "1e-4", "--json")
    assert (code, out[0], err.count("\n")) == (0, "{", 1)
    assert err.startswith("warning: ")


def test_python_says_nothing(path, capsys, recwarn):
    path.chmod(0o666)
    assert load(path).name == "p"
    assert (capsys.readouterr().err, list(recwarn)) == ("", [])


def test_a_name_that_hides_something_is_shown_clean(lab, capsys):
    path = lab.problem("a\x1b[2Kb")
    path.chmod(0o666)
    _, _, err = call(capsys, "plan", path, "--backend", "a")
    assert "\x1b" not in err.splitlines()[0]


def test_words_that_no_system_takes_are_a_mistake(capsys):
    for word in ("~nosuchuser/x.py", "x" * 5000 + ".py", "x" * 5000):
        code, out, err = call(capsys, "plan", word)
        assert (code, out) == (2, "")
        assert err.startswith("error: problem: got ")
