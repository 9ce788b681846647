/** What the tests use of node, whose types would change those of the browser's functions. */
declare module "node:test" {
  export function test(name: string, run: () => void | Promise<void>): void;
}
declare module "node:assert/strict" {
  interface Assert {
    equal(actual: unknown, expected: unknown, message?: string): void;
    deepEqual(actual: unknown, expected: unknown, message?: string): void;
    ok(value: unknown, message?: string): asserts value;
    throws(run: () => unknown, error?: unknown): void;
  }
  const assert: Assert;
  export default assert;
}
