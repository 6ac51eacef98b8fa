/** Checks every source file of src/ and lab/ against the layer tables, the forbidden imports and the forbidden globals of ARCHITECTURE.md. */
import { expect, test } from "bun:test";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";

const ROOT = resolve(import.meta.dir, "../..");

/** `calc/graph.ts` in src/, `lab/apiserver/server.ts` in lab/, `../package.json` in neither. */
function nameOf(path: string): string {
  const name = relative(ROOT, path);
  if (name.startsWith("lab/")) return name;
  return name.startsWith("src/") ? name.slice("src/".length) : `../${name}`;
}

function sources(directory: string): string[] {
  return readdirSync(directory).flatMap((name) => {
    const path = join(directory, name);
    if (statSync(path).isDirectory()) return sources(path);
    return path.endsWith(".ts") && !path.endsWith(".test.ts") ? [path] : [];
  });
}

const FILES = ["src", "lab"]
  .flatMap((tree) => sources(join(ROOT, tree)))
  .map((path) => ({ path, name: nameOf(path), text: readFileSync(path, "utf8") }));

/** The tables of ARCHITECTURE.md: lines such as ` 3  semantics  program  datastore`, and ` lab 1  cluster  apiserver` for the lab. */
function readTables(): Map<string, number> {
  const text = readFileSync(join(ROOT, "ARCHITECTURE.md"), "utf8");
  const table = new Map<string, number>();
  for (const [, tree, line, folders] of text.matchAll(/^ (lab )?([0-8]) {2}([a-z][a-z -]*)$/gm)) {
    for (const folder of (folders ?? "").trim().split(/\s+/))
      table.set(tree === undefined ? folder : `lab/${folder}`, Number(line));
  }
  return table;
}

const TABLE = readTables();

function isLab(name: string): boolean {
  return name.startsWith("lab/");
}

/** `calc` of `calc/graph.ts`, `lab/pki` of `lab/pki/kubeconfig.ts`; a file directly in src/ is `main`, one in lab/ `lab/main`. */
function folderOf(name: string): string {
  if (isLab(name)) return `lab/${folderOf(name.slice("lab/".length))}`;
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
    const target = to.startsWith(".") ? nameOf(resolve(dirname(path), to)) : undefined;
    return { from: name, to, target };
  }),
);

test("the tables name every folder of src and lab", () => {
  const folders = new Set(FILES.map((file) => folderOf(file.name)));
  expect([...folders].filter((folder) => !TABLE.has(folder))).toEqual([]);
  expect(TABLE.size).toBeGreaterThan(15);
});

test("a file imports from its own folder or from a lower line", () => {
  const wrong = IMPORTS.filter(({ from, target }) => {
    if (target === undefined || target.startsWith("..") || isLab(target) !== isLab(from)) return false;
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
    because: "two independent definitions of meaning, or agreement proves nothing",
  },
  {
    from: /^(program|calc)\//,
    to: /^semantics\//,
    because: "two independent definitions of meaning, or agreement proves nothing",
  },
  {
    from: /^semantics\//,
    to: /^model\/(selector\/(parse|evaluate|canonical)|convert\/)/,
    because: "the definition reads the resources itself",
  },
  { from: /^dataplane\//, to: /^(datastore|calc)\//, because: "if a driver needs it, it belongs in the program" },
  {
    from: /^kernel\//,
    to: /^(model|program|dataplane|calc|datastore)\//,
    because: "reusable; testable without a cluster",
  },
  { from: /^(?!lab\/)/, to: /^lab\//, because: "a node's executable contains nothing of the lab" },
];

for (const { from, to, because } of FORBIDDEN) {
  test(`${from.source} may not import ${to.source}: ${because}`, () => {
    const wrong = IMPORTS.filter(
      (entry) => from.test(entry.from) && entry.target !== undefined && to.test(entry.target),
    );
    expect(wrong.map((entry) => `${entry.from} imports ${entry.to}`)).toEqual([]);
  });
}

/** All that lab/ may import from src/. The rest of the product it uses as users do: as shipped executables. */
const LAB_IMPORTS: readonly Pair[] = [
  { from: /^lab\//, to: /^lib\//, because: "results, timestamps, command lines, the version" },
  { from: /^lab\//, to: /^net\//, because: "addresses and prefixes" },
  { from: /^lab\//, to: /^model\//, because: "the API serves the kinds that the product reads: one schema for both" },
  { from: /^lab\//, to: /^host\//, because: "system calls, the real host, ending the process on a bug" },
  {
    from: /^lab\/cluster\//,
    to: /^datastore\//,
    because: "kubelets and scheduler watch the API with the product's client",
  },
];

test("lab/ imports from src/ only what is listed", () => {
  const wrong = IMPORTS.filter(
    ({ from, target }) =>
      isLab(from) &&
      target !== undefined &&
      !isLab(target) &&
      !LAB_IMPORTS.some((pair) => pair.from.test(from) && pair.to.test(target)),
  );
  expect(wrong.map(({ from, to }) => `${from} imports ${to}`)).toEqual([]);
});

/** The edges may use the platform directly, except for bun:ffi. */
const EDGE = /^(lab|cli)\//;

test("only host/bun and the edges import bun: and node: modules; only host/bun imports bun:ffi", () => {
  const wrong = IMPORTS.filter(({ from, to }) => {
    if (from.startsWith("host/bun/")) return false;
    if (to === "bun:ffi") return true;
    return /^(bun|node):/.test(to) && !EDGE.test(from);
  });
  expect(wrong.map(({ from, to }) => `${from} imports ${to}`)).toEqual([]);
});

test("time, random numbers, the process and the network are reached only through host/", () => {
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

test("no imports form a circle, not even of types", () => {
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
