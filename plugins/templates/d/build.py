"""Makes of the contract in C what D reads, and of both a module."""

import pathlib
import re
import subprocess
import sys

zig = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi"]
header = pathlib.Path("generated/guest.h")
# D reads C that is preprocessed, where no `#define` is left: the numbers of the contract become a module of their own.
plain = subprocess.run([*zig, "-E", "-P", str(header)], check=True, capture_output=True, text=True).stdout
numbers = re.findall(r"^#define (\w+) (\d+)$", header.read_text(), re.MULTILINE)
# C passes a struct of one number as the number, D as an address: handles become numbers.
plain = re.sub(r"typedef struct (\w+) \{\s*int32_t __handle;\s*\} \1;", r"typedef int32_t \1;", plain)
pathlib.Path("generated/contract.c").write_text(plain)
lines = ["module numbers;", *(f"enum ubyte {name} = {number};" for name, number in numbers)]
pathlib.Path("generated/numbers.d").write_text("\n".join(lines) + "\n")
subprocess.run(
    ["ldc2", "-mtriple=wasm32-unknown-unknown", "-betterC", "-Os", "-Igenerated", "-c"]
    + ["-of=generated/plugin.o", "plugin.d", "guest.d", "generated/numbers.d"],
    check=True,
)
subprocess.run(
    [*zig, "-mexec-model=reactor", "-Os", "-s", "-Wl,-z,stack-size=131072", "-o", "core.wasm"]
    + ["generated/plugin.o", "generated/guest.c", "generated/guest_component_type.o"],
    check=True,
)
