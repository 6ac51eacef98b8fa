/**
 * SimDisk: the files of a simulated machine, which outlive its processes; and what a disk may do: be full, take nothing, lose what was not synced.
 *
 * As the real Files does, a file is replaced by a temporary file beside it and a rename, two operations between which a process may end.
 */
import { parentOf } from "../../lib/path.ts";
import { FileError, type Files } from "../files.ts";
import type { SimProcess } from "./process.ts";

interface File {
  readonly text: string;
  readonly mode: number;
  /** Whether a crash of the machine leaves it as it is. */
  readonly synced: boolean;
}

export class SimDisk {
  readonly #files = new Map<string, File>();
  readonly #directories = new Set<string>(["/"]);
  /** What the disk takes: all, no new content (ENOSPC), or no change at all (EROFS). */
  takes: "everything" | "nothing new" | "nothing" = "everything";
  #temporaries = 0;

  /** The machine loses power. What was not synced is old or new; below `volatile` nothing stays. */
  crash(volatile: string, survives: () => boolean): void {
    for (const [path, { synced }] of this.#files)
      if (path.startsWith(`${volatile}/`) || (!synced && !survives())) this.#files.delete(path);
    for (const path of this.#directories) if (path.startsWith(`${volatile}/`)) this.#directories.delete(path);
  }

  read(path: string): string | undefined {
    return this.#files.get(path)?.text;
  }

  /** Paths of files below a directory. */
  below(directory: string): string[] {
    return [...this.#files.keys()].filter((path) => path.startsWith(`${directory}/`)).sort();
  }

  /** As the process sees it. */
  open(owner: SimProcess): Files {
    const check = (operation: string, path: string, isNew: boolean): void => {
      if (this.takes === "nothing") throw new FileError(operation, path, "EROFS");
      if (isNew && this.takes === "nothing new") throw new FileError(operation, path, "ENOSPC");
    };
    const replace = async (path: string, text: string, mode: number, synced: boolean): Promise<void> => {
      const temporary = `${path}.${++this.#temporaries}.tmp`;
      await owner.run(`file write ${path}`, () => {
        check("write", path, true);
        if (!this.#directories.has(parentOf(path))) throw new FileError("write", path, "ENOENT");
        this.#files.set(temporary, { text, mode, synced });
      });
      await owner.run(`file rename ${path}`, () => {
        this.#files.delete(temporary);
        this.#files.set(path, { text, mode, synced });
      });
    };
    return {
      readText: (path) => owner.run(`file read ${path}`, () => this.#files.get(path)?.text),
      writeText: (path, text, mode = 0o644) => replace(path, text, mode, true),
      writeVolatile: (path, text, mode) => replace(path, text, mode, false),
      rename: (path, to) =>
        owner.run(`file rename ${path}`, () => {
          check("rename", path, false);
          const file = this.#files.get(path);
          if (file === undefined) throw new FileError("rename", path, "ENOENT");
          this.#files.delete(path);
          this.#files.set(to, file);
        }),
      list: (path) =>
        owner.run(`file list ${path}`, () => {
          const names = this.below(path).map((file) => file.slice(path.length + 1));
          return names.filter((name) => !name.includes("/"));
        }),
      remove: (path) =>
        owner.run(`file remove ${path}`, () => {
          if (!this.#files.has(path)) return;
          check("remove", path, false);
          this.#files.delete(path);
        }),
      makeDirectory: (path) =>
        owner.run(`directory make ${path}`, () => {
          if (this.#directories.has(path)) return;
          check("make directory", path, true);
          for (let at = path; at !== ""; at = parentOf(at)) this.#directories.add(at);
        }),
      exists: (path) => owner.run(`file look ${path}`, () => this.#files.has(path) || this.#directories.has(path)),
      copy: async (from, to, mode) => {
        const text = await owner.run(`file read ${from}`, () => this.#files.get(from)?.text);
        if (text === undefined) throw new FileError("copy", from, "ENOENT");
        await replace(to, text, mode, true);
      },
    };
  }
}
