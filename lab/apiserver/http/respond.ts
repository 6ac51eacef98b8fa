/** Respond: API objects as HTTP responses, in the form that was negotiated. */
import { dump } from "js-yaml";
import type { JsonValue } from "../../../src/model/schema/json.ts";
import { type ApiError, statusOf } from "../errors.ts";

/** An answer before it is encoded: JSON text that exists already, or a value. */
export interface Answer {
  readonly status: number;
  readonly body: JsonValue | { readonly jsonText: string };
  readonly warnings?: readonly string[];
  readonly headers?: Readonly<Record<string, string>>;
}

export function textOf(body: Answer["body"]): string {
  return typeof body === "object" && body !== null && "jsonText" in body && typeof body.jsonText === "string"
    ? body.jsonText
    : JSON.stringify(body);
}

export function respond(answer: Answer, media: "application/json" | "application/yaml"): Response {
  const headers = new Headers({ "Content-Type": media, "Cache-Control": "no-cache, private", ...answer.headers });
  for (const warning of answer.warnings ?? []) headers.append("Warning", `299 - ${JSON.stringify(warning)}`);
  const text = textOf(answer.body);
  return new Response(
    media === "application/yaml" ? dump(JSON.parse(text), { sortKeys: true, lineWidth: -1 }) : goLine(text),
    { status: answer.status, headers },
  );
}

/** A refusal. */
export function respondError(error: ApiError): Response {
  const headers: Record<string, string> = { "Content-Type": "application/json", "Cache-Control": "no-cache, private" };
  if (error.details?.retryAfterSeconds !== undefined) headers["Retry-After"] = String(error.details.retryAfterSeconds);
  return new Response(goLine(JSON.stringify(statusOf(error))), { status: error.code, headers });
}

/** JSON text as Go's encoder writes it: `<`, `>`, `&` and two separators as escapes, and a newline at its end. */
export function goLine(json: string): string {
  return `${json.replace(/[<>&\u2028\u2029]/g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`)}\n`;
}

export function respondText(status: number, text: string): Response {
  return new Response(text, {
    status,
    headers: {
      "Content-Type": "text/plain; charset=utf-8",
      "Cache-Control": "no-cache, private",
      "X-Content-Type-Options": "nosniff",
    },
  });
}
