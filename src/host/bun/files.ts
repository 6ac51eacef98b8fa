/** The real Files. Whole files are replaced by a temporary file beside them, fsync, rename, and an fsync of the directory. */
import { copyFile, mkdir, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { FileError, type Files } from "../files.ts";

export function openFiles(): Files {
  return {
    readText: (path) => absentAs(undefined, "read", path, () => readFile(path, "utf8")),
    writeText: (path, text, mode = 0o644) => attempt("write", path, () => replace(path, mode, (temporary) => writeNew(temporary, text, mode))),
    writeInPlace: (path, text) => attempt("write", path, () => writeExisting(path, text)),
    list: (path) => absentAs([], "list", path, async () => (await readdir(path)).sort()),
    remove: (path) => absentAs(undefined, "remove", path, () => rm(path)),
    makeDirectory: (path) => attempt("make directory", path, async () => void (await mkdir(path, { recursive: true }))),
    exists: (path) => absentAs(false, "look at", path, async () => (await stat(path), true)),
    copy: (from, to, mode) => attempt(`copy ${JSON.stringify(from)} to`, to, () => replace(to, mode, (temporary) => copyNew(from, temporary, mode))),
  };
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "EIO";
}

async function attempt<T>(operation: string, path: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw new FileError(operation, path, codeOf(error));
  }
}

/** `absent` when the file does not exist. */
async function absentAs<A, T>(absent: A, operation: string, path: string, run: () => Promise<T>): Promise<A | T> {
  try {
    return await run();
  } catch (error) {
    const code = codeOf(error);
    if (code === "ENOENT") return absent;
    throw new FileError(operation, path, code);
  }
}

let temporaries = 0;

async function replace(path: string, mode: number, make: (temporary: string) => Promise<void>): Promise<void> {
  temporaries++;
  const temporary = `${path}.${process.pid}-${temporaries}.tmp`;
  try {
    await make(temporary);
    const file = await open(temporary, "r+");
    try {
      await file.chmod(mode);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  const directory = await open(dirname(path), "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

async function writeNew(path: string, text: string, mode: number): Promise<void> {
  const file = await open(path, "w", mode);
  try {
    await file.writeFile(text);
  } finally {
    await file.close();
  }
}

async function copyNew(from: string, to: string, mode: number): Promise<void> {
  await copyFile(from, to);
  const file = await open(to, "r+");
  try {
    await file.chmod(mode);
  } finally {
    await file.close();
  }
}

/** One write(2) on the existing file: what /proc and /sys expect. */
async function writeExisting(path: string, text: string): Promise<void> {
  const file = await open(path, "r+");
  try {
    await file.write(text);
  } finally {
    await file.close();
  }
}
