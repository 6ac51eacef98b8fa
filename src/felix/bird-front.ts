/**
 * bird-front: serves BIRD's control socket at the path and in the form that upstream's tools know; see bird/classic.ts.
 *
 * Each connection is passed through to BIRD's own socket; when BIRD is away it is closed at once.
 */
import { ClassicAnswers } from "../bird/classic.ts";
import { type Connection, type Listener, SocketError, type Sockets } from "../host/sockets.ts";
import type { NodePaths } from "./paths.ts";

export function serveBirdFront(sockets: Sockets, paths: NodePaths): Promise<Listener> {
  return sockets.listen(paths.birdFront, 0o600, async (client) => {
    try {
      const bird = await sockets.connect(paths.birdSocket);
      const answers = new ClassicAnswers();
      const commands = pass(client, bird, (line) => {
        answers.command(line);
        return line;
      });
      await Promise.all([commands, pass(bird, client, (line) => answers.answer(line))]);
    } catch (error) {
      if (!(error instanceof SocketError)) throw error;
      client.end();
    }
  });
}

/** Line by line, to the end of the input. */
async function pass(from: Connection, to: Connection, translate: (line: string) => string): Promise<void> {
  const decoder = new TextDecoder();
  const encoder = new TextEncoder();
  let rest = "";
  for await (const chunk of from.input) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) await to.write(encoder.encode(`${translate(line)}\n`));
  }
  to.end();
}
