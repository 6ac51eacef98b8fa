/** Files as kubectl reads them: the same files through the real kubectl and through `calicoctl`'s reader. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { itemsOf, readDocuments } from "../../src/cli/documents.ts";
import { readJsonStream } from "../../src/cli/json-stream.ts";

const HEAD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n";
const OTHER = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n";
const JSON_OBJECT = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"j"},"data":{"a":"\\u00e9 \\""}}';

/** Scalars, each an item of one list. */
const SCALARS = [
  "0777",
  "0o17",
  "0O17",
  "0b11",
  "0B11",
  "-0b11",
  "0x1F",
  "0X1f",
  "-0x1F",
  "+0777",
  "+12",
  "-0",
  "08",
  "09.5",
  "0_7",
  "0x_1F",
  "1_000",
  "1__0",
  "_1",
  "1:30",
  "1:2:3",
  "y",
  "Y",
  "n",
  "N",
  "yes",
  "Yes",
  "YES",
  "yEs",
  "no",
  "on",
  "On",
  "off",
  "OFF",
  "true",
  "True",
  "TRUE",
  "tRUE",
  "false",
  "~",
  "null",
  "Null",
  "nuLL",
  "",
  "1e3",
  "1E3",
  "1e+3",
  "1e-3",
  "1e",
  ".5",
  "5.",
  "0.5",
  "-.5",
  ".",
  "+",
  "=",
  "12345678901234567890",
  "-9223372036854775808",
  "123456789012345678901234567890",
  "2001-01-01",
  "2001-12-14t21:59:43.10-05:00",
  "1.2.3",
  "10.0.0.0/8",
  "0o8",
  "80",
  '"80"',
  "'80'",
  "!!str 80",
  '!!int "80"',
  "!!float 80",
  '!!bool "yes"',
  '!!null ""',
  "!!binary aGVsbG8=",
  "!foo bar",
  "! 80",
  "!<tag:yaml.org,2002:str> 80",
  '"\\x41\\u00e9\\U0001F600"',
  "'it''s'",
  "a b  c",
  "a#b",
  "a #b",
  "[a, b,]",
  "{a, b: c}",
  "- 1",
  "http://x:80/a",
];

const FILES: Readonly<Record<string, string | Uint8Array>> = {
  "every scalar": `${HEAD}data:\n${SCALARS.map((text) => `  - ${text}\n`).join("")}`,
  "keys become text": `${HEAD}data: {1: a, 0777: b, true: c, 1.5: d, yes1: e, 1e3: f, 0x10: g, no: h}\n`,
  blocks: `${HEAD}data:\n  a: |\n    x\n     y\n  b: >-\n    x\n    y\n  c: |+\n    x\n\n  d: "x\n    y"\n`,
  "a merge after a key wins": `${HEAD}base: &b {a: base, z: base}\ndata:\n  a: mine\n  <<: *b\n`,
  "a merge before a key loses": `${HEAD}base: &b {a: base, z: base}\ndata:\n  <<: *b\n  a: mine\n`,
  "the first of several merges wins": `${HEAD}one: &b {a: one}\ntwo: &c {a: two, q: two}\ndata:\n  <<: [*b, *c]\n`,
  "a merge of a merge": `${HEAD}one: &b {a: one, k: one}\ntwo: &c {<<: *b, k: two}\ndata:\n  <<: *c\n`,
  "a quoted merge is a key": `${HEAD}base: &b {a: base}\ndata:\n  "<<": *b\n`,
  aliases: `${HEAD}data: {a: &x [1, {b: c}], d: *x, e: &y 0777, f: *y}\n`,
  "several documents": `---\n${HEAD}--- # comment\n${OTHER}---\n`,
  "comments and nothing between": `# first\n---\n# only this\n---\n\n---\n${HEAD}`,
  "carriage returns and a byte order mark": `\ufeff${HEAD.replaceAll("\n", "\r\n")}---\r\n${OTHER.replaceAll("\n", "\r\n")}`,
  "UTF-16, as Windows' shell writes it": new Uint8Array(Buffer.from(`\ufeff${HEAD}data: {a: ä}\n`, "utf16le")),
  JSON: JSON_OBJECT,
  "JSON with what YAML does not know": JSON_OBJECT.replace("\\u00e9", "\\ud83d\\ude00 \\/"),
  "JSON objects without anything between": `${JSON_OBJECT}${JSON_OBJECT.replace('"j"', '"k"')}\n \t${JSON_OBJECT.replace('"j"', '"l"')}`,
  "YAML, then JSON": `${HEAD}---\n${JSON_OBJECT}\n`,
  "a List": `apiVersion: v1\nkind: List\nmetadata: {resourceVersion: ""}\nitems:\n- ${JSON_OBJECT}\n- ${JSON_OBJECT.replace('"j"', '"k"')}\n`,
  "a list of a kind, items untyped":
    '{"apiVersion":"v1","kind":"PodList","metadata":{},"items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b"}}]}',
  "a list of nothing": '{"apiVersion":"v1","kind":"PodList","metadata":{},"items":[]}',
  "a list of null": '{"apiVersion":"v1","kind":"PodList","metadata":{},"items":null}',
  "managed fields": `${HEAD.replace("{name: x}", "{name: x, managedFields: [{manager: kubectl, fieldsV1: {'f:data': {'.': {}}}}]}")}`,
};

/** kubectl refuses these, and so do we. */
const REFUSED: Readonly<Record<string, string>> = {
  "text after the separator": `${HEAD}--- {apiVersion: v1, kind: ConfigMap, metadata: {name: y}}\n`,
  "a directive": `%YAML 1.1\n---\n${HEAD}`,
  infinity: `${HEAD}data: {a: .inf}\n`,
  "no number": `${HEAD}data: {a: .nan}\n`,
  "null as a key": `${HEAD}data: {~: a}\n`,
  "a list as a key": `${HEAD}data: {[a]: b}\n`,
  "a merge of text": `${HEAD}data: {<<: text}\n`,
  "a tag that does not fit": `${HEAD}data: {a: !!int x}\n`,
  "an unknown anchor": `${HEAD}data: {a: *x}\n`,
  "a tab as indentation": `${HEAD}data:\n\ta: b\n`,
  "JSON that breaks off": JSON_OBJECT.slice(0, -2),
  "JSON, then a separator without content before it": `${JSON_OBJECT}${JSON_OBJECT}\n---\n${JSON_OBJECT}`,
};

/** kubectl reads these, and loses in silence what was written; we refuse them by name. */
const LOST: Readonly<Record<string, readonly [text: string, message: string]>> = {
  "a key twice": [`${HEAD}data: {a: 1, a: 2}\n`, 'key "a" is given twice'],
  "a key twice in other words": [`${HEAD}data: {1: a, "1": b}\n`, 'key "1" is given twice'],
  "a field of JSON twice": [JSON_OBJECT.replace('"kind"', '"kind":"Pod","kind"'), 'key "kind" is given twice'],
  "text after the end of a document": [`${HEAD}...\n${OTHER}`, 'kubectl reads nothing after a line "..."'],
};

let directory = "";
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "kubectl-files-"));
});
afterAll(() => rm(directory, { recursive: true }));

async function kubectl(text: string | Uint8Array): Promise<{ readonly objects: unknown[]; readonly error: string }> {
  const path = join(directory, "file.yaml");
  await writeFile(path, text);
  const child = Bun.spawn(
    ["kubectl", "patch", "--local", "-f", path, "--type=merge", "-p", "{}", "-o", "json", "--show-managed-fields"],
    {
      stdout: "pipe",
      stderr: "pipe",
      env: { ...process.env, KUBECONFIG: "/dev/null" },
    },
  );
  const [out, error] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { objects: readJsonStream(out).map(({ value }) => value), error };
}

async function ours(text: string | Uint8Array): Promise<unknown[]> {
  const path = join(directory, "ours.yaml");
  await writeFile(path, text);
  return readDocuments(await readFile(path)).flatMap(({ value }) => itemsOf(value).map((item) => item.value));
}

describe("read alike", () => {
  for (const [name, text] of Object.entries(FILES)) {
    test(name, async () => {
      const theirs = await kubectl(text);
      expect(theirs.error.replace("error: no objects passed to patch\n", "")).toBe("");
      expect(await ours(text)).toEqual(theirs.objects);
    });
  }
});

describe("refused by both", () => {
  for (const [name, text] of Object.entries(REFUSED)) {
    test(name, async () => {
      expect((await kubectl(text)).error).toStartWith("error: ");
      await expect(ours(text)).rejects.toThrow();
    });
  }
});

describe("refused by us, because kubectl would lose it", () => {
  for (const [name, [text, message]] of Object.entries(LOST)) {
    test(name, async () => {
      expect((await kubectl(text)).error).toBe("");
      await expect(ours(text)).rejects.toThrow(message);
    });
  }
});
