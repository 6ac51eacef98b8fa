/** plugin: the few doors that a CNI plugin needs, opened fast: standard input, standard output, unix sockets. */
import type { Sockets } from "../sockets.ts";
import { openUnixSockets } from "./unix-sockets.ts";

export interface PluginHost {
  readonly sockets: Pick<Sockets, "connect">;
  /** All of standard input, as text. */
  readStdin(): Promise<string>;
  writeStdout(text: string): void;
}

export function openPluginHost(): PluginHost {
  return {
    sockets: openUnixSockets(),
    readStdin: () => Bun.stdin.text(),
    writeStdout: (text) => {
      process.stdout.write(text);
    },
  };
}
