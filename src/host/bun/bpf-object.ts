/** bpf-object: the programs of the eBPF path, which are part of the executable. */
import { readFileSync } from "node:fs";
import path from "../../../bpf/path.o" with { type: "file" };

let read: Uint8Array | undefined;

/** bpf/path.o; read once. */
export function readBpfObject(): Uint8Array {
  return (read ??= new Uint8Array(readFileSync(path)));
}
