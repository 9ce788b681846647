/** Has node read TypeScript, as what Vite builds with understands it: `node --import` takes this. */
import { readFile } from "node:fs/promises";
import { register } from "node:module";
import { fileURLToPath } from "node:url";
import { isMainThread } from "node:worker_threads";
// It comes with Vite.
import { transformSync } from "rolldown/utils";

// Node asks the hooks below in a thread of their own, which reads this file again.
if (isMainThread) register(import.meta.url);

/** Imports leave the ending out. */
export async function resolve(name, context, next) {
  if (!name.startsWith(".") || /\.\w+$/.test(name)) return next(name, context);
  try {
    return await next(`${name}.ts`, context);
  } catch {
    return next(`${name}.tsx`, context);
  }
}

export async function load(url, context, next) {
  if (!/\.tsx?$/.test(url)) return next(url, context);
  const path = fileURLToPath(url);
  const source = await readFile(path, "utf8");
  const { code, errors } = transformSync(path, source, {
    jsx: { runtime: "automatic", importSource: "preact" },
  });
  if (errors.length > 0) throw new SyntaxError(`${path}: ${errors[0].message}`);
  return { format: "module", source: code, shortCircuit: true };
}
