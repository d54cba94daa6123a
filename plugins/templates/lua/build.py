"""Makes one module of Lua, of `plugin.lua`, and of the contract in C."""

import pathlib
import subprocess
import sys

# What a plugin may not reach anyhow (files, processes, other modules), and programs of their own.
without = {"lua", "luac", "onelua", "ltests", "linit", "liolib", "loslib", "loadlib", "ldblib", "lcorolib"}
sources = [str(path) for path in sorted(pathlib.Path("lua").glob("*.c")) if path.stem not in without]
empty = pathlib.Path("generated/empty")
empty.mkdir(exist_ok=True)
# An error of Lua ends the call, so nobody jumps.
(empty / "setjmp.h").write_text("")
throw = pathlib.Path("generated/throw.h")
throw.write_text(
    "#include <stdio.h>\n#include <stdlib.h>\n#define luai_jmpbuf int\n#define LUAI_TRY(L, c, a) { (void)(c); a }\n"
    "#define LUAI_THROW(L, c) { fputs(lua_tostring(L, -1), stderr); abort(); }\n"
)
subprocess.run(
    [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", "-mexec-model=reactor", "-std=gnu23", "-Os", "-s", "-w"]
    + ["-D_WASI_EMULATED_SIGNAL", "-include", str(throw), f"-I{empty}", "-Ilua", "-I.", "-Wl,-z,stack-size=262144"]
    + [*sources, "guest.c", "generated/guest.c", "generated/guest_component_type.o", "-lwasi-emulated-signal"]
    + ["-o", "core.wasm"],
    check=True,
)
