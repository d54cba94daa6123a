"""Makes C of Nim, and with the C bindings of the contract a module of it."""

import json
import pathlib
import shutil
import subprocess
import sys

made = pathlib.Path("generated/nim")
shutil.rmtree(made, ignore_errors=True)
subprocess.run(["nim", "c", "plugin.nim"], check=True)
# The compiler wrote down which files it made, and where its own headers are.
steps = json.loads((made / "plugin.json").read_text())
headers = [word for word in steps["compile"][0][1].split() if word.startswith("-I")]
subprocess.run(
    [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", "-mexec-model=reactor", "-Os", "-s", "-w", "-I."]
    + [*headers, "-Wl,-z,stack-size=131072", "-o", "core.wasm"]
    + [file for file, _ in steps["compile"]]
    + ["generated/guest.c", "generated/guest_component_type.o"],
    check=True,
)
