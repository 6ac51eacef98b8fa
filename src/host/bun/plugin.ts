/** plugin: the few interfaces that a CNI plugin needs, fast to open: standard input, standard output, unix sockets. */
import type { Sockets } from "../sockets.ts";
import { connect } from "./unix-connect.ts";

export interface PluginHost {
  readonly sockets: Pick<Sockets, "connect">;
  /** All of standard input, as text. */
  readStdin(): Promise<string>;
  /** Writes the text and a newline. */
  writeStdout(text: string): void;
}

export function openPluginHost(): PluginHost {
  return {
    sockets: { connect },
    readStdin: () => Bun.stdin.text(),
    // Not process.stdout: creating its stream costs more than the rest of the plugin's start.
    writeStdout: (text) => console.log(text),
  };
}
