/** Files: the file system, as little of it as the product needs. Rejections are `FileError` with the path and errno name. */
export interface Files {
  /** undefined when the file does not exist. */
  readText(path: string): Promise<string | undefined>;
  /** Replaces the file in one step (temporary file, fsync, rename), so that a crash leaves the old or the new content. */
  writeText(path: string, text: string, mode?: number): Promise<void>;
  /** As `writeText`, without fsync: a crash of the process leaves the old or the new content, one of the machine may leave anything. */
  writeVolatile(path: string, text: string, mode: number): Promise<void>;
  /** Gives the file another name in its directory, in one step, in place of whatever has that name: needs no space for content. */
  rename(path: string, to: string): Promise<void>;
  /** Names in the directory, sorted; empty when it does not exist. */
  list(path: string): Promise<readonly string[]>;
  /** Succeeds when the file is already gone. */
  remove(path: string): Promise<void>;
  /** With parents; succeeds when it exists. */
  makeDirectory(path: string): Promise<void>;
  exists(path: string): Promise<boolean>;
  /** Copies with mode, replacing in one step. */
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
