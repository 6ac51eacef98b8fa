import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { afterAll, beforeAll, expect, test } from "bun:test";
import { FileError } from "../files.ts";
import { openFiles } from "./files.ts";

const files = openFiles();
let directory = "";
beforeAll(() => {
  directory = mkdtempSync(`${tmpdir()}/calico-files-`);
});
afterAll(() => rmSync(directory, { recursive: true }));

const modeOf = (path: string): number => statSync(path).mode & 0o777;

test("text is written whole, with its mode, whatever was there before", async () => {
  const path = `${directory}/text`;
  expect(await files.readText(path)).toBeUndefined();
  await files.writeText(path, "one");
  expect(modeOf(path)).toBe(0o644);
  await files.writeText(path, "ü", 0o600);
  expect([await files.readText(path), modeOf(path)]).toEqual(["ü", 0o600]);
  await files.writeVolatile(path, "two", 0o640);
  expect([await files.readText(path), modeOf(path)]).toEqual(["two", 0o640]);
  expect(readdirSync(directory)).toEqual(["text"]);
});

test("a failed write leaves the old content and no temporary file", async () => {
  await files.makeDirectory(`${directory}/full`);
  writeFileSync(`${directory}/full/in-the-way`, "x");
  // A file cannot replace a directory.
  await expect(files.writeText(`${directory}/full`, "x")).rejects.toThrow(`Cannot write "${directory}/full": EISDIR`);
  expect(readdirSync(directory).filter((name) => name.includes("tmp"))).toEqual([]);
  expect(readdirSync(`${directory}/full`)).toEqual(["in-the-way"]);
});

test("concurrent writes of one file leave one of the texts, whole", async () => {
  const path = `${directory}/raced`;
  const texts = Array.from({ length: 20 }, (_, i) => String(i).repeat(1000));
  await Promise.all(texts.map((text) => files.writeText(path, text)));
  expect(texts).toContain(readFileSync(path, "utf8"));
});

test("rename replaces a file of the new name, and the old name must exist", async () => {
  await files.writeText(`${directory}/from`, "new");
  await files.writeText(`${directory}/to`, "old");
  await files.rename(`${directory}/from`, `${directory}/to`);
  expect(readFileSync(`${directory}/to`, "utf8")).toBe("new");
  await expect(files.rename(`${directory}/from`, `${directory}/to`)).rejects.toThrow(
    `Cannot rename "${directory}/from": ENOENT`,
  );
});

test("directories: made with parents, listed in order, absent ones are empty", async () => {
  await files.makeDirectory(`${directory}/a/b`);
  await files.makeDirectory(`${directory}/a/b`);
  for (const name of ["z", "a"]) await files.writeText(`${directory}/a/b/${name}`, "");
  expect(await files.list(`${directory}/a/b`)).toEqual(["a", "z"]);
  expect(await files.list(`${directory}/none`)).toEqual([]);
});

test("exists, remove and copy", async () => {
  const path = `${directory}/original`;
  await files.writeText(path, "content");
  expect([await files.exists(path), await files.exists(`${path}2`)]).toEqual([true, false]);
  await files.copy(path, `${path}2`, 0o755);
  expect([readFileSync(`${path}2`, "utf8"), modeOf(`${path}2`)]).toEqual(["content", 0o755]);
  await files.remove(path);
  await files.remove(path);
  expect(await files.exists(path)).toBe(false);
});

test("errors name operation, path and cause", async () => {
  const error: unknown = await files.readText(directory).catch((caught: unknown) => caught);
  if (!(error instanceof FileError)) throw error;
  expect([error.path, error.code, error.message]).toEqual([directory, "EISDIR", `Cannot read "${directory}": EISDIR`]);
});
