import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { defineConfig, type Plugin } from "vite";
import { compress } from "./compress.mjs";

const BUILT = "../src/heliograph/http/static/dashboard";

/** What a build is made of; tests/unit/test_dashboard_build.py computes the same. */
function sources(): string {
  const files = readdirSync(".", { recursive: true, encoding: "utf8" })
    .filter((path) =>
      /^(src|public)[/\\].*\.\w+$|^(index\.html|[\w.-]+\.(ts|json|mjs))$/.test(path),
    )
    .map((path) => path.replaceAll("\\", "/"))
    .filter((path) => path !== "src/api/schema.d.ts" && path !== "biome.json")
    .sort();
  const hash = createHash("sha256");
  for (const path of files) hash.update(path).update("\0").update(readFileSync(path)).update("\0");
  return hash.digest("hex");
}

/** Compresses what is built, and says of which sources it is. */
function shipped(): Plugin {
  return {
    name: "shipped",
    apply: "build",
    closeBundle() {
      compress(BUILT);
      writeFileSync(join(BUILT, "build.json"), `${JSON.stringify({ sources: sources() })}\n`);
    },
  };
}

export default defineConfig({
  // The page's <base> says where that is.
  base: "./",
  plugins: [shipped()],
  build: {
    outDir: BUILT,
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: { proxy: { "/api": "http://localhost:8000" } },
});
