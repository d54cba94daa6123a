"""Makes one module of mruby, of bytecode of `plugin.rb`, and of the contract in C."""

import pathlib
import subprocess
import sys

MRUBY, GENERATED = pathlib.Path("mruby"), pathlib.Path("generated")
CORE = [str(path) for path in sorted((MRUBY / "src").glob("*.c"))]
# Parts of Ruby that plugins use, in the order in which they need each other. The folder mruby/mrbgems has more.
GEMS = (
    "compar-ext enum-ext string-ext numeric-ext array-ext hash-ext range-ext proc-ext symbol-ext object-ext fiber enumerator "
    "set kernel-ext class-ext toplevel-ext sprintf struct catch print"
).split()


def zig(*arguments):
    cc = [sys.executable, "-m", "ziglang", "cc", "-w", "-I.", "-Imruby/include", "-DMRB_NO_PRESYM"]
    subprocess.run([*cc, *arguments], check=True)


def bytecode(name, files):
    """C of Ruby: an array of that name."""
    subprocess.run([compiler, f"-B{name}", "-g", "-o", GENERATED / f"{name}.c", *files], check=True)
    return str(GENERATED / f"{name}.c")


# mruby's compiler, for this machine.
compiler = GENERATED / "mrbc"
parser = [str(MRUBY / "mrbgems/mruby-compiler/core" / name) for name in ("codegen.c", "y.tab.c")]
tool = [str(path) for path in (MRUBY / "mrbgems/mruby-bin-mrbc/tools/mrbc").glob("*.c")]
zig("-O1", "-DMRB_NO_GEMS", "-Imruby/mrbgems/mruby-compiler/core", "-o", str(compiler), *CORE, *parser, *tool, "-lm")

# What of Ruby is written in Ruby, and who loads it.
sources, begin, declare = [], "", "#include <mruby.h>\n#include <mruby/irep.h>\n"
sources.append(bytecode("ruby_core", sorted(MRUBY.glob("mrblib/*.rb"))))
for gem in GEMS:
    folder, name = MRUBY / f"mrbgems/mruby-{gem}", gem.replace("-", "_")
    parts = sorted(folder.glob("src/*.c"))
    sources += map(str, parts)
    if parts:
        declare += f"void mrb_mruby_{name}_gem_init(mrb_state *);\n"
        begin += f"  mrb_mruby_{name}_gem_init(mrb);\n"
    texts = sorted(folder.glob("mrblib/*.rb"))
    if texts:
        sources.append(bytecode(f"ruby_{name}", texts))
        declare += f"extern const uint8_t ruby_{name}[];\n"
        begin += f"  mrb_load_irep(mrb, ruby_{name});\n"
sources.append(bytecode("ruby_plugin", ["guest.rb", "plugin.rb"]))
(GENERATED / "ruby.h").write_text("#include <stdint.h>\nextern const uint8_t ruby_core[], ruby_plugin[];\n")
(GENERATED / "begin.c").write_text(
    f'{declare}#include "ruby.h"\nvoid mrb_init_mrblib(mrb_state *mrb) {{ mrb_load_irep(mrb, ruby_core); }}\n'
    f"void mrb_init_mrbgems(mrb_state *mrb) {{\n{begin}}}\n"
)

# Who catches exceptions is in exceptions.c.
loop = (MRUBY / "src/vm.c").read_text()
for theirs, ours in ("mrb_vm_exec", "run_bytecode"), ("mrb_protect_error", "unused"):
    head = f"MRB_API mrb_value\n{theirs}(mrb_state *mrb, "
    assert loop.count(head) == 1, f"mruby/src/vm.c is not that of mruby 3.2: {theirs}"
    loop = loop.replace(head, f"static mrb_value\n{ours}(mrb_state *mrb, ")
(GENERATED / "vm.c").write_text(loop)

zig(
    *("-target", "wasm32-wasi", "-mexec-model=reactor", "-Os", "-s", "-include", "exceptions.h", "-Imruby/src"),
    *("-DMRB_INT64", "-DMRB_CALL_LEVEL_MAX=256", "-DMRB_HEAP_PAGE_SIZE=256", "-Wl,-z,stack-size=524288"),
    *(path for path in CORE if not path.endswith("/vm.c")),
    *(*sources, "generated/begin.c", "exceptions.c", "guest.c", "generated/guest.c", "generated/guest_component_type.o"),
    *("-o", "generated/plain.wasm"),
)
