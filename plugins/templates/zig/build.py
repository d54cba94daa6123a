"""Translates the C header of the contract, and compiles the plugin with it."""

import pathlib
import subprocess
import sys

ZIG = [sys.executable, "-m", "ziglang"]
TARGET = ["-target", "wasm32-wasi", "-lc"]
header = subprocess.run([*ZIG, "translate-c", *TARGET, "generated/guest.h"], check=True, stdout=subprocess.PIPE)
pathlib.Path("generated/guest.zig").write_bytes(header.stdout)
subprocess.run(
    [*ZIG, "build-exe", *TARGET, "-mexec-model=reactor", "-O", "ReleaseSmall", "-fno-entry", "-rdynamic"]
    + ["--stack", "131072", "-femit-bin=core.wasm"]
    # The C files have to stand before the modules.
    + ["generated/guest.c", "generated/guest_component_type.o"]
    + ["--dep", "c", "-Mroot=plugin.zig", "-Mc=generated/guest.zig"],
    check=True,
)
