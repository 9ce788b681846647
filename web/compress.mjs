// Writes FILE.br and FILE.gz beside each file of the folders that is worth it.
// usage: node compress.mjs FOLDER…
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const TEXT = /\.(css|ico|js|svg)$/;
const SMALLEST_BYTES = 512;

export function compress(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    const path = join(entry.parentPath ?? entry.path, entry.name);
    if (!entry.isFile() || !TEXT.test(entry.name)) continue;
    const content = readFileSync(path);
    if (content.length < SMALLEST_BYTES) continue;
    const options = { params: { [constants.BROTLI_PARAM_SIZE_HINT]: content.length } };
    writeFileSync(`${path}.br`, brotliCompressSync(content, options));
    writeFileSync(`${path}.gz`, gzipSync(content, { level: 9 }));
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  process.argv.slice(2).forEach(compress);
}
