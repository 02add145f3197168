// Prints the Khronos validator's report on a GLB as JSON.
// node gltf_validate.mjs FOLDER_WITH_NODE_MODULES FILE.glb
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";

const [folder, file] = process.argv.slice(2);
const validator = createRequire(join(resolve(folder), "index.js"))("gltf-validator");
const report = await validator.validateBytes(new Uint8Array(readFileSync(file)), {
  maxIssues: 200,
});
console.log(JSON.stringify(report.issues));
