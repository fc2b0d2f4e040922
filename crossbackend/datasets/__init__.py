"""Data sets of the experiments as NumPy arrays; what each is and where its files go is in docs/data.md.

Nothing here downloads anything. Importing this loads neither aeon nor scikit-learn.
"""

from crossbackend.datasets.cifar import cifar10
from crossbackend.datasets.densities import eight_gaussians, moons, pinwheel
from crossbackend.datasets.idx import mnist
from crossbackend.datasets.installed import digits, japanese_vowels
from crossbackend.datasets.pendulum import Acrobot, acrobot, acrobot_field, energy, simulate
from crossbackend.datasets.speech import speech_commands
from crossbackend.datasets.split import Part, Split

__all__ = [
    "Acrobot",
    "Part",
    "Split",
    "acrobot",
    "acrobot_field",
    "cifar10",
    "digits",
    "eight_gaussians",
    "energy",
    "japanese_vowels",
    "mnist",
    "moons",
    "pinwheel",
    "simulate",
    "speech_commands",
]
