/**
 * Sources: which files `-f` means: a file, standard input (`-`), or a folder, of which kubectl reads the .yaml, .yml and .json files, and
 * those of the folders below it with `-R`.
 *
 * A Helm chart or a kustomize source is not a manifest: it is refused, with the command that renders it. Skipped files are reported.
 */
import { readdir, readFile, stat } from "node:fs/promises";
import { basename, join, normalize } from "node:path";
import { InputError, type Warning } from "./inventory.ts";

export interface Source {
  /** As messages name it. */
  readonly name: string;
  readonly bytes: Uint8Array;
  /** Found in a folder, not named by the operator: a file without objects is skipped. */
  readonly fromFolder: boolean;
}

export interface Sources {
  readonly sources: readonly Source[];
  readonly warnings: readonly Warning[];
}

const MANIFEST = /\.(ya?ml|json)$/;

export interface SourceOptions {
  /** The command that reads what another prints, for hints: `calicoctl why -f - …`. */
  readonly reader: string;
  /** Whether a folder may hold no manifest at all. */
  readonly mayBeEmpty: boolean;
}

const OF_WHY: SourceOptions = { reader: "calicoctl why -f - …", mayBeEmpty: false };

/** Rejects with InputError. A file that is named twice is read once. */
export async function readSources(
  paths: readonly string[],
  recursive: boolean,
  stdin: () => Promise<Uint8Array>,
  { reader, mayBeEmpty }: SourceOptions = OF_WHY,
): Promise<Sources> {
  const found: { readonly path: string; readonly fromFolder: boolean }[] = [];
  const warnings: Warning[] = [];
  for (const path of paths) {
    if (/^https?:\/\//.test(path))
      throw new InputError(`Cannot read ${path}: addresses are not fetched; use "curl -sSL ${path} | ${reader}"`);
    if (path !== "-" && (await attempt(() => stat(path), path)).isDirectory()) {
      const files = await filesIn(path, { recursive, isAsked: true, reader }, warnings);
      if (files.length === 0 && !mayBeEmpty)
        throw new InputError(
          `Cannot find a manifest in ${JSON.stringify(path)}: no file ends in .yaml, .yml or .json${recursive ? "" : "; -R reads the folders below it too"}`,
        );
      found.push(...files.map((file) => ({ path: file, fromFolder: true })));
    } else found.push({ path, fromFolder: false });
  }
  const once = new Map(found.map((file) => [file.path === "-" ? "-" : normalize(file.path), file]));
  const sources: Source[] = [];
  for (const { path, fromFolder } of once.values()) {
    const bytes = path === "-" ? await stdin() : new Uint8Array(await attempt(() => readFile(path), path));
    sources.push({ name: path === "-" ? "standard input" : path, bytes, fromFolder });
  }
  return { sources, warnings };
}

interface FolderOptions {
  readonly recursive: boolean;
  /** Named by the operator, not found in another folder. */
  readonly isAsked: boolean;
  readonly reader: string;
}

async function filesIn(
  path: string,
  { recursive, isAsked, reader }: FolderOptions,
  warnings: Warning[],
): Promise<string[]> {
  const entries = (await attempt(() => readdir(path, { withFileTypes: true }), path)).sort((a, b) =>
    a.name < b.name ? -1 : 1,
  );
  const instead = sourceOf(
    path,
    entries.map(({ name }) => name),
    reader,
  );
  if (instead !== undefined) {
    if (isAsked) throw new InputError(`Cannot use ${JSON.stringify(path)}: ${instead}`);
    warnings.push({ text: `${path} is not read: ${instead}`, doubt: "all" });
    return [];
  }
  const files: string[] = [];
  for (const entry of entries) {
    const below = join(path, entry.name);
    const isFolder =
      entry.isDirectory() || (entry.isSymbolicLink() && (await attempt(() => stat(below), below)).isDirectory());
    if (entry.name.startsWith(".")) {
      if (!isFolder && MANIFEST.test(entry.name))
        warnings.push({ text: `${below} is not read: it is hidden; name it with -f if it counts`, doubt: "none" });
    } else if (!isFolder) {
      if (MANIFEST.test(entry.name)) files.push(below);
    } else if (recursive && !entry.isSymbolicLink())
      files.push(...(await filesIn(below, { recursive, isAsked: false, reader }, warnings)));
    else if (await holdsManifests(below))
      warnings.push({ text: `${below} is not read: -R reads the folders below one too`, doubt: "none" });
  }
  return files;
}

async function holdsManifests(path: string): Promise<boolean> {
  const names = await readdir(path).catch(() => []);
  return names.some((name) => MANIFEST.test(name));
}

/** What to run instead, for a folder whose files are not manifests. */
function sourceOf(path: string, names: readonly string[], reader: string): string | undefined {
  if (names.includes("Chart.yaml")) return `it is a Helm chart; use "helm template NAME ${path} | ${reader}"`;
  if (names.some((name) => ["kustomization.yaml", "kustomization.yml", "Kustomization"].includes(name)))
    return `it is a kustomize source; use "kubectl kustomize ${path} | ${reader}", or name its manifests one by one`;
  if (basename(path) === "templates" && names.includes("_helpers.tpl"))
    return `it belongs to a Helm chart; use "helm template NAME ${join(path, "..")} | ${reader}"`;
  return undefined;
}

async function attempt<T>(run: () => Promise<T>, path: string): Promise<T> {
  try {
    return await run();
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : String(error);
    throw new InputError(`Cannot read ${JSON.stringify(path)}: ${REASONS[code] ?? code}`);
  }
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: "it does not exist",
  EACCES: "permission is denied",
  ENOTDIR: "a part of the path is no folder",
  ELOOP: "it links to itself",
  EISDIR: "it is a folder",
};
