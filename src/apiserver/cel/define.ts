/** Define: the one way in which functions come into an environment of CEL: synchronous, their types checked by the library. */
import type { Environment } from "@marcbachmann/cel-js";

export type Define = (signature: string, handler: (...args: never[]) => unknown) => void;

/** Registers functions such as `string.find(string): string`; a receiver is the handler's first argument. */
export function definer(environment: Environment): Define {
  return (signature, handler) => {
    environment.registerFunction(signature, handler as (...args: unknown[]) => unknown, { async: false });
  };
}
