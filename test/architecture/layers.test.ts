/** The layer table, the forbidden pairs and the forbidden globals of ARCHITECTURE.md, held against every source file. */
import { expect, test } from "bun:test";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";

const SRC = resolve(import.meta.dir, "../../src");

function sources(directory: string): string[] {
  return readdirSync(directory).flatMap((name) => {
    const path = join(directory, name);
    if (statSync(path).isDirectory()) return sources(path);
    return path.endsWith(".ts") && !path.endsWith(".test.ts") ? [path] : [];
  });
}

const FILES = sources(SRC).map((path) => ({ path, name: relative(SRC, path), text: readFileSync(path, "utf8") }));

/** The table of ARCHITECTURE.md, "Direction of dependence": lines such as ` 3  semantics  program  datastore`. */
function readTable(): Map<string, number> {
  const text = readFileSync(resolve(SRC, "../ARCHITECTURE.md"), "utf8");
  const table = new Map<string, number>();
  for (const [, line, folders] of text.matchAll(/^ ([0-8]) {2}([a-z][a-z -]*)$/gm)) {
    for (const folder of (folders ?? "").trim().split(/\s+/)) table.set(folder, Number(line));
  }
  return table;
}

const TABLE = readTable();

/** `calc` of `calc/graph.ts`; a file directly in src/ is `main`. */
function folderOf(name: string): string {
  return name.includes("/") ? name.slice(0, name.indexOf("/")) : "main";
}

interface Import {
  readonly from: string;
  readonly to: string;
  readonly target: string | undefined;
}

const IMPORTS: Import[] = FILES.flatMap(({ path, name, text }) =>
  [
    ...text.matchAll(
      /(?:^|\n)\s*(?:import|export)\b[^"';]*?from\s*"([^"]+)"|import\(\s*"([^"]+)"\s*\)|(?:^|\n)import\s+"([^"]+)"/g,
    ),
  ].map((match) => {
    const to = match[1] ?? match[2] ?? match[3] ?? "";
    return { from: name, to, target: to.startsWith(".") ? relative(SRC, resolve(dirname(path), to)) : undefined };
  }),
);

test("the table names every folder of src", () => {
  const folders = new Set(FILES.map((file) => folderOf(file.name)));
  expect([...folders].filter((folder) => !TABLE.has(folder))).toEqual([]);
  expect(TABLE.size).toBeGreaterThan(15);
});

test("a file imports from its own folder or from a lower line", () => {
  const wrong = IMPORTS.filter(({ from, target }) => {
    if (target === undefined || target.startsWith("..")) return false;
    const mine = folderOf(from);
    const theirs = folderOf(target);
    return mine !== theirs && (TABLE.get(theirs) ?? 99) >= (TABLE.get(mine) ?? -1);
  });
  expect(wrong.map(({ from, to }) => `${from} imports ${to}`)).toEqual([]);
});

interface Pair {
  readonly from: RegExp;
  readonly to: RegExp;
  readonly because: string;
}

const FORBIDDEN: readonly Pair[] = [
  {
    from: /^(calc|program|semantics|model|net)\/|^bird\/(configuration|input)/,
    to: /^host\//,
    because: "they are pure: no promises, no time",
  },
  {
    from: /^semantics\//,
    to: /^(program|calc)\//,
    because: "two independent statements of meaning, or agreement proves nothing",
  },
  {
    from: /^(program|calc)\//,
    to: /^semantics\//,
    because: "two independent statements of meaning, or agreement proves nothing",
  },
  {
    from: /^semantics\//,
    to: /^model\/(selector\/(parse|evaluate|canonical)|kubernetes\/(network-policy|pod)\.ts)/,
    because: "the definition reads the resources itself",
  },
  { from: /^dataplane\//, to: /^(datastore|calc)\//, because: "if a driver needs it, it belongs in the program" },
  {
    from: /^kernel\//,
    to: /^(model|program|dataplane|calc|datastore)\//,
    because: "reusable; testable without a cluster",
  },
  { from: /^felix\//, to: /^(lab|apiserver)\//, because: "nothing in the product knows that a lab exists" },
  { from: /^apiserver\//, to: /^felix\//, because: "the embedded API is not part of the product" },
  {
    from: /^lab\//,
    to: /^(felix|cni|apiserver|calc|dataplane|podnet|ipam|bird)\//,
    because: "the lab runs the shipped executables",
  },
];

for (const { from, to, because } of FORBIDDEN) {
  test(`${from.source} may not import ${to.source}: ${because}`, () => {
    const wrong = IMPORTS.filter(
      (entry) => from.test(entry.from) && entry.target !== undefined && to.test(entry.target),
    );
    expect(wrong.map((entry) => `${entry.from} imports ${entry.to}`)).toEqual([]);
  });
}

/** The edges may use the platform directly, except bun:ffi. */
const EDGE = /^(apiserver|lab|cli|pki)\//;

test("bun: and node: modules are imported by host/bun and the edges alone; bun:ffi by host/bun alone", () => {
  const wrong = IMPORTS.filter(({ from, to }) => {
    if (from.startsWith("host/bun/")) return false;
    if (to === "bun:ffi") return true;
    return /^(bun|node):/.test(to) && !EDGE.test(from);
  });
  expect(wrong.map(({ from, to }) => `${from} imports ${to}`)).toEqual([]);
});

test("time, chance, the process and the network are reached through host/ alone", () => {
  const globals =
    /(?<![.\w"'`/-])(?:Date\.|new Date\b|Math\.random|setTimeout\(|setInterval\(|performance\.|process\.|fetch\(|Bun\.)/;
  const wrong = FILES.filter(({ name }) => !name.startsWith("host/") && !EDGE.test(name) && name !== "main.ts").flatMap(
    ({ name, text }) =>
      text
        .split("\n")
        .map((line, i) => ({ line, at: `${name}:${i + 1}` }))
        .filter(({ line }) => globals.test(line.replace(/\/\/.*$|^\s*\*.*$|^\s*\/\*\*.*$/, "")))
        .map(({ at, line }) => `${at}: ${line.trim()}`),
  );
  expect(wrong).toEqual([]);
});

test("every file opens with its charter", () => {
  const wrong = FILES.filter(({ text }) => !/^\/\*\*[\s\S]{20,}?\*\//.test(text));
  expect(wrong.map(({ name }) => name)).toEqual([]);
});

test("nothing imports in a circle inside a folder", () => {
  const edges = new Map<string, string[]>();
  for (const { from, target } of IMPORTS)
    if (target !== undefined) edges.set(from, [...(edges.get(from) ?? []), target]);
  const done = new Set<string>();
  const circles: string[] = [];
  const visit = (name: string, path: readonly string[]): void => {
    if (path.includes(name)) circles.push([...path.slice(path.indexOf(name)), name].join(" → "));
    if (done.has(name) || path.includes(name)) return;
    for (const next of edges.get(name) ?? []) visit(next, [...path, name]);
    done.add(name);
  };
  const typeOnly = (from: string, to: string): boolean => {
    const text = FILES.find((file) => file.name === from)?.text ?? "";
    const statement = [...text.matchAll(/import\b[^;]*?from\s*"([^"]+)"/g)].find(
      (match) => relative(SRC, resolve(SRC, dirname(from), match[1] ?? "")) === to,
    )?.[0];
    return statement?.startsWith("import type") ?? false;
  };
  for (const [from, targets] of edges)
    edges.set(
      from,
      targets.filter((to) => !typeOnly(from, to)),
    );
  for (const name of edges.keys()) visit(name, []);
  expect(circles).toEqual([]);
});

test("the CNI plugin's closure stays small: a container runtime starts it for every pod", () => {
  const seen = new Set<string>();
  const visit = (name: string): void => {
    if (seen.has(name)) return;
    seen.add(name);
    for (const { from, target } of IMPORTS) if (from === name && target !== undefined) visit(target);
  };
  visit("cni/process.ts");
  const allowed = /^(cni\/(process|plugin|execution|versions)|podnet\/protocol|host\/|lib\/)/;
  expect([...seen].filter((name) => !allowed.test(name))).toEqual([]);
  const packages = IMPORTS.filter(
    ({ from, target, to }) => seen.has(from) && target === undefined && !/^(node:|bun)/.test(to),
  );
  expect(packages.map(({ from, to }) => `${from} imports ${to}`)).toEqual([]);
});
