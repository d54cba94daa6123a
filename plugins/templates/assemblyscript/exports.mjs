// AssemblyScript can't write the names of the contract: node exports.mjs FROM TO renames the exports.

import { readFileSync, writeFileSync } from "node:fs";
import binaryen from "binaryen";

const names = {
  configure: "gatepost:policy/configure@0.1.0#configure",
  rcpt: "gatepost:policy/on-rcpt@0.1.0#rcpt",
  data: "gatepost:policy/on-data@0.1.0#data",
};

const [from, to] = process.argv.slice(2);
const module = binaryen.readBinary(readFileSync(from));
for (const [ours, theirs] of Object.entries(names)) {
  const { value } = binaryen.getExportInfo(module.getExport(ours));
  module.removeExport(ours);
  module.addFunctionExport(value, theirs);
}
writeFileSync(to, module.emitBinary());
