/** Files: the part of the file system that the product needs. Rejections are `FileError` with the path and errno name. */
export interface Files {
  /** undefined when the file does not exist. */
  readText(path: string): Promise<string | undefined>;
  /** Replaces the file atomically (temporary file, fsync, rename), so that a crash leaves the old or the new content. */
  writeText(path: string, text: string, mode?: number): Promise<void>;
  /** As `writeText`, without fsync: a crash of the process leaves the old or the new content, a crash of the machine may leave anything. */
  writeVolatile(path: string, text: string, mode: number): Promise<void>;
  /** Renames the file within its directory atomically, replacing a file of that name: needs no disk space. */
  rename(path: string, to: string): Promise<void>;
  /** Names in the directory, sorted; empty when it does not exist. */
  list(path: string): Promise<readonly string[]>;
  /** Succeeds when the file is already gone. */
  remove(path: string): Promise<void>;
  /** With parents; succeeds when it exists. */
  makeDirectory(path: string): Promise<void>;
  exists(path: string): Promise<boolean>;
  /** Copies with mode, replacing atomically. */
  copy(from: string, to: string, mode: number): Promise<void>;
}

export class FileError extends Error {
  override readonly name = "FileError";
  readonly path: string;
  /** `EACCES`, `ENOSPC`, … */
  readonly code: string;
  constructor(operation: string, path: string, code: string) {
    super(`Cannot ${operation} ${JSON.stringify(path)}: ${code}`);
    this.path = path;
    this.code = code;
  }
}
