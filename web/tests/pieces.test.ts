import assert from "node:assert/strict";
import { test } from "node:test";
import { firstPiece, laterPieces } from "../src/network/pieces";

test("a long table is cut between rows, each piece with the heading and its own lines", () => {
  const rows = Array.from({ length: 50 }, (_, number) =>
    number % 7 === 3 ? `${number},"said\n""so"""\n` : `${number},x\n`,
  );
  const table = `time,text\n${rows.join("")}`;
  const first = firstPiece(table, 100);
  const later = [...laterPieces(table, 100, 1)];
  assert.ok(later.length > 2);
  const own = later.map((piece) => piece.table.replace("time,text\n", ""));
  assert.equal(first + own.join(""), table);
  const lines = table.split("\n");
  for (const piece of later) {
    assert.ok(piece.table.length <= 100 + "time,text\n".length);
    assert.ok(/^time,text\n\d+,/.test(piece.table));
    piece.table
      .trimEnd()
      .split("\n")
      .forEach((line, index) => {
        assert.equal(lines[index && index + piece.linesLeftOut], line);
      });
  }
});

test("a short table is one piece, and a row that is too long is named by its line", () => {
  assert.equal(firstPiece("a,b\n1,2", 100), "a,b\n1,2");
  assert.deepEqual([...laterPieces("a,b\n1,2", 100, 1)], []);
  const long = `a,b\n1,2\n3,${"x".repeat(20)}\n`;
  assert.throws(() => [...laterPieces(long, 10, 1)], { name: "RangeError", message: "3" });
});
