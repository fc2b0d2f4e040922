"""A results folder as a Julia program writes it, made by hand: what a test does to it is its own."""

import json

import numpy as np

CARD = {"format": 1, "name": "p", "ts": [0.0, 0.5, 1.0], "state": {"": [2]},
        "parameters": {"layer/b": [], "w": [2, 3]}}  # fmt: skip


class Results:
    """`FOLDER/records/KEY.json` and `KEY/NAME.npy` of a problem `p`: a state of 2, the leaves `w` and `layer/b`."""

    def __init__(self, folder):
        self.folder = folder
        self.records = folder / "records"

    def record(self, key="one", arrays=None, **changes):
        """Write a record whole, some fields changed."""
        arrays = self.arrays() if arrays is None else arrays
        passed = {"nfe": 8, "accepted": 1, "rejected": 0, "t_min": 0.0, "t_max": 1.0, "y_max": 2.0}
        fields = {
            "format": 1, "digest": "", "problem": "p", "backend": "julia:mine", "norm": "default", "stepping": "native",
            "rtol": 1e-6, "atol": 1e-8, "gradient": "backsolve", "dtype": "float64", "device": "cpu",
            "first_step": None, "status": "ok", "message": "", "loss": 0.5, "forward": passed, "backward": passed,
            "error": {"all": None, "y0": None, "params": None, "floor": None}, "reconstruction_error": None,
            "rounding_floor": None, "scaled": None, "error_split": None,
            "time": {"median_s": 1e-3, "q1_s": 1e-3, "q3_s": 2e-3, "min_s": 1e-3, "first_s": None, "compile_s": None,
                     "repeats": 3},
            "peak_memory_bytes": None, "settings": {"forward": {}, "backward": {}}, "machine": {},
            "versions": {"julia": "1.5.3", "crossbackend": ""}, "problem_digest": "",
            "arrays": {name: {"dtype": array.dtype.str, "shape": list(array.shape)} for name, array in arrays.items()},
        } | changes  # fmt: skip
        self.write(key, fields, arrays)
        return fields

    def write(self, key, fields, arrays):
        self.records.mkdir(parents=True, exist_ok=True)
        for name, array in arrays.items():
            path = self.records / key / f"{name}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, array)
        (self.records / f"{key}.json").write_text(json.dumps(fields))

    def card(self):
        (self.folder.parent / "card.json").write_text(json.dumps(CARD))

    @staticmethod
    def arrays():
        return {
            "gradient/y0": np.array([1.0, 2.0]),
            "gradient/params/w": np.arange(6.0).reshape(2, 3),
            "gradient/params/layer/b": np.array(3.0),
            "forward/t0": np.array([0.0]),
            "forward/t1": np.array([1.0]),
            "forward/accepted": np.array([True]),
        }
