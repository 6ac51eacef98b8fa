/**
 * Shapes: what many pods have in common, their labels and named ports, each shape made once: the pods of a Deployment are all of one, and
 * lists bring them one after the other. Only the latest are remembered.
 */
import type { ParseError, Result } from "../../lib/result.ts";
import type { EndpointRow } from "../endpoint.ts";

export type Shape = Pick<EndpointRow, "labels" | "ports">;

/** Shapes of one generation; the one before is remembered too. */
const GENERATION = 1_024;

export class Shapes {
  #recent = new Map<string, Result<Shape, ParseError>>();
  #before = new Map<string, Result<Shape, ParseError>>();

  /** The shape of that text, which says all that `make` depends on. A failure is not remembered. */
  of(text: string, make: () => Result<Shape, ParseError>): Result<Shape, ParseError> {
    const recent = this.#recent.get(text);
    if (recent !== undefined) return recent;
    const shape = this.#before.get(text) ?? make();
    if (!shape.ok) return shape;
    if (this.#recent.size >= GENERATION) {
      this.#before = this.#recent;
      this.#recent = new Map();
    }
    this.#recent.set(text, shape);
    return shape;
  }
}

/** Remembers nothing. */
export const NO_SHAPES: Pick<Shapes, "of"> = { of: (_, make) => make() };
