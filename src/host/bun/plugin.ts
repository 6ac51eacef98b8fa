/** plugin: the few doors that a CNI plugin needs, opened fast: standard input, standard output, unix sockets. */
import type { Sockets } from "../sockets.ts";
import { connect } from "./unix-connect.ts";

export interface PluginHost {
  readonly sockets: Pick<Sockets, "connect">;
  /** All of standard input, as text. */
  readStdin(): Promise<string>;
  /** With a line end after it. */
  writeStdout(text: string): void;
}

export function openPluginHost(): PluginHost {
  return {
    sockets: { connect },
    readStdin: () => Bun.stdin.text(),
    // Not process.stdout: making its stream costs more than all the rest of the plugin's start.
    writeStdout: (text) => console.log(text),
  };
}
