/** executable: the lab runs the shipped executable, the one it is part of. */
export function executable(): string {
  return process.execPath;
}
