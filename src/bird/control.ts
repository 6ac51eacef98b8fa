/**
 * Control: commands to BIRD on its control socket.
 *
 * One connection per command, bounded in time. The lines of an answer begin with a four-digit code: `CODE-text` is continued,
 * `CODE text` is the last; a line that begins with a space has the code of the line before. Codes from 8000 are errors.
 * Source: BIRD's doc/reply_codes and nest/cli.c.
 */
import type { Clock } from "../host/clock.ts";
import { type Connection, SocketError, type Sockets } from "../host/sockets.ts";

/** One line of an answer: its four digit code and the text after it. */
export interface BirdLine {
  readonly code: number;
  readonly text: string;
}

export interface BirdDependencies {
  readonly sockets: Sockets;
  readonly clock: Clock;
}

/** BIRD refused the command, does not answer, or is not running. */
export class BirdError extends Error {
  override readonly name = "BirdError";
  /** BIRD's reply code; undefined when there was no answer. */
  readonly code: number | undefined;
  constructor(command: string, path: string, cause: string, code?: number) {
    super(`Cannot run ${JSON.stringify(command)} on the BIRD at ${path}: ${cause}`);
    this.code = code;
  }
}

const COMMAND_TIMEOUT_MS = 5_000;
const FIRST_ERROR = 8000;

/** Makes BIRD reload its configuration file. Rejects with BIRD's error when the file is invalid; BIRD then keeps the old configuration. */
export async function configureBird(path: string, dependencies: BirdDependencies): Promise<void> {
  await askBird(path, "configure", dependencies);
}

/** Returns the lines of the answer. Rejects with BirdError for an error code, when BIRD is not listening, or after 5 s. */
export async function askBird(
  path: string,
  command: string,
  dependencies: BirdDependencies,
): Promise<readonly BirdLine[]> {
  try {
    return await askOnce(path, command, dependencies);
  } catch (error) {
    if (error instanceof SocketError) throw new BirdError(command, path, error.message);
    throw error;
  }
}

/** As `askBird`, but a failed connection rejects with SocketError. */
async function askOnce(path: string, command: string, dependencies: BirdDependencies): Promise<readonly BirdLine[]> {
  const connection = await dependencies.sockets.connect(path);
  const timer = new AbortController();
  const expired = dependencies.clock.sleep(COMMAND_TIMEOUT_MS, timer.signal).then(() => "expired" as const);
  try {
    const answer = await Promise.race([converse(connection, command), expired]);
    if (answer === "expired") throw new BirdError(command, path, `no answer within ${COMMAND_TIMEOUT_MS} ms`);
    const last = answer.at(-1);
    if (last === undefined) throw new BirdError(command, path, "it closed the connection without an answer");
    const wrong = answer.filter((line) => line.code >= FIRST_ERROR);
    if (wrong.length > 0) throw new BirdError(command, path, wrong.map((line) => line.text).join("; "), last.code);
    return answer;
  } finally {
    timer.abort();
    connection.end();
  }
}

/** Waits for the greeting, sends the command, returns the lines of the answer (none if BIRD closed the connection first). */
async function converse(connection: Connection, command: string): Promise<BirdLine[]> {
  const reader = new AnswerReader();
  let greeted = false;
  for await (const chunk of connection.input) {
    for (const answer of reader.push(chunk)) {
      if (greeted) return answer;
      greeted = true;
      await connection.write(new TextEncoder().encode(`${command}\n`));
    }
  }
  return [];
}

/** Splits BIRD's output into whole answers. */
export class AnswerReader {
  readonly #decoder = new TextDecoder();
  #rest = "";
  #lines: BirdLine[] = [];

  push(chunk: Uint8Array): BirdLine[][] {
    this.#rest += this.#decoder.decode(chunk, { stream: true });
    const answers: BirdLine[][] = [];
    for (let end = this.#rest.indexOf("\n"); end >= 0; end = this.#rest.indexOf("\n")) {
      const line = this.#rest.slice(0, end);
      this.#rest = this.#rest.slice(end + 1);
      const [, digits, mark, text] = /^(\d{4})([ -])(.*)$/.exec(line) ?? [];
      const code = digits === undefined ? this.#lines.at(-1)?.code : Number(digits);
      if (code !== undefined) this.#lines.push({ code, text: text ?? line.slice(1) });
      if (mark !== " ") continue;
      answers.push(this.#lines);
      this.#lines = [];
    }
    return answers;
  }
}
