"""Makes a folder that Go takes for a module proxy, with one module in it: goproxy.py SOURCES FOLDER."""

import os
import pathlib
import sys
import zipfile

MODULE, VERSION = "go.bytecodealliance.org/pkg", "v0.2.2"

sources, folder = sys.argv[1:]
versions = pathlib.Path(folder, MODULE, "@v")
versions.mkdir(parents=True, exist_ok=True)
(versions / "list").write_text(VERSION + "\n")
(versions / f"{VERSION}.info").write_text(f'{{"Version":"{VERSION}"}}')
(versions / f"{VERSION}.mod").write_text(pathlib.Path(sources, "go.mod").read_text())
with zipfile.ZipFile(versions / f"{VERSION}.zip", "w") as archive:
    for parent, _, files in os.walk(sources):
        for file in sorted(files):
            path = pathlib.Path(parent, file)
            archive.write(path, f"{MODULE}@{VERSION}/{path.relative_to(sources)}")
