/**
 * The real Files. Whole files are replaced by a temporary file beside them, fsync, rename, and an fsync of the directory. Volatile ones are
 * written without fsync and by the thread itself: into memory, while handing the work to another thread and back takes longer.
 */
import { closeSync, fchmodSync, openSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { copyFile, type FileHandle, mkdir, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { FileError, type Files } from "../files.ts";

export function openFiles(): Files {
  return {
    readText: (path) => absentAs(undefined, "read", path, () => readFile(path, "utf8")),
    writeText: (path, text, mode = 0o644) =>
      attempt("write", path, () => replace(path, (temporary) => writeNew(temporary, text, mode), mode)),
    writeVolatile: (path, text, mode) => attempt("write", path, async () => replaceVolatile(path, text, mode)),
    rename: (path, to) => attempt("rename", path, () => rename(path, to)),
    list: (path) => absentAs([], "list", path, async () => (await readdir(path)).sort()),
    remove: (path) => absentAs(undefined, "remove", path, () => rm(path)),
    makeDirectory: (path) => attempt("make directory", path, async () => void (await mkdir(path, { recursive: true }))),
    exists: (path) => absentAs(false, "look at", path, async () => (await stat(path), true)),
    copy: (from, to, mode) =>
      attempt(`copy ${JSON.stringify(from)} to`, to, () => replace(to, (temporary) => copyNew(from, temporary), mode)),
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

function temporaryOf(path: string): string {
  temporaries++;
  return `${path}.${process.pid}-${temporaries}.tmp`;
}

function replaceVolatile(path: string, text: string, mode: number): void {
  const temporary = temporaryOf(path);
  try {
    const file = openSync(temporary, "w", mode);
    try {
      fchmodSync(file, mode);
      writeFileSync(file, text);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

async function replace(path: string, make: (temporary: string) => Promise<FileHandle>, mode: number): Promise<void> {
  const temporary = temporaryOf(path);
  try {
    const file = await make(temporary);
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

async function writeNew(path: string, text: string, mode: number): Promise<FileHandle> {
  const file = await open(path, "w", mode);
  try {
    await file.writeFile(text);
  } catch (error) {
    await file.close();
    throw error;
  }
  return file;
}

async function copyNew(from: string, to: string): Promise<FileHandle> {
  await copyFile(from, to);
  return open(to, "r+");
}
