/** path: paths of files as texts. */

/** Of an absolute path: the directory that it lies in; empty for one in the root. */
export function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/"));
}
