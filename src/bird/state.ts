/** State: BIRD's answers on its control socket as data. Pure. Source: BIRD's doc/reply_codes and nest/proto.c. */
import { fail, ok, type ParseError, type Result } from "../lib/result.ts";

/** One line of an answer: its four digit code and the text after it. */
export interface BirdLine {
  readonly code: number;
  readonly text: string;
}

export interface BirdStatus {
  /** `2.0.12`. */
  readonly version: string;
  readonly routerId: string;
  /** `Daemon is up and running`, or another state (`Reconfiguration in progress`, `Graceful restart recovery in progress`). */
  readonly lines: readonly string[];
}

/** One protocol instance; for BGP, `info` begins with the state of the session (`Established`, `Active`, `Connect`, …). */
export interface BirdProtocol {
  readonly name: string;
  readonly type: string;
  /** `---` for a protocol with several tables. */
  readonly table: string;
  readonly state: string;
  readonly since: string;
  readonly info: string;
}

/** Reads the lines of `show status`. */
export function parseStatus(lines: readonly BirdLine[]): Result<BirdStatus, ParseError> {
  const version = lines.find((line) => line.code === 1000)?.text.replace(/^BIRD\s+/, "");
  const router = lines.find((line) => line.code === 1011 && line.text.startsWith("Router ID is "));
  if (version === undefined || router === undefined)
    return fail({
      what: "answer of BIRD to show status",
      found: textOf(lines),
      wanted: "must name version and router id",
    });
  return ok({
    version,
    routerId: router.text.slice("Router ID is ".length),
    lines: lines.filter((line) => line.code !== 1000).map((line) => line.text),
  });
}

/** Name, type, table, state, since (a date and a time, or one word), info. */
const PROTOCOL = /^(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s+(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?|\S+)\s*(.*)$/;

/** Reads the lines of `show protocols`, in BIRD's order. */
export function parseProtocols(lines: readonly BirdLine[]): Result<BirdProtocol[], ParseError> {
  const protocols: BirdProtocol[] = [];
  for (const { code, text } of lines) {
    if (code !== 1002) continue;
    const protocol = parseProtocolLine(text);
    if (protocol === undefined)
      return fail({
        what: "protocol line of BIRD",
        found: text,
        wanted: "must be name, type, table, state, since, info",
      });
    protocols.push(protocol);
  }
  return ok(protocols);
}

/** One row of the table; undefined for any other line. */
export function parseProtocolLine(text: string): BirdProtocol | undefined {
  const [, name, type, table, state, since, info] = PROTOCOL.exec(text) ?? [];
  if (name === undefined || type === undefined || table === undefined || state === undefined || since === undefined)
    return undefined;
  return { name, type, table, state, since, info: (info ?? "").trim() };
}

function textOf(lines: readonly BirdLine[]): string {
  return lines.map((line) => line.text).join("\n");
}
